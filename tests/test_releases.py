"""Releases of a framework: the column `framework_version` of kernels and services, and fits of releases."""

import csv
from collections.abc import Mapping
from pathlib import Path

import pytest

from perfmodel.calibration.lockbox import locked
from perfmodel.calibration.sections import section_of
from perfmodel.errors import InputError
from perfmodel.kernels.kernel_table import Key, served_by
from perfmodel.library.files import read_toml
from perfmodel.library.fitted import ATTENTION_FAMILIES, FITTED, RELEASES
from perfmodel.library.fitted_check import check_fitted
from perfmodel.library.framework import frameworks, release_of, releases_of
from tests.command import predict, run

MOE = {"op": "moe", "chip": "h100-sxm", "dtype": "bf16", "tokens": 64, "hidden": 4096}
MOE |= {"inter": 14336, "topk": 2, "experts": 8, "framework": "sglang"}
OLD = {"framework_version": "0.5.6.post2"}
SERVICE = {"chip": "h100-sxm", "model": "llama-3.1-8b", "n_chips": 1, "isl": 1024, "osl": 128}
SERVICE |= {"concurrency": 8, "framework": "vllm"}


def kernels(folder: Path, *changes: Mapping[str, object]) -> list[dict[str, str]]:
    return predict("kernels", folder, [{**MOE, **change} for change in changes])


def test_a_measured_release_has_a_fit_of_its_own(tmp_path: Path):
    newest, named, old = kernels(tmp_path, {}, {"framework_version": "0.5.14"}, OLD)
    assert newest["predicted_us"] == named["predicted_us"] != old["predicted_us"]
    assert [row["basis"] for row in (newest, named, old)] == ["fitted"] * 3
    assert float(old["low_us"]) < float(old["predicted_us"]) < float(old["high_us"])


def test_a_release_without_rows_takes_the_nearest_with_rows(tmp_path: Path):
    near, newest, sibling = kernels(
        tmp_path,
        {"framework_version": "0.5.12"},
        {},
        OLD | {"chip": "gh200"},
    )
    assert near["predicted_us"] == newest["predicted_us"] and near["basis"] == "sibling"
    assert float(near["high_us"]) > float(newest["high_us"])
    assert sibling["basis"] == "sibling" and not sibling["error"]


def test_a_release_that_is_not_known_costs_its_row_alone(tmp_path: Path):
    unknown, alone, sound = kernels(
        tmp_path,
        {"framework_version": "0.5.99"},
        OLD | {"framework": ""},
        OLD,
    )
    assert unknown["error"] == (
        "framework_version is '0.5.99'; known of sglang are "
        "0.5.6.post2, 0.5.9, 0.5.10, 0.5.12, 0.5.14."
    )
    assert alone["error"].startswith(
        "framework_version is '0.5.6.post2', which needs a framework: give "
    )
    assert sound["error"] == "" and sound["predicted_us"]


@pytest.mark.long
def test_a_service_takes_the_kernels_of_a_release(tmp_path: Path):
    versions = ("", "0.24.0", "0.19.0", "0.20.1", "0.5")
    rows = [SERVICE | {"framework_version": version} for version in versions]
    rows.append(SERVICE | {"framework": "vllm-0.5"})
    newest, named, old, unknown, number, word = predict("serving", tmp_path, rows)
    assert newest["tpot_ms"] == named["tpot_ms"] and newest["basis"] == named["basis"]
    assert old["tpot_ms"] != newest["tpot_ms"] and old["basis"] == "sibling"
    assert "framework_version is '0.20.1'; known of vllm are" in unknown["error"]
    assert number["tpot_ms"] == word["tpot_ms"] != newest["tpot_ms"]


@pytest.mark.parametrize(
    ("cells", "means"),
    [
        (("vllm", ""), ("vllm", "", "")),
        (("vLLM", " 0.19.0 "), ("vllm", "", "0.19.0")),
        (("vllm", "0.5"), ("vllm", "vllm-0.5", "")),
        (("vllm", "vllm-0.5"), ("vllm", "vllm-0.5", "")),
        (("vllm-0.5", "0.5"), ("vllm", "vllm-0.5", "")),
    ],
)
def test_a_version_is_a_release_or_the_number_of_an_older_word(
    cells: tuple[str, str], means: tuple[str, str, str]
):
    assert served_by(*cells) == means


def test_an_older_word_has_no_release():
    with pytest.raises(InputError, match=r"framework is vllm-0\.5, a version by itself"):
        served_by("vllm-0.5", "0.19.0")


@pytest.mark.parametrize("framework", [name for name in frameworks() if releases_of(name)])
def test_shipped_fits_are_of_known_releases(framework: str):
    assert release_of(framework, releases_of(framework)[-1]) == releases_of(framework)[-1]


def test_no_shipped_release_is_fitted_to_locked_rows():
    check_fitted(FITTED)
    for chip, families in read_toml(FITTED / f"{RELEASES}.toml").items():
        for family, named in families.items():
            for framework, formats in named.items():
                for word, fits in formats.items():
                    cache = word.split("_")[-1] if family in ATTENTION_FAMILIES else ""
                    for release, section in fits.items():
                        for label in section["report"]:
                            op, _, dtype = label.partition("-")
                            assert not locked(op, chip, framework, release, dtype, cache)


ROWS = [(m, n) for m in (1, 16, 64, 256, 1024, 4096) for n in (1024, 2048, 4096, 8192, 16384)]


def _rows(folder: Path, release: str, factor: float) -> list[dict[str, object]]:
    gemm = {"op": "gemm", "chip": "h100-sxm", "dtype": "bf16", "framework": "vllm", "k": 4096}
    rows = [gemm | {"m": m, "n": n} for m, n in ROWS]
    found = predict("kernels", folder, rows)
    return [
        row | {"framework_version": release, "latency_us": factor * float(one["predicted_us"])}
        for row, one in zip(rows, found, strict=True)
    ]


@pytest.mark.slow
def test_rows_of_another_release_are_fitted_apart(tmp_path: Path):
    rows = _rows(tmp_path, "0.22.0", 1.5)
    data, out = tmp_path / "rows.csv", tmp_path / "fitted"
    with data.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    assert run("calibrate", "--data", data, "--out", out)[0] == 0
    assert not (out / "h100-sxm.toml").exists()
    family, framework, dtype = section_of(Key("gemm", "h100-sxm", "vllm", "bf16"))
    fits = read_toml(out / "releases.toml")["h100-sxm"][family][framework][dtype]
    assert list(fits) == ["0.22.0"]
    plain = [{name: row[name] for name in row if name != "latency_us"} for row in rows]
    found = predict("kernels", tmp_path, plain, "--calibration", out)
    errors = [
        abs(float(one["predicted_us"]) / float(str(row["latency_us"])) - 1)
        for one, row in zip(found, rows, strict=True)
    ]
    assert sorted(errors)[len(errors) // 2] < 0.1
