"""Whatever is wrong with what is handed in: exit status 2, one sentence, nothing written."""

import json
from pathlib import Path

import pytest
from command import run
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from perfmodel.library.files import stems

KERNELS = b"op,chip,dtype,m,n,k\ngemm,h100,bf16,32,4096,4096\n"
SERVING = b"chip,model,isl,osl,concurrency\nh100,llama-3.1-8b,1000,100,8\n"
MEASURED = b"op,chip,dtype,m,n,k,latency_us\ngemm,h100,bf16,32,4096,4096,14\n"
STUDY = """[objective]
maximise = "tokens_per_s_per_user"
[constraints]
area_mm2 = 800
power_w = 700
[[workload]]
model = "llama-3.1-8b"
batch = 8
context = 4096
chips = 8
"""
CONFIG = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "hidden_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "intermediate_size": 128,
    "vocab_size": 100,
}
L4 = stems("chips")["l4"].read_text()


def tree(folder: Path) -> dict[str, bytes]:
    """Every file of a folder."""
    return {
        str(path.relative_to(folder)): path.read_bytes() if path.is_file() else b""
        for path in folder.rglob("*")
    }


def refused(folder: Path, *words: object) -> str:
    """The sentence with which a command refuses; all else is as it was."""
    before = tree(folder)
    status, out, err = run(*words)
    assert (status, out, err.count("\n")) == (2, "", 1), err
    assert err.startswith("perfmodel: ") and "Traceback" not in err
    assert all(letter.isprintable() for letter in err.rstrip("\n"))
    assert len(err) < 2100
    assert tree(folder) == before
    return err


TABLES = {
    "empty": b"",
    "header only": KERNELS.splitlines()[0] + b"\n",
    "blank lines": b"\n\n",
    "zeros": b"\0" * 50,
    "junk": bytes(range(256)) * 4,
    "UTF-16": KERNELS.decode().encode("utf-16"),
    "short row": b"a,b\n1\n",
    "long row": b"a,b\n1,2,3\n",
    "open quote": b'a,b\n"1,2\n',
    "Latin-1": b"a,b\n\xe9,2\n",
    "a name twice": b"a,a\n1,2\n",
    "other columns": b"a,b\n1,2\n",
    "semicolons": KERNELS.replace(b",", b";"),
    "escapes": b"\x1b[31mred,\x1b[0m\n1,2\n",
}


@pytest.mark.parametrize("command", ["predict kernels", "predict serving", "calibrate", "explain"])
@pytest.mark.parametrize("content", TABLES.values(), ids=TABLES.keys())
def test_a_wrong_table_is_refused_by_every_command_that_reads_one(
    tmp_path: Path, command: str, content: bytes
):
    rows, out = tmp_path / "rows.csv", tmp_path / "out"
    rows.write_bytes(content)
    words = {"calibrate": ["--data", rows, "--out", out], "explain": [f"{rows}:1"]}
    refused(tmp_path, *command.split(), *words.get(command, [rows, "--out", out]))


@pytest.mark.parametrize("name", ["none.csv", ".", "x" * 5000, "[bold]", "\udcff", "a\nb"])
def test_a_table_that_is_not_there_is_refused(tmp_path: Path, name: str):
    for command in ("kernels", "serving"):
        words = ("predict", command, tmp_path / name, "--out", tmp_path / "out.csv")
        assert "there is no file" in refused(tmp_path, *words)


@pytest.mark.parametrize("place", ["", "none/out.csv", "rows.csv/out.csv", "x" * 300])
@pytest.mark.parametrize("command", ["kernels", "serving"])
def test_a_place_that_cannot_be_written_is_refused(tmp_path: Path, place: str, command: str):
    rows = tmp_path / "rows.csv"
    rows.write_bytes(KERNELS.replace(b"32", b"x") if command == "kernels" else SERVING + b"x,,,,\n")
    rows.write_bytes(rows.read_bytes().replace(b"llama-3.1-8b", b"x"))
    said = refused(tmp_path, "predict", command, rows, "--out", tmp_path / place)
    assert "--out" in said


@pytest.mark.parametrize(
    "words",
    [
        ["calibrate", "--data", "rows.csv", "--out", "file"],
        ["calibrate", "--data", "rows.csv", "--out", "file/new"],
        ["search", "study.toml", "--out", "file"],
        ["search", "study.toml", "--out", "file/new"],
        ["study", "capacity", "--out", "file"],
        [
            "explain",
            "op=gemm",
            "chip=h100",
            "dtype=bf16",
            "m=1",
            "n=1",
            "k=1",
            "--out",
            "none/x.svg",
        ],
    ],
    ids=" ".join,
)
def test_a_folder_that_cannot_be_made_is_refused(
    tmp_path: Path, words: list[str], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").write_text("kept")
    (tmp_path / "rows.csv").write_bytes(MEASURED)
    (tmp_path / "study.toml").write_text(STUDY)
    assert "--out" in refused(tmp_path, *words)


FITS = {
    "none": ("h100-sxm.txt", ""),
    "garbage": ("h100-sxm.toml", "\0\1"),
    "truncated": ("h100-sxm.toml", "[gemm.smooth.bf16]\nlaunch_us = "),
    "garbage for another chip": ("a30.toml", "x = ["),
    "deep": ("prior.toml", "a = " + "[" * 10_000),
    "a word": ("prior.toml", 'launched = "x"'),
    "a wrong number": ("h100-sxm.toml", "[gemm.smooth.bf16]\nlaunch_us = nan"),
    "escapes": ("h100-sxm.toml", '"\\u001b[31m" = 1'),
}


@pytest.mark.parametrize(("name", "content"), FITS.values(), ids=FITS.keys())
def test_a_wrong_calibration_is_refused_by_every_command(tmp_path: Path, name: str, content: str):
    fitted = tmp_path / "fitted"
    fitted.mkdir()
    (fitted / name).write_text(content)
    for command, table in (("kernels", KERNELS), ("serving", SERVING)):
        rows = tmp_path / f"{command}.csv"
        rows.write_bytes(table)
        words = ["predict", command, rows, "--out", tmp_path / "out.csv"]
        assert "fitted" in refused(tmp_path, *words, "--calibration", fitted)
    asked = ("op=gemm", "chip=h100", "dtype=bf16", "m=1", "n=1", "k=1")
    assert "fitted" in refused(tmp_path, "explain", *asked, "--calibration", fitted)
    (tmp_path / "measured.csv").write_bytes(MEASURED)
    words = ["--data", tmp_path / "measured.csv", "--out", tmp_path / "out", "--prior", fitted]
    assert "fitted" in refused(tmp_path, "calibrate", *words)


def test_a_calibration_that_is_not_there_is_refused(tmp_path: Path):
    (tmp_path / "rows.csv").write_bytes(KERNELS)
    words = ["predict", "kernels", tmp_path / "rows.csv", "--out", tmp_path / "out.csv"]
    for place in ("none", "rows.csv"):
        assert "no folder" in refused(tmp_path, *words, "--calibration", tmp_path / place)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["chip"], "names no row"),
        (["x.csv"], "names no row"),
        (["x.csv:1"], "there is no file"),
        (["x.csv:²"], "names no row"),
        (["x.csv:" + "9" * 5000], "names no row"),
        (["a.csv:1", "b.csv:2"], "not column=value"),
        (["="], "neither op nor model"),
        (["chip=h100"], "neither op nor model"),
        (["op=gemm", "op=gemm"], "op is given twice"),
        (["op=gemm"], "no columns chip, dtype; it has op"),
        (["op=gem", "chip=h100", "dtype=bf16"], "the nearest are gemm"),
        (["op=gemm", "chip=h100", "dtype=bf16", "m=1", "n=1", "k=-1"], "k is '-1'"),
        (["op=gemm", "chip=h100", "dtype=bf16", "m=1", "n=1", "k=1", "--out", "x.pdf"], "pictures"),
        (["model=x", "chip=h100", "isl=1", "osl=1", "concurrency=1"], "unknown model 'x'"),
        (["model=llama-3.1-8b", "isl=1", "osl=1", "concurrency=1"], "chip is missing"),
        (["model=llama-3.1-8b", "chip=h100", "isl=1", "osl=1"], "concurrency is missing"),
        (["model=none.json", "chip=h100"], "none.json cannot be read"),
    ],
)
def test_a_row_that_cannot_be_explained_is_refused(
    tmp_path: Path, words: list[str], said: str, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.chdir(tmp_path)
    assert said in refused(tmp_path, "explain", *words)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--sets", "servin"], "the nearest are serving"),
        (
            ["--sets", ""],
            "allowed are throughput, single-stream, energy, memory, serving, decisions, equal-lengths",
        ),
        (["--sets", "disaggregated", "--data", "none.whl"], "none.whl"),
        (["--sets", "single-stream", "--report", "x.txt"], "a report is .html"),
        (["--sets", "single-stream", "--json", "none/x.json"], "there is no folder none"),
        (["--sets", "single-stream", "--out", "file"], "--out"),
        (["--sets", "single-stream", "--calibration", "none"], "no folder"),
    ],
)
def test_a_reproduction_that_cannot_be_is_refused(
    tmp_path: Path, words: list[str], said: str, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").write_text("kept")
    assert said in refused(tmp_path, "reproduce", *words)


def test_a_row_number_beyond_the_table_is_refused(tmp_path: Path):
    (tmp_path / "rows.csv").write_bytes(KERNELS)
    for number in (0, 2):
        said = refused(tmp_path, "explain", f"{tmp_path / 'rows.csv'}:{number}")
        assert "give one from 1 to 1" in said


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--data", ""], "--data and --anchor are both missing"),
        (["--data", "none.csv"], "there is no file"),
        (["--data", "none.whl"], "not a readable wheel"),
        (["--data", "rows.csv", "--chips", "h1000"], "the nearest are h100-sxm"),
        (["--data", "rows.csv", "--exclude-chips", "h1000"], "the nearest are h100-sxm"),
        (["--data", "rows.csv", "--exclude-chips", "H100"], "has no rows"),
        (["--data", "rows.csv", "--ops", "gem"], "unknown op 'gem'; the nearest are gemm"),
        (["--data", "rows.csv", "--ops", "moe"], "has no rows"),
        (["--data", "rows.csv", "--chip-file", "none.toml"], "none.toml cannot be read"),
        (["--data", "rows.csv", "--chip-file", "bad.toml"], "bad.toml is not a readable TOML"),
        (["--data", "no-time.csv"], "no column 'latency_us'"),
        (["--data", "nan.csv"], "the first is row 1: latency_us"),
        (["--data", "inf.csv"], "the first is row 1: latency_us"),
        (["--data", "size.csv"], "the first is row 1: m is 'x'"),
        (["--data", "."], "holds no systems/data"),
    ],
)
def test_measurements_that_cannot_be_fitted_are_refused(
    tmp_path: Path, words: list[str], said: str, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "rows.csv").write_bytes(MEASURED)
    (tmp_path / "no-time.csv").write_bytes(KERNELS)
    (tmp_path / "bad.toml").write_text("x = [")
    for name in ("nan", "inf"):
        (tmp_path / f"{name}.csv").write_bytes(MEASURED.replace(b",14", f",{name}".encode()))
    (tmp_path / "size.csv").write_bytes(MEASURED.replace(b",32", b",x"))
    assert said in refused(tmp_path, "calibrate", "--out", "out", *words)


RESUMED = ["measure", "--out", "other.csv", "--resume", "--ops", "gemm"]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["reproduce", "--data", "none", "--sets", "serving"], "none is not there"),
        (["reproduce", "--out", "rows.csv"], "not a folder"),
        (["reproduce", "--json", "none/x.json"], "there is no folder none"),
        (["reproduce", "--report", "x.pdf"], "a report is .html"),
        (["validate", "--resume"], "needs the report of the earlier run"),
        (["measure", "--out", "none/x.csv"], "there is no folder none"),
        (["measure", "--out", "x.csv", "--rows", "0"], "'--rows'"),
        (["measure", "--out", "x.csv", "--seconds", "-1"], "'--seconds'"),
        ([*RESUMED, "--dtype", "fp32"], "was not written by `perfmodel measure`"),
        (["explore", "--port", "80"], "'--port'"),
        (["explore", "--port", "x"], "'--port'"),
        (["doctor", "x"], "unexpected extra argument"),
        (["study", "Q99"], "unknown study 'Q99'"),
        (["study", "peak-bandwith"], "the nearest are peak-bandwidth"),
        (["study", "../rows"], "unknown study '../rows'"),
        (["study", "a\nb"], "unknown study"),
        (["study", "--list", "capacity"], "leave out one of the two"),
        (["study", "--list", "--out", "x"], "a study is missing"),
        (["study", "--report", "x.html"], "a study is missing"),
        (["study", "capacity", "hops"], "unexpected extra argument"),
        (["study", "capacity", "--seed", "-1"], "No such option: --seed"),
        (["study", "capacity", "--out"], "'--out' requires an argument"),
        (["study", "capacity", "--out", "rows.csv"], "not a folder"),
        (["study", "capacity", "--out", "rows.csv/x"], "not a folder"),
        (["study", "capacity", "--report", "x.pdf"], "a report is .html"),
        (["study", "capacity", "--report", "none/x.html"], "there is no folder none"),
        (["sweep", "rows.csv", "--out", "x.csv"], "not a readable TOML"),
    ],
    ids=lambda value: value if isinstance(value, str) else " ".join(value),
)
def test_what_a_command_cannot_use_is_refused(
    tmp_path: Path, words: list[str], said: str, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "rows.csv").write_bytes(MEASURED)
    (tmp_path / "other.csv").write_text("a,b\n1,2\n")
    assert said in refused(tmp_path, *words)


STUDIES = {
    "empty": ("", "objective: it is missing"),
    "truncated": (STUDY[:20], "not a readable TOML"),
    "deep": ("a = " + "[" * 10_000, "not a readable TOML"),
    "bounds the wrong way round": (STUDY + "[space.stacks]\nlow = 3\nhigh = 1", "not below high"),
    "unknown variable": (STUDY + "[space.tflopz]\nlow = 1\nhigh = 2", "space.tflopz: no such key"),
    "unknown objective": (STUDY.replace("per_user", "per_x"), "tokens_per_s_per_mm2"),
    "unknown model": (STUDY.replace("8b", "8x"), "the nearest are llama-3.1-8b"),
    "unknown precision": (STUDY + 'precision = "fp9"', "unknown dtype 'fp9'"),
    "unknown base": (STUDY + '[space]\nbase = "h1000"', "the nearest are h100-sxm"),
    "unknown memory": (STUDY + '[space]\nmemory = "hbm9"', "unknown technology 'hbm9'"),
    "negative area": (STUDY.replace("800", "-800"), "constraints.area_mm2"),
    "a word": (STUDY.replace("800", '"x"'), "constraints.area_mm2"),
    "no workload": (STUDY[: STUDY.index("[[")], "workload: it is missing"),
    "a list for a number": (STUDY.replace("800", "[8, 9]"), "area_mm2: it is a list, not a number"),
    "a truth for a number": (
        STUDY.replace("800", "true"),
        "constraints.area_mm2: it is true, not a number",
    ),
    "a text for a number": (
        STUDY + 'weight = "2"',
        "workload.0.weight: it is '2', not a number",
    ),
    "no number": (STUDY + "weight = nan", "workload.0.weight: it is nan, not a finite number"),
    "a text for a table": ('space = "x"\n' + STUDY, "space: it is 'x', not a table of keys"),
    "a number for a table": ("space = 3\n" + STUDY, "space: it is 3, not a table of keys"),
    "a table for workloads": (
        STUDY.replace("[[workload]]", "[workload]"),
        "workload: it is a table of keys, not a list",
    ),
    "a table for a text": (
        STUDY + "precision = {a = 1}",
        "workload.0.precision: it is a table of keys, not a text in quotation marks",
    ),
    "nested": (
        STUDY + "[space.sram_mb.low]\nlow = 1",
        "space.sram_mb.low: it is a table of keys, not a number",
    ),
    "a part of a thing": (
        STUDY.replace("chips = 8", "chips = 1.5"),
        "workload.0.chips: it is 1.5, not a whole number",
    ),
    "no memory": (STUDY + "[space]\nmemory = []", "space.memory: it is empty; give at least one"),
    "a missing config": (STUDY.replace("llama-3.1-8b", "none.json"), "none.json cannot be read"),
}


@pytest.mark.parametrize(("content", "said"), STUDIES.values(), ids=STUDIES.keys())
def test_a_wrong_study_is_refused(tmp_path: Path, content: str, said: str):
    study, out = tmp_path / "study.toml", tmp_path / "out"
    study.write_text(content)
    status, printed, err = run("search", study, "--out", out)
    assert (status, printed, err.count("\n")) == (2, "", 1)
    assert said in err
    assert tree(out) == {}


@pytest.mark.parametrize("name", ["none.toml", "."])
def test_a_study_that_is_not_there_is_refused(tmp_path: Path, name: str):
    assert "there is no file" in refused(
        tmp_path, "search", tmp_path / name, "--out", tmp_path / "out"
    )


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (L4[:700], "not a readable TOML"),
        (L4.replace('unit = "GHz"', 'unit = "GHx"'), "clock: unknown unit 'GHx'; allowed are"),
        (L4 + "\n[colour]\nvalue = 1", "colour: no such key"),
        (L4.replace('source = "datasheet"', 'source = "x"', 1), "source 'x' is not listed"),
        (L4.replace('node = "n5"', 'node = "n55"'), "my.toml: node: unknown technology 'n55'"),
        (L4.replace("year = 2023", "year = true"), "year: it is true, not a whole number"),
        (L4.replace("year = 2023", 'year = "2023"'), "year: it is '2023', not a whole number"),
        (
            "clock = 2.0\n" + L4[: L4.index("[clock]")],
            "clock: it is 2.0, not a number with its unit",
        ),
        (L4.replace("= 2.04\n", "= [2.04]\n"), "clock.value: it is a list, not a number"),
        (L4.replace("= 2.04\n", "= {a = 1}\n"), "clock.value: it is a table of keys, not a number"),
        (L4.replace("= 2.04\n", "= true\n"), "clock.value: it is true, not a number"),
        (L4.replace("= 2.04\n", '= "2.04"\n'), "clock.value: it is '2.04', not a number"),
        (L4.replace("= 2.04\n", "= nan\n"), "clock.value: it is nan, not a finite number"),
        ("a = " + "[" * 10_000, "not a readable TOML"),
        ("#" * 2_000_000, "longer than 1,000,000 bytes"),
    ],
)
def test_a_wrong_chip_file_is_refused(tmp_path: Path, content: str, said: str):
    (tmp_path / "my.toml").write_text(content)
    assert said in refused(tmp_path, "chips", tmp_path / "my.toml")


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (json.dumps(CONFIG)[:50], "cannot be read as JSON"),
        ("[" * 100_000, "cannot be read as JSON"),
        ('{"a":' * 50_000, "cannot be read as JSON"),
        ("", "cannot be read as JSON"),
        ("[]", "must hold a table"),
        (json.dumps(CONFIG | {"architectures": ["XForCausalLM"]}), "'XForCausalLM' is not known"),
        (json.dumps(CONFIG | {"hidden_size": -1}), "hidden_size is -1"),
        (json.dumps(CONFIG | {"hidden_size": 10**300}), "hidden_size is a number of"),
        (json.dumps(CONFIG).replace("64", "NaN"), "hidden_size is nan"),
        (json.dumps(CONFIG).replace("64", "9" * 5000), "cannot be read as JSON"),
    ],
)
def test_a_wrong_config_is_refused(tmp_path: Path, content: str, said: str):
    (tmp_path / "config.json").write_text(content)
    assert said in refused(tmp_path, "models", tmp_path / "config.json")


@pytest.mark.parametrize(
    "name", ["zz", " ", "§", "[/x]", "\x1b[31m", "\udcff", "x" * 100_000, "\n"]
)
@pytest.mark.parametrize("command", ["chips", "models"])
def test_an_unknown_name_is_refused(tmp_path: Path, command: str, name: str):
    assert f"`perfmodel {command}`" in refused(tmp_path, command, name)


@pytest.mark.parametrize("command", ["chips none.toml", "models none.json", "chips .", "models ."])
def test_a_facts_file_that_is_not_there_is_refused(tmp_path: Path, command: str):
    refused(tmp_path, *command.split())


@settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(start=st.integers(0, len(KERNELS)), junk=st.binary(max_size=8), cut=st.integers(0, 30))
def test_a_table_with_bytes_changed_is_predicted_or_refused(
    tmp_path: Path, start: int, junk: bytes, cut: int
):
    """Two rows, one wrong at once: what the other becomes, the mutation decides; a column that is no
    longer read is named."""
    rows, out = tmp_path / "rows.csv", tmp_path / "out.csv"
    rows.write_bytes(KERNELS[:start] + junk + KERNELS[start + cut :])
    out.unlink(missing_ok=True)
    status, printed, err = run("predict", "kernels", rows, "--out", out)
    lines = err.splitlines()
    assert (status, len(lines)) == (2, 1) or (status == 0 and all(" not read" in x for x in lines))
    assert out.exists() == (status == 0) == bool(printed)
