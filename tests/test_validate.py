"""The protocol: which rows it may see, where unseen chips start, its rivals, and its report."""

import json
from pathlib import Path

import jax
import numpy as np
import pytest
from command import run as command

from perfmodel.batching import BLOCKS
from perfmodel.calibration import acceptance, run_protocol
from perfmodel.calibration.baselines import forest
from perfmodel.calibration.baselines.forest import has_forest
from perfmodel.calibration.baselines.roofline import counts
from perfmodel.calibration.data.measurements import Measurements, plan_of
from perfmodel.calibration.fit import predict, predict_rows, to_free, with_family
from perfmodel.calibration.metrics import common_ratios, disagreement
from perfmodel.calibration.protocol import (
    CLOSED,
    MEASURED,
    Job,
    Protocol,
    jobs,
    merged_results,
    named_protocol,
    read_result,
    units,
    write_result,
)
from perfmodel.calibration.rescale import clock_of, rescale_to_clock
from perfmodel.calibration.split import FEW_SHOT_ROWS, MAX_TRAINED_SIZE, UNTRAINED, part_of
from perfmodel.calibration.transfer import (
    chip_with_prior,
    initial_parameters,
    pool,
    reference_fits,
)
from perfmodel.calibration.validate import run, start_chips
from perfmodel.errors import InputError
from perfmodel.kernels.kernel_table import Key
from perfmodel.library.fitted import FITTED, from_file, read_fitted, read_prior
from perfmodel.library.fitted_intervals import SIBLING_WIDENING
from perfmodel.workload.plan import Plan

PROTOCOL = Protocol(quick=False, rows=60, reported=200)


def key(chip: str, framework: str = "trtllm", dtype: str = "bf16") -> Key:
    return Key("gemm", chip, framework, dtype)


def made(of: Key, slower: float = 1.0, count: int = 600, seed: int = 0) -> Measurements:
    """Products of many sizes, whose times are a law of two terms with a tenth of noise."""
    draw = np.random.default_rng(seed)
    columns = {name: np.round(2 ** draw.uniform(4, 13, count)) for name in ("m", "n", "k")}
    flops = 2 * np.prod(list(columns.values()), axis=0)
    time = (4e-6 + flops / 400e12) * slower * np.exp(0.1 * draw.standard_normal(count))
    return Measurements(of, columns, time, "made up")


def plan(of: Key) -> Plan:
    return plan_of(of, "hopper")


# Which rows a split may see


@pytest.mark.parametrize(
    "split", ["shape", "size", "chip", "architecture", "vendor", "version", "fewshot"]
)
def test_no_reported_row_trains_or_gives_the_interval(split: str):
    table = made(key("h100-sxm"))
    rows, parts = PROTOCOL.rows_of(split, table), part_of("gemm", table.shape)
    assert set(parts[rows.test]) == {"heldout"}
    assert set(parts[rows.train]) <= {"train"}
    assert set(parts[rows.development]) <= {"development", "train"}


def test_unseen_chips_train_on_no_row_or_on_32():
    table = made(key("l40s"))
    assert not any(len(PROTOCOL.rows_of(split, table).train) for split in UNTRAINED)
    assert len(PROTOCOL.rows_of("fewshot", table).train) == FEW_SHOT_ROWS


def test_the_split_by_size_reports_only_what_is_larger_than_it_saw():
    table = made(key("h100-sxm"))
    rows = PROTOCOL.rows_of("size", table)
    largest = np.maximum(table.columns["n"], table.columns["k"])
    assert largest[rows.train].max() <= MAX_TRAINED_SIZE < largest[rows.test].min()


def test_a_model_is_on_one_side_whatever_its_tokens():
    draw = np.random.default_rng(0)
    sizes = {"hidden": (2048, 4096, 7168), "inter": (768, 2048), "topk": (2, 8), "experts": (8, 64)}
    columns = {name: draw.choice(values, 2000).astype(float) for name, values in sizes.items()}
    columns |= {"tokens": np.arange(2000.0) + 1, "tp": np.ones(2000), "ep": np.ones(2000)}
    columns |= {"routing": np.zeros(2000)}
    of = Key("moe", "h100-sxm", "trtllm", "bf16")
    rows = PROTOCOL.rows_of("model", Measurements(of, columns, np.ones(2000), ""))
    models = np.stack([columns[name] for name in sizes], axis=1)
    seen, asked = ({tuple(one) for one in models[x]} for x in (rows.train, rows.test))
    assert seen and asked and not seen & asked


def test_closed_chips_are_never_fitted_but_to_32_rows():
    for chip in CLOSED:
        assert {job.split for job in jobs([made(key(chip))], PROTOCOL)} == {"chip", "fewshot"}
    assert not set(CLOSED) & set(MEASURED)


def test_measured_chips_are_left_out_once_each():
    found = [job.split for job in jobs([made(key("l40s"))], PROTOCOL)]
    assert found == ["shape", "size", "architecture", "vendor", "fewshot"]


def test_a_vendor_is_predicted_from_chips_of_others():
    intel, nvidia = (sources(name) for name in ("arc-pro-b60", "h100-sxm"))
    assert set(intel) == {
        "a100-sxm-80gb",
        "h100-sxm",
        "l40s",
        "b200-sxm",
        "gb200",
        "mi300x",
        "mi355x",
    }
    assert set(nvidia) == {"arc-pro-b60", "mi300x", "mi355x"}


def sources(chip: str) -> tuple[str, ...]:
    return start_chips(Job("vendor", [made(key(chip))], []), PROTOCOL)


def test_another_release_is_asked_apart_and_never_trains():
    newest, older = made(key("l40s")), made(key("l40s")._replace(release="0.19.0"))
    found = [(job.split, job.name) for job in jobs([newest, older], PROTOCOL)]
    assert found[-1] == ("version", "l40s/gemm/trtllm/bf16/gemm/0.19.0/version")
    assert len(found) == 1 + len([*jobs([newest], PROTOCOL)])


def test_splits_are_chosen_by_name():
    some = named_protocol("full", FITTED, splits=["vendor"])
    assert [job.split for job in jobs([made(key("l40s"))], some)] == ["vendor"]
    with pytest.raises(InputError, match="the quick protocol has the splits shape, chip"):
        named_protocol("quick", FITTED, splits=["vendor"])
    with pytest.raises(InputError, match="split"):
        named_protocol("full", FITTED, splits=["nothing"])


def test_the_quick_protocol_asks_one_framework():
    tables = [made(key("h100-sxm", name)) for name in ("trtllm", "vllm")]
    found = [(job.split, job.group[0].key.framework) for job in jobs(tables, Protocol())]
    assert found == [("shape", "trtllm"), ("framework", "trtllm")]


def test_operations_that_share_parameters_are_read_together():
    found = units(["l40s"], ["gemm", "all_gather", "all_reduce"])
    assert [one.ops for one in found] == [("gemm",), ("all_gather", "all_reduce")]


# Where unseen chips start


def test_a_reference_chip_gives_its_architecture_a_wider_interval():
    found = initial_parameters(key("h200-sxm"), MEASURED, FITTED)
    section = read_fitted(FITTED, "h100-sxm")["gemm"]["trtllm"]["bf16"]
    expected = from_file(type(found.fitted), section)
    assert found.chips == ("h100-sxm",)
    assert float(found.fitted.sustained) == pytest.approx(expected["sustained"], rel=2e-3)
    assert found.low == pytest.approx(section["low"] / SIBLING_WIDENING)
    assert found.high == pytest.approx(section["high"] * SIBLING_WIDENING)


def test_a_chip_that_is_left_out_starts_from_the_others_and_the_prior():
    of = key("l40s")
    found = initial_parameters(of, MEASURED, FITTED)
    tables = {c: read_fitted(FITTED, c)["gemm"] for c in sorted(set(MEASURED) - {"l40s"})}
    expected = pool(of, reference_fits(of, tables), read_prior("launched", FITTED)["gemm"])
    assert set(found.chips) == set(MEASURED) - {"l40s"}
    assert np.asarray(to_free(found.fitted)) == pytest.approx(np.asarray(to_free(expected)))
    assert found.low == read_prior("launched")["gemm"]["low"]


def test_without_the_framework_the_smooth_form_is_pooled():
    found = initial_parameters(key("arc-pro-b60", "nccl"), ["h100-sxm"], FITTED)
    ends = [
        read_fitted(FITTED, "h100-sxm")["gemm"]["smooth"]["bf16"]["sustained"],
        float(chip_with_prior(key("arc-pro-b60"), FITTED).efficiency.gemm.sustained),
    ]
    assert found.chips == ("h100-sxm",)
    assert min(ends) < float(found.fitted.sustained) < max(ends)


def test_without_any_measured_chip_the_prior_is_taken():
    found = initial_parameters(key("l40s"), ["l40s"], FITTED)
    prior = chip_with_prior(key("l40s"), FITTED).efficiency.gemm
    at_its_clock = rescale_to_clock(prior, clock_of("l40s") / np.sqrt(1.83e9 * 1.41e9))
    assert found.chips == ()
    for a, b in zip(jax.tree.leaves(found.fitted), jax.tree.leaves(at_its_clock), strict=True):
        assert float(a) == pytest.approx(float(b), rel=2e-3)


def test_a_bare_chip_carries_nothing_of_its_own_fit():
    ours, theirs = (chip_with_prior(key(chip), FITTED).efficiency for chip in ("h100-sxm", "l40s"))
    assert jax.tree.leaves(ours) == jax.tree.leaves(theirs)


# Rivals


def test_the_roofline_is_that_of_the_hand():
    """H100, 8192 cubed: 1.1e12 FLOPs at 989.4 TFLOP/s are 1,111 us; 403 MB at 3.35 TB/s are 120."""
    of = key("h100-sxm")
    rows = made(of, count=1)._replace(
        columns={name: np.array([8192.0]) for name in ("m", "n", "k")}
    )
    found = counts(chip_with_prior(of, FITTED), plan(of), rows)
    assert found.flops[0] == pytest.approx(2 * 8192**3, rel=0.01)
    assert found.moved[0] == pytest.approx(3 * 8192**2 * 2, rel=0.5)
    assert found.time[0] == pytest.approx(1111e-6, rel=0.01)


def test_blocks_change_no_number():
    of = key("h100-sxm")
    chip, where, rows = chip_with_prior(of, FITTED), plan(of), made(of, count=BLOCKS[-1] + 7)
    found = predict_rows(chip, where, rows)
    last = rows.take(np.arange(BLOCKS[-1] + 2, BLOCKS[-1] + 7))
    alone = predict("gemm", chip, where, last.values)
    assert found.shape == rows.time.shape
    assert found[-5:] == pytest.approx(np.asarray(alone), rel=1e-5)


def test_frameworks_that_differ_by_a_factor_do_not_disagree():
    one = made(key("h100-sxm"))
    twice = one._replace(time=2 * one.time)
    assert disagreement(one, [twice]) == pytest.approx(0.0, abs=1e-12)
    # Half of the rows 20 % slower: the median ratio is 1 or 1.2, and half of the rows lie off it.
    uneven = one._replace(time=one.time * np.where(np.arange(600) < 299, 1.2, 1.0))
    assert disagreement(one, [uneven]) == pytest.approx(0.2 * 299 / 600)
    assert disagreement(one.take(np.arange(5)), [twice]) is None


def test_only_shapes_of_both_are_compared():
    one = made(key("h100-sxm"))
    other = one.take(np.arange(100, 300)[::-1])
    assert common_ratios(one, other) == pytest.approx(np.ones(200))


# The report


@pytest.mark.long
def test_a_split_by_shape_is_reported_beside_its_rivals():
    tables = [made(key("h100-sxm")), made(key("h100-sxm", "vllm"), seed=0)]
    (record,) = run(Job("shape", tables[:1], tables), PROTOCOL).records
    assert record["train"] == 60 and record["n"] == record_rows(tables[0])
    # The noise is a tenth: its mean is 0.08; a roofline at the datasheet's rates has no launch.
    assert 0.05 < record["mape"] < 0.2 < record["roofline_mape"]
    assert 0.6 < record["coverage90"] <= 1.0
    assert record["floor_mape"] == pytest.approx(0.0, abs=1e-9)
    if has_forest():
        assert record["mape"] < record["forest_mape"]
    assert {"cache", "framework", "rank", "p90", "bias", "median"} < record.keys()


def test_a_split_that_leaves_nothing_to_fit_is_named():
    table = made(key("h100-sxm"))
    large = table.take(
        np.flatnonzero(np.maximum(table.columns["n"], table.columns["k"]) > MAX_TRAINED_SIZE)
    )
    with pytest.raises(InputError, match="leaves no rows to fit"):
        run(Job("size", [large], []), PROTOCOL)


def record_rows(table: Measurements) -> int:
    return int(np.sum(part_of("gemm", table.shape) == "heldout"))


def test_a_chip_that_made_its_times_is_predicted_by_its_sibling():
    of = key("h200-sxm")
    chip = with_family(
        chip_with_prior(of, FITTED), "gemm", initial_parameters(of, MEASURED, FITTED).fitted
    )
    table = made(of)
    times = predict_rows(chip, plan(of), table)
    (record,) = run(Job("chip", [table._replace(time=times)], []), PROTOCOL).records
    assert record["mape"] == pytest.approx(0.0, abs=1e-6)
    assert (record["train"], record["forest_mape"], record["floor_mape"]) == (0, None, None)
    assert record["coverage90"] == 1.0


def test_the_disagreement_of_frameworks_is_a_split_of_its_own():
    tables = [made(key("h100-sxm")), made(key("h100-sxm", "vllm"), slower=1.5)]
    (record,) = run(Job("framework", tables, tables), PROTOCOL).records
    assert record["framework"] == "vllm/trtllm"
    assert record["bias"] == pytest.approx(np.log(1.5))
    assert record["mape"] == record["floor_mape"] == pytest.approx(0.0, abs=1e-9)


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Made-up tables in place of the measured ones; the names of the units that were read."""
    asked: list[str] = []

    def read(root: Path, unit, how) -> list[Measurements]:
        asked.append(unit.name)
        return [made(key(unit.chip))]

    monkeypatch.setattr(run_protocol, "read", read)
    monkeypatch.setattr(run_protocol, "locate", lambda source: Path())
    return asked


WORDS = ("validate", "--chips", "h200", "--ops", "gemm")


def test_the_command_writes_the_report_of_the_contract(small, tmp_path: Path):
    path = tmp_path / "report.json"
    status, out, err = command(*WORDS, "--json", path)
    assert (status, err) == (0, "")
    assert "unseen chip, known architecture" in out and "gemm h200-sxm trtllm bf16" in out
    found = json.loads(path.read_text())
    assert {"kernels", "serving", "published", "technology", "versions"} < found.keys()
    (record,) = found["kernels"]
    assert (record["chip"], record["split"], record["train"]) == ("h200-sxm", "chip", 0)
    assert "jax" in found["versions"]
    # Taken up again, nothing is read and nothing changes.
    again = command(*WORDS, "--json", path, "--resume")
    assert again[1] == out and small == ["h200-sxm/gemm"]
    assert json.loads(path.read_text()) == found


@pytest.mark.slow
@pytest.mark.parametrize("ops", ["technology", "Technology", "technology,Technology"])
def test_technology_alone_is_asked_for_however_it_is_spelled(ops: str, small, tmp_path: Path):
    status, _, err = command("validate", "--ops", ops, "--json", tmp_path / "report.json")
    assert (status, err, small) == (0, "", [])
    report = json.loads((tmp_path / "report.json").read_text())
    assert report["technology"] and not report["kernels"]


def test_the_command_draws_parity_and_residuals(small, tmp_path: Path):
    pytest.importorskip("altair")
    status, _, _ = command(*WORDS, "--out", tmp_path)
    assert status == 0 and (tmp_path / "validate.json").exists()
    for name in ("parity.png", "residuals.png"):
        assert (tmp_path / name).read_bytes().startswith(b"\x89PNG")
    assert len(list((tmp_path / "rows").glob("*.csv"))) == 1
    (line,) = read_result(tmp_path / "protocol.csv")
    (record,) = json.loads((tmp_path / "validate.json").read_text())["kernels"]
    assert line["date"] == record["date"] and line["n"] == record["n"]
    assert line["mape"] == pytest.approx(record["mape"], abs=1e-4) and line["forest_mape"] is None


def test_a_wrong_word_is_one_sentence(tmp_path: Path):
    other = tmp_path / "other.json"
    other.write_text("{}")
    deep = tmp_path / "deep.json"
    deep.write_text("[" * 100_000)
    for words, said in (
        (("--protocol", "long"), "allowed are quick, full"),
        (("--chips", "wse-3"), "takes no part"),
        (("--ops", "moe"), "takes no part"),
        (("--resume",), "give --json or --out"),
        (("--json", other, "--resume"), "no report of this protocol"),
        (("--json", deep, "--resume"), "no report of this protocol"),
        (("--sets", ""), "set is missing; allowed are kernels, serving, decisions"),
        (("--sets", "serving", "--splits", "chip"), "are for --sets kernels"),
        (("--sets", "serving", "--left-out", ""), "--left-out is missing"),
    ):
        status, _, err = command("validate", *words)
        assert status == 2 and said in err and len(err.splitlines()) == 1


def test_without_scikit_learn_the_forest_is_left_out(small, monkeypatch: pytest.MonkeyPatch):
    find = forest.importlib.util.find_spec
    absent = {"sklearn"}
    monkeypatch.setattr(
        forest.importlib.util, "find_spec", lambda name: None if name in absent else find(name)
    )
    status, out, err = command(*WORDS)
    assert (status, err) == (0, "") and "scikit-learn is not installed" in out


# The table of musts


def record(**changes) -> dict:
    base = {"op": "gemm", "chip": "h100-sxm", "framework": "trtllm", "dtype": "bf16", "cache": ""}
    figures = {"mape": 0.06, "coverage90": 0.9, "roofline_mape": 0.5, "forest_mape": None}
    return base | figures | {"split": "shape", "routing": "", "floor_mape": None} | changes


def test_a_line_averages_its_tables_and_says_what_is_met():
    (line,) = acceptance.summary([record(), record(chip="l40s", mape=0.08)])
    assert line[:6] == (
        acceptance.targets().kernels[0].name,
        "2",
        "7.0 %",
        "7.5 %",
        "5.0 %",
        "must",
    )
    assert line[6:] == ("50.0 %", "-", "-", "90.0 %")
    assert acceptance.summary([record(mape=0.04)])[0][5] == "aim"
    assert acceptance.summary([record(mape=0.2)])[0][5] == "no"


def test_tables_that_are_only_reported_are_not_averaged():
    assert not acceptance.summary([record(framework="vllm")])
    assert acceptance.summary([record(framework="vllm", chip="a100-sxm-80gb")])
    moe = {"op": "moe", "routing": "balanced", "framework": "sglang", "chip": "a100-sxm-80gb"}
    assert not acceptance.summary([record(**moe)])


def test_kernels_count_alike_however_many_tables_they_have():
    unseen = {"split": "chip", "chip": "h200-sxm"}
    many = [record(mape=0.1, **unseen)] * 3
    one = record(mape=0.3, op="mla_decode", **unseen)
    (line,) = acceptance.summary([*many, one])
    assert line[2] == "20.0 %"


def test_every_line_of_the_table_has_records_that_hold():
    for target in acceptance.targets().kernels:
        chip = target.chips[0] if target.chips else "h100-sxm"
        dtype = target.dtypes[0] if target.dtypes else "bf16"
        asked = {"op": target.ops[0], "chip": chip, "dtype": dtype, "routing": target.routing}
        framework = "nccl" if target.ops[0] == "all_reduce" else "trtllm"
        assert target.includes(record(split=target.split, framework=framework, **asked)), (
            target.name
        )


# What is kept


def whole(**changes) -> dict:
    figures = {"release": "", "train": 0, "n": 5, "median": 0.1, "p90": 0.2, "bias": -0.01}
    return record(**figures, date="2026-01-01", version="1") | changes


def test_a_newer_run_takes_the_place_of_its_own_lines_alone(tmp_path: Path):
    path = tmp_path / "protocol.csv"
    write_result(path, [whole(), whole(chip="l40s"), whole(split="framework")])
    old = read_result(path)
    assert old == [whole(), whole(chip="l40s")]
    found = merged_results(old, [whole(mape=0.01, date="2026-02-01")])
    assert [one["mape"] for one in found] == [0.01, 0.06]


def test_another_table_is_no_result_of_the_protocol(tmp_path: Path):
    (tmp_path / "x.csv").write_text("a,b\n1,2\n")
    with pytest.raises(InputError, match="has no column op"):
        read_result(tmp_path / "x.csv")


def test_a_failed_table_is_named_and_the_run_goes_on(small, monkeypatch: pytest.MonkeyPatch):
    def fails(job, how):
        raise InputError("no such unit")

    monkeypatch.setattr(run_protocol, "run", fails)
    status, out, _ = command(*WORDS)
    assert status == 0 and "no such unit" in out
