"""Many questions of `recommend` from a file: each as it would be answered alone, none costs another."""

import csv
from pathlib import Path

import pytest
from command import run

QUESTIONS = """model,isl,osl,tpot_ms,n_chips
llama-3.1-8b,2048,512,50,
llama-3.1-8b,1024,256,,"1,2"
nonsense,1,1,,
llama-3.1-8b,2048,512,0.001,
llama-3.1-8b,-5,512,,
"""
GIVEN = ("--chip", "h100-sxm", "--n-chips", 1, "--framework", "vllm", "--precision", "fp8")


@pytest.fixture
def questions(tmp_path: Path) -> Path:
    (tmp_path / "questions.csv").write_text(QUESTIONS)
    return tmp_path / "questions.csv"


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


@pytest.mark.long
def test_each_question_is_answered_as_if_alone(questions: Path, tmp_path: Path):
    status, out, err = run("recommend", "--questions", questions, *GIVEN, "--out", tmp_path / "all")
    assert status == 0 and out.startswith("5 questions, 3 without an answer"), err
    found = rows(tmp_path / "all/answers.csv")
    alone = "recommend", "--model", "llama-3.1-8b", "--isl", 2048, "--osl", 512, "--tpot-ms", 50
    assert run(*alone, *GIVEN, "--out", tmp_path / "alone")[0] == 0
    first = [row for row in found if row["question"] == "1"]
    expected = rows(tmp_path / "alone/deployments.csv")
    assert len(first) == len(expected) > 0
    for mine, theirs in zip(first, expected, strict=True):
        assert all(mine[name] == theirs[name] for name in theirs if name != "launch")
    assert {row["n_chips"] for row in found if row["question"] == "2"} == {"1", "2"}


@pytest.mark.long
def test_a_question_without_an_answer_says_why(questions: Path, tmp_path: Path):
    run("recommend", "--questions", questions, *GIVEN, "--out", tmp_path / "all", "--top", 1)
    said = {row["question"]: row["error"] for row in rows(tmp_path / "all/answers.csv")}
    assert [*said] == ["1", "2", "3", "4", "5"] and said["1"] == said["2"] == ""
    assert "unknown model 'nonsense'" in said["3"]
    assert "no deployment keeps the limits" in said["4"]
    assert "isl is '-5'" in said["5"]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--isl", 3, "--osl", 4), "model is missing; give --model"),
        (("--model", "llama-3.1-8b", "--isl", 3), "osl is missing; give --osl"),
        (("--questions", "none.csv", "--out", "x"), "there is no file none.csv"),
        (("--questions", "none.csv"), "give --out, a folder"),
        (
            ("--model", "llama-3.1-8b", "--isl", 3, "--osl", 4, "--cluster", "local"),
            "--questions FILE.csv",
        ),
    ],
)
def test_what_cannot_be_asked_is_refused(words: tuple[object, ...], said: str):
    status, out, err = run("recommend", *words)
    assert (status, out, err.count("\n")) == (2, "", 1) and said in err, err


def test_a_column_that_is_none_is_refused(tmp_path: Path):
    (tmp_path / "q.csv").write_text("model,isl,osl,tpot\nllama-3.1-8b,1,1,1\n")
    status, _, err = run("recommend", "--questions", tmp_path / "q.csv", "--out", tmp_path / "x")
    assert status == 2 and "unknown column of q.csv 'tpot'" in err and "tpot_ms" in err
