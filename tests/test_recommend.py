"""`perfmodel recommend`: the best of all ways to serve under limits, as rows that `predict serving` reads."""

import csv
import itertools
import json
import re
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from command import predict, run, without_money

from perfmodel.inference.candidates import Parallelism
from perfmodel.inference.deployment_words import in_words, machine_of, ranks_of
from perfmodel.inference.evaluate import resolve_row
from perfmodel.inference.framework_support import refusal
from perfmodel.inference.question import ask as make_question
from perfmodel.inference.recommend import answer
from perfmodel.inference.recommendation import ADDED
from perfmodel.inference.serving_predictions import COLUMNS, OUTPUTS
from perfmodel.library.fitted import FITTED
from perfmodel.library.model import draft_layers

Row = dict[str, Any]

MIXTURE = {
    "model": "qwen3-30b-a3b",
    "chip": "h100-sxm",
    "framework": "vllm",
    "precision": "fp8",
    "isl": "512",
    "osl": "64",
}
DENSE = MIXTURE | {"model": "llama-3.2-1b", "precision": "bf16"}
CHIPS, USERS, LIMIT = 4, (4, 16, 64), 17.0
RATE = 300.0

TIMES = ("ttft_ms", "ttft_ms_high", "tpot_ms", "tpot_ms_low", "tpot_ms_high")
NUMBERS = (
    *(*TIMES, "output_tokens_per_s_per_user", "output_tokens_per_s_per_chip", "total_tokens_per_s"),
    *("joules_per_output_token", "usd_per_million_output_tokens", "running"),
)


class Answer(NamedTuple):
    """What was printed as JSON, and the folder that was written."""

    found: dict[str, Any]
    folder: Path


def options_of(asked: Mapping[str, object]) -> list[str]:
    """Columns as options of the command."""
    return [
        word for name, x in asked.items() for word in (f"--{name.replace('_', '-')}", str(x)) if x
    ]


def ask(folder: Path, asked: Mapping[str, object], **more: object) -> Answer:
    words = ["recommend", *options_of({**asked, **more}), "--json", "--out", folder / "answer"]
    status, out, err = run(*words)
    assert (status, err) == (0, "")
    return Answer(json.loads(out), folder / "answer")


def cells_of(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def assert_same_numbers(
    rows: Sequence[Mapping[str, Any]], others: Sequence[Mapping[str, Any]], rel: float
) -> None:
    for row, other in zip(rows, others, strict=True):
        for name in NUMBERS:
            assert float(other[name]) == pytest.approx(float(row[name]), rel=rel), name


def machine_and_ranks(row: Mapping[str, Any]) -> tuple[str, str]:
    return machine_of(row), ranks_of(row)


@pytest.fixture(scope="module")
def limited(tmp_path_factory: pytest.TempPathFactory) -> Answer:
    """A mixture of experts on a few chips, with a limit kept at 90 % confidence."""
    load = {"n_chips": CHIPS, "concurrency": ",".join(map(str, USERS)), "tpot_ms": LIMIT}
    return ask(tmp_path_factory.mktemp("limited"), MIXTURE | load, confidence=90, top=100)


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Answer:
    """As few chips as carry requests that come at a rate."""
    load = {"requests_per_s": RATE, "tpot_ms": 8}
    return ask(tmp_path_factory.mktemp("fleet"), DENSE | load, top=50)


def by_hand(deployment: Any) -> list[Row]:
    """Every way on `CHIPS` chips that the framework takes, at every number of users."""
    sizes = [1, 2, 4]
    ways = [
        Parallelism(*map(float, way))
        for way in itertools.product(sizes, repeat=5)
        if way[0] * way[1] * way[3] * way[4] == CHIPS and way[2] <= way[0] * way[3]
    ]
    taken = [way._asdict() for way in ways if not refusal(deployment, way)]
    return [
        {
            **MIXTURE,
            "n_chips": CHIPS,
            "concurrency": users,
            **{n: f"{x:.0f}" for n, x in way.items()},
        }
        for way in taken
        for users in USERS
    ]


# The answer


@pytest.mark.long
def test_the_answer_has_the_parts_that_are_documented(limited: Answer):
    found = limited.found
    assert found.keys() == {
        *("deployments", "front", "considered", "refused", "chips_left_out"),
        *("caution", "assumptions", "mix"),
    }
    assert [row["rank"] for row in found["deployments"]] == [
        *range(1, len(found["deployments"]) + 1)
    ]
    assert found["considered"] >= len(found["deployments"]) > 3
    assert all(isinstance(n, int) and n > 0 for n in found["refused"].values())
    assert found["assumptions"]["confidence"] == 90
    assert found["caution"]["at_confidence"] <= found["caution"]["at_prediction"]
    best = found["deployments"][0]
    assert {*MIXTURE, *NUMBERS, "tp", "pp", "ep", "dp", "replicas", "limited_by"} <= best.keys()
    assert best.keys() - {*COLUMNS, *OUTPUTS, *ADDED, "error"} == set()  # what `predict` knows
    assert best["worse"] == "" and "% fewer" in found["deployments"][-1]["worse"]


@pytest.mark.long
def test_the_first_is_the_best_of_all_ways_priced_one_by_one(limited: Answer, tmp_path: Path):
    deployment = resolve_row(0, MIXTURE | {"concurrency": "1", "n_chips": "4"}, FITTED).deployment
    priced = predict("serving", tmp_path, by_hand(deployment))
    usable = [row for row in priced if row["fits"] == "true"]
    within = [row for row in usable if float(row["tpot_ms_high"]) <= LIMIT]
    assert 0 < len(within) < len(usable)
    best = max(float(row["output_tokens_per_s_per_chip"]) for row in within)
    first = limited.found["deployments"][0]
    assert first["output_tokens_per_s_per_chip"] == pytest.approx(best, rel=1e-3)


@pytest.mark.long
def test_limits_hold_at_the_end_of_the_range(limited: Answer):
    for row in limited.found["deployments"]:
        assert row["tpot_ms_at_confidence"] <= LIMIT * (1 + 1e-6)  # six digits
        high = (
            row["tpot_ms_high"] / row["tpot_ms"]
        )  # below which 95 % lie, 90 % below a power of it
        wanted = row["tpot_ms"] * high ** (1.2816 / 1.6449)
        assert row["tpot_ms_at_confidence"] == pytest.approx(wanted, rel=1e-4)
    over = [name for name in limited.found["refused"] if name.startswith("tpot_ms above 17")]
    assert over == ["tpot_ms above 17 at 90 % confidence"]


@pytest.mark.long
def test_every_row_is_read_back_with_the_same_numbers(limited: Answer, tmp_path: Path):
    rows = cells_of(limited.folder / "deployments.csv")
    status, _, err = run(
        "predict", "serving", limited.folder / "deployments.csv", "--out", tmp_path / "again.csv"
    )
    assert (status, err) == (0, "")
    assert_same_numbers(rows, cells_of(tmp_path / "again.csv"), 1e-4)
    assert_same_numbers(rows, limited.found["deployments"], 1e-4)


@pytest.mark.long
def test_no_row_has_a_framework_that_refuses_it(limited: Answer):
    for row in cells_of(limited.folder / "deployments.csv"):
        read = {name: cell for name, cell in row.items() if name in COLUMNS}
        resolved = resolve_row(0, read, FITTED)
        assert [refusal(resolved.deployment, way) for way in resolved.candidates] == [""]
    assert any("vLLM takes" in reason for reason in limited.found["refused"])


@pytest.mark.long
def test_nothing_on_the_front_is_beaten(limited: Answer):
    points = [
        (row["output_tokens_per_s_per_user"], row["output_tokens_per_s_per_chip"])
        for row in limited.found["front"]
    ]
    assert len(points) > 1
    assert points == sorted(points, reverse=True)
    assert [chip for _, chip in points] == sorted(chip for _, chip in points)
    best = limited.found["deployments"][0]["output_tokens_per_s_per_chip"]
    assert max(
        row["output_tokens_per_s_per_chip"] for row in limited.found["front"] if row["keeps_limits"]
    ) == pytest.approx(best)


@pytest.mark.long
def test_files_are_written_that_start_the_servers(limited: Answer):
    rows = cells_of(limited.folder / "deployments.csv")
    assert len(cells_of(limited.folder / "front.csv")) == len(limited.found["front"])
    scripts = [limited.folder / row["launch"] for row in rows]
    assert sorted(scripts) == sorted((limited.folder / "launch").iterdir())
    for script in scripts:
        subprocess.run(["bash", "-n", script], check=True)
        text = script.read_text()
        assert "vllm serve" in text and "n_chips 4.\n" in text


# Objectives, prices, software


@pytest.mark.long
@pytest.mark.parametrize(
    ("objective", "column", "most"),
    [
        ("cost", "usd_per_million_output_tokens", False),
        ("energy", "joules_per_output_token", False),
        ("speed", "output_tokens_per_s_per_user", True),
    ],
)
def test_an_objective_orders_the_rows(objective: str, column: str, most: bool, tmp_path: Path):
    load = {"n_chips": 2, "concurrency": "1,8", "objective": objective}
    values = [row[column] for row in ask(tmp_path, DENSE | load).found["deployments"]]
    assert len(values) > 1 and values == sorted(values, reverse=most)


def test_a_quote_takes_the_place_of_all_costs(tmp_path: Path):
    load = {"n_chips": 1, "concurrency": 8, "usd_per_chip_hour": 2.5}
    (row,) = ask(tmp_path, DENSE | load).found["deployments"]
    assert (row["cost_basis"], row["usd_per_chip_hour"]) == ("quote", pytest.approx(2.5))
    seconds = 1e6 / row["output_tokens_per_s_per_chip"]
    assert row["usd_per_million_output_tokens"] == pytest.approx(2.5 / 3600 * seconds, rel=1e-5)


def test_software_that_does_not_run_on_a_chip_is_left_out_there(tmp_path: Path):
    asked = DENSE | {"chip": "wse-3,h100-sxm", "n_chips": 1}
    found = ask(tmp_path, asked, concurrency=8).found
    assert {row["chip"] for row in found["deployments"]} == {"h100-sxm"}
    assert any("vLLM does not run on wse-3" in reason for reason in found["refused"])


@pytest.mark.long
def test_drafts_are_a_choice_that_is_shown():
    asked = DENSE | {"n_chips": 1, "concurrency": 1, "speculative_tokens": "0,2"}
    status, out, _ = run("recommend", *options_of(asked))
    assert status == 0 and "draft2" in out and "85 % are accepted" in out


def test_drafts_are_tried_where_the_model_has_layers_for_them():
    assert draft_layers("deepseek-r1") == 1 and draft_layers("llama-3.2-1b") == 0
    mixture = {"isl": 1, "osl": 1, "chip": "b200-sxm", "n_chips": 8}
    assert make_question(model="deepseek-r1", **mixture).drafted == (0, 1)
    assert make_question(model="llama-3.2-1b", **mixture).drafted == (0,)


# Words

ONE_SIDE: Row = {"mode": "serving", "chip": "h100-sxm", "n_chips": 16.0, "ffn_chip": ""}
ONE_SIDE |= {"framework": "vllm", "precision": "fp8", "concurrency": 8.0, "replicas": 1.0}
ONE_SIDE |= {"tp": 4.0, "pp": 1.0, "ep": 1.0, "dp": 4.0}
FFN: Row = {"n_chips": 592.0, "ffn_chip": "lpu-v1", "ffn_tp": 64.0, "ffn_pp": 9.0, "ffn_dp": 1.0}
FFN |= {"ffn_ep": 64.0}
POOLS: Row = {"mode": "disaggregated", "chip": "", "prefill_chip": "h100-sxm", "decode_chip": "l4"}
POOLS |= {f"{pool}_{name}": 1.0 for pool in ("prefill", "decode") for name in ("pp", "ep", "dp")}
POOLS |= {"prefill_workers": 2.0, "prefill_tp": 4.0, "decode_workers": 1.0, "decode_tp": 8.0}


@pytest.mark.parametrize(
    ("row", "machine", "ranks"),
    [
        (ONE_SIDE, "16 x h100-sxm", "tp4 dp4"),
        (ONE_SIDE | FFN, "16 x h100-sxm + 576 x lpu-v1", "A(tp4 dp4) F(tp64 pp9 ep64)"),
        (ONE_SIDE | POOLS, "8 x h100-sxm + 8 x l4", "2P(tp4) 1D(tp8)"),
        (ONE_SIDE | POOLS | {"decode_chip": "h100-sxm"}, "16 x h100-sxm", "2P(tp4) 1D(tp8)"),
    ],
)
def test_a_machine_says_how_many_chips_of_each_kind_it_has(row: Row, machine: str, ranks: str):
    assert machine_and_ranks(row) == (machine, ranks)
    assert in_words(row).startswith(f"{machine}, vllm fp8, ")


@pytest.mark.parametrize(
    ("users", "said"),
    [({}, "more users not tried"), ({"concurrency": [4, 8]}, "concurrency asked")],
)
def test_users_that_were_not_tried_are_not_said_to_be_asked(users: Row, said: str):
    asked: Row = DENSE | users | {"n_chips": 1}
    question = make_question(**asked)
    assert answer(question, FITTED).deployments[0]["limited_by"] == said


# Requests that come at a rate


@pytest.mark.long
def test_a_fleet_carries_its_rate_within_the_limit(fleet: Answer, tmp_path: Path):
    rows = cells_of(fleet.folder / "deployments.csv")
    for row in rows:
        assert 0 < float(row["utilisation"]) < 1
        assert float(row["tpot_ms_at_confidence"]) <= 8
        assert row["limited_by"].startswith("requests_per_s")
    status, _, err = run(
        "predict", "serving", fleet.folder / "deployments.csv", "--out", tmp_path / "again.csv"
    )
    assert (status, err) == (0, "")
    assert_same_numbers(rows, cells_of(tmp_path / "again.csv"), 1e-4)


@pytest.mark.long
def test_scripts_of_a_fleet_let_as_many_run_as_the_prediction_does(fleet: Answer):
    for row in cells_of(fleet.folder / "deployments.csv"):
        script = (fleet.folder / row["launch"]).read_text()
        (most,) = re.findall(r"--max-num-seqs (\d+)", script)
        servers = float(row["replicas"]) * float(row["dp"])
        assert float(most) * servers == pytest.approx(float(row["max_running"]))
        assert float(row["running"]) < float(row["max_running"])


@pytest.mark.long
def test_data_ranks_of_a_model_without_experts_are_replicas(fleet: Answer):
    rows = fleet.found["deployments"]
    assert {row["dp"] for row in rows} == {1} and max(row["replicas"] for row in rows) > 1


@pytest.mark.long
def test_one_replica_fewer_does_not_carry_it(fleet: Answer, tmp_path: Path):
    first, *_ = (row for row in fleet.found["deployments"] if row["replicas"] > 1)
    assert first["n_chips"] == fleet.found["deployments"][0]["n_chips"]
    chips = first["n_chips"] * (first["replicas"] - 1) / first["replicas"]
    ranks = {name: f"{first[name]:.0f}" for name in ("tp", "pp", "ep", "dp")}
    fewer = ranks | {"replicas": f"{first['replicas'] - 1:.0f}", "n_chips": f"{chips:.0f}"}
    asked = DENSE | {"requests_per_s": RATE} | fewer
    row, _ = predict("serving", tmp_path, [asked, asked])  # two run in what is compiled already
    ratio = first["tpot_ms_at_confidence"] / first["tpot_ms"]
    assert row["error"] or float(row["tpot_ms"]) * ratio > 8


@pytest.mark.long
def test_every_whole_number_of_replicas_is_looked_at(tmp_path: Path):
    """Of sixty replicas, too, the fewest: steps of a tenth would skip it."""
    load = DENSE | {"requests_per_s": 40 * RATE, "tpot_ms": 8}
    first = ask(tmp_path, load, top=1).found["deployments"][0]
    assert first["replicas"] > 20
    fewer = {n: f"{first[n]:.0f}" for n in ("tp", "pp", "ep", "dp")}
    one = first["n_chips"] / first["replicas"]
    counts = [first["replicas"] - n for n in (0, 1)]
    chips = [{"replicas": f"{n:.0f}", "n_chips": f"{n * one:.0f}"} for n in counts]
    kept, broken = predict("serving", tmp_path, [load | fewer | own for own in chips])
    ratio = first["tpot_ms_at_confidence"] / first["tpot_ms"]
    assert float(kept["tpot_ms"]) * ratio <= 8
    assert broken["error"] or float(broken["tpot_ms"]) * ratio > 8


@pytest.mark.long
def test_a_rate_is_carried_with_the_confidence_asked(tmp_path: Path):
    """Without a limit, too: steps that are slower by the range answer fewer requests."""
    found = [
        ask(tmp_path / str(level), DENSE | {"requests_per_s": 4 * RATE}, confidence=level, top=1)
        for level in (50, 90)
    ]
    rows = [each.found["deployments"][0] for each in found]
    assert rows[0]["n_chips"] < rows[1]["n_chips"]
    assert rows[1]["utilisation"] * rows[1]["tpot_ms_at_confidence"] / rows[1]["tpot_ms"] < 1


@pytest.mark.long
def test_of_equal_objectives_the_soonest_answer_is_first(fleet: Answer):
    """Fleets of one size have one throughput, but for rounding."""
    rows = fleet.found["deployments"]
    times: dict[int, list[float]] = {}
    for row in rows:
        times.setdefault(row["n_chips"], []).append(row["end_to_end_ms"])
    assert max(map(len, times.values())) > 1
    assert all(each == sorted(each) for each in times.values())


@pytest.mark.long
def test_more_requests_need_as_many_chips_at_least(fleet: Answer, tmp_path: Path):
    load = {"requests_per_s": 4 * RATE, "tpot_ms": 8}
    more = ask(tmp_path, DENSE | load, top=1).found["deployments"][0]
    assert more["n_chips"] > fleet.found["deployments"][0]["n_chips"]


def test_a_rate_on_given_chips_is_carried_or_refused(tmp_path: Path):
    asked = DENSE | {"n_chips": 1, "tp": ""}
    (row,) = ask(tmp_path, asked, requests_per_s=50).found["deployments"]
    assert row["utilisation"] == pytest.approx(50 / row["max_requests_per_s"])
    status, _, err = run("recommend", *options_of(asked | {"requests_per_s": 5000}))
    assert status == 2 and "carries the rate" in err


# Pools


@pytest.mark.slow
def test_pools_have_the_numbers_of_the_same_row(tmp_path: Path):
    load = {"n_chips": 3, "concurrency": "8,64", "mode": "disaggregated"}
    found = ask(tmp_path, DENSE | load)
    rows = cells_of(found.folder / "deployments.csv")
    status, _, err = run(
        "predict", "serving", found.folder / "deployments.csv", "--out", tmp_path / "again.csv"
    )
    assert (status, err) == (0, "")
    assert_same_numbers(rows, cells_of(tmp_path / "again.csv"), 1e-3)
    for row in rows:
        assert row["mode"] == "disaggregated" and row["limited_by"] != "KV-cache capacity"
    assert {row["prefill_workers"] for row in rows} == {"1", "2"}
    front = cells_of(found.folder / "front.csv")
    ranks = {
        f"{pool}_{name}" for pool in ("prefill", "decode") for name in ("tp", "pp", "ep", "dp")
    }
    assert ranks <= front[0].keys() and front[0]["chips"] == "3 x h100-sxm"


# What cannot be answered

SMALL = DENSE | {"n_chips": 1, "concurrency": 1}

WRONG = {
    "nothing keeps the limit": (SMALL | {"tpot_ms": 0.5}, "% over)"),
    "nothing in two pools keeps it": (
        SMALL | {"n_chips": 2, "mode": "disaggregated", "tpot_ms": 0.5},
        "1 prefill worker of tp 1 pp 1 ep 1 dp 1, 1 decode worker of tp 1 pp 1 ep 1 dp 1, 1 user with",
    ),
    "nothing has room": (SMALL | {"isl": 3_000_000}, "GB are short on each chip"),
    "chip": (SMALL | {"chip": "h1000"}, "the nearest are h100-sxm"),
    "no chip": (SMALL | {"chip": ""}, "chip is missing"),
    "model": (SMALL | {"model": "llama-9"}, "unknown model 'llama-9'"),
    "framework": (SMALL | {"framework": "fast"}, "unknown framework 'fast'"),
    "framework of another chip": (SMALL | {"chip": "wse-3"}, "vLLM does not run on wse-3"),
    "precision": (SMALL | {"precision": "fast"}, "unknown precision 'fast'"),
    "mode": (SMALL | {"mode": "fast"}, "unknown mode 'fast'"),
    "objective": (SMALL | {"objective": "fast"}, "unknown objective 'fast'"),
    "confidence": (SMALL | {"confidence": 70}, "the levels are 50, 80, 90"),
    "users": (SMALL | {"concurrency": "0"}, "concurrency is '0'"),
    "price": (SMALL | {"usd_per_chip_hour": -1}, "usd_per_chip_hour is '-1"),
    "no price": (
        SMALL | {"chip": without_money("gh200"), "objective": "cost"},
        "not known for any of these chips",
    ),
    "limit": (SMALL | {"tpot_ms": -1}, "tpot_ms is -1"),
    "users and rate": (SMALL | {"requests_per_s": 1}, "are both given"),
    "rate": (DENSE | {"requests_per_s": "-1"}, "requests_per_s is '-1"),
    "no number of chips": (SMALL | {"n_chips": ""}, "n_chips is missing"),
    "half a chip": (SMALL | {"n_chips": 1.5}, "n_chips is '1.5'"),
    "one chip for two pools": (SMALL | {"mode": "disaggregated"}, "two pools need a chip each"),
    "column": (SMALL | {"set": "foo=1"}, "unknown column 'foo'"),
}


@pytest.mark.long
@pytest.mark.parametrize(("asked", "said"), WRONG.values(), ids=WRONG.keys())
def test_what_cannot_be_answered_is_said_in_a_sentence(asked: Row, said: str, tmp_path: Path):
    status, out, err = run("recommend", *options_of(asked), "--out", tmp_path / "answer")
    assert (status, out, err.count("\n")) == (2, "", 1), err
    assert said in err and not (tmp_path / "answer").exists()


# Kinds of replicas together, and attention and feed-forward layers apart


@pytest.mark.slow
def test_a_mix_of_replicas_carries_the_rate_for_less(tmp_path: Path):
    load = {"chip": "h100-sxm,l4", "requests_per_s": 250, "tpot_ms": 20, "objective": "cost"}
    found = ask(tmp_path, DENSE | load).found
    best, mix = found["deployments"][0], found["mix"]
    assert len(mix) > 1 and sum(row["requests_per_s"] for row in mix) == pytest.approx(250)
    for row in mix:
        assert 0 < row["utilisation"] < 1 and row["replicas"] == round(row["replicas"])
    costs = [sum(r["n_chips"] * r["usd_per_chip_hour"] for r in rows) for rows in (mix, [best])]
    assert costs[0] < costs[1]


@pytest.mark.slow
def test_attention_and_ffn_apart_have_the_numbers_of_the_same_row(tmp_path: Path):
    load = {"ffn_chip": "lp30", "n_chips": 72, "concurrency": "4,8", "mode": "attention_ffn"}
    found = ask(tmp_path, DENSE | {"framework": ""} | load, top=100)
    out = tmp_path / "again.csv"
    status, _, err = run("predict", "serving", found.folder / "deployments.csv", "--out", out)
    assert (status, err) == (0, "") and found.found["considered"] > 20
    for row, again in zip(cells_of(found.folder / "deployments.csv"), cells_of(out), strict=True):
        assert row["ffn_chip"] == "lp30"
        assert float(again["tpot_ms"]) == pytest.approx(float(row["tpot_ms"]), rel=1e-3)
        assert row["limited_by"] == (
            "concurrency asked" if row["concurrency"] == "8" else "objective"
        )
    spread = [machine_and_ranks(row) for row in found.found["deployments"]]
    assert len({*spread}) == len(spread) > 1  # each once, with its best number of users
    front = cells_of(found.folder / "front.csv")
    assert {row["machine"] for row in front} == {"72 x h100-sxm + lp30"}
    for row in front:
        chips = [
            f"{float(row[f'{side}tp']) * float(row[f'{side}pp']) * float(row[f'{side}dp']):.0f}"
            for side in ("", "ffn_")
        ]
        assert row["chips"] == f"{chips[0]} x h100-sxm + {chips[1]} x lp30"
