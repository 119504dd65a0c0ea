"""How an answer of `recommend` is shown: its table, why others are left out, and what is to be known."""

from typing import Any

import pytest
from command import without_money

from perfmodel.inference.question import Question, ask
from perfmodel.inference.recommend import answer
from perfmodel.inference.recommendation import Recommendation
from perfmodel.interface.recommend import WIDTH, narrowed, remarks, tables_of
from perfmodel.interface.tables import width_of
from perfmodel.library.fitted import FITTED

UNPRICED = without_money("gh200")
ASKED: dict[str, Any] = {"model": "llama-3.2-1b", "isl": 512, "osl": 64, "precision": "bf16"}
ASKED |= {"chip": ["h100-sxm", UNPRICED, "wse-3"], "n_chips": 1, "framework": "vllm"}
QUESTION: Question = ask(**ASKED, concurrency=[4, 8])


@pytest.fixture(scope="module")
def found() -> Recommendation:
    return answer(QUESTION, FITTED)


def test_usd_that_are_not_known_are_said_to_be_so(found: Recommendation):
    shown = {row["chips"]: row for row in tables_of(QUESTION, found)[0].records()}
    assert shown[f"1 x {UNPRICED}"]["USD/M\ntokens"] == "unknown"
    assert "nan" not in str([*shown.values()])


def test_the_title_names_the_format_of_the_cache(found: Recommendation):
    assert "KV cache bf16" in tables_of(QUESTION, found)[0].title
    assert "--kv-precision bf16,fp8 tries fp8 too" in " ".join(remarks(QUESTION, found))
    given = QUESTION._replace(kv_precisions=("bf16",))
    assert "--kv-precision" not in " ".join(remarks(given, found))


def test_a_chip_that_is_named_and_not_among_them_is_said_why(found: Recommendation):
    assert [*found.chips_left_out] == ["wse-3"]
    said = " ".join(remarks(QUESTION, found))
    assert "Nothing on wse-3 is among them: vLLM does not run on wse-3; " in said
    cost = answer(QUESTION._replace(objective="cost"), FITTED).chips_left_out
    assert cost[UNPRICED] == "USD per million output tokens are not known"


def test_a_table_fits_the_terminal_and_keeps_what_counts(found: Recommendation):
    wide = {"framework": "tensorrt-llm", "limited_by": "ttft_ms, tpot_ms", "tp": 8.0, "ep": 8.0}
    rows = [*found.deployments, found.deployments[0] | wide | {"bound": "memory"}]
    table = tables_of(QUESTION, found._replace(deployments=rows))[0]
    printed = narrowed(table)
    assert width_of(table) > WIDTH == 100 and "Not shown: bound" in printed.title
    kept = " ".join(" ".join(printed.names).split())
    for name in ("ranks", "TTFT", "TPOT", "per user", "per chip", "USD/M", "J/token", "limited by"):
        assert name in kept
    assert all(len(row) == len(printed.names) for row in printed.rows)


def test_sentences_that_differ_in_numbers_alone_are_one_rule(found: Recommendation):
    refused = {"tp is 4, but must divide 9.": 2, "tp is 8, but must divide 9.": 3}
    refused |= {"vLLM does not run on wse-2.": 1, "vLLM does not run on wse-3.": 1}
    rows = tables_of(QUESTION, found._replace(refused=refused))[-1].rows
    assert rows[0] == ("5", "tp is 8, but must divide 9. (1 more with other numbers)")
    assert [row[0] for row in rows] == ["5", "1", "1"]


@pytest.mark.parametrize(
    ("predicted", "said"),
    [
        (100.0, "costs nothing here"),
        (100.3, "costs less than 1 % here"),
        (125.0, "costs 20 % of it"),
    ],
)
def test_the_cost_of_caution_is_never_zero_percent(
    found: Recommendation, predicted: float, said: str
):
    caution = {"at_confidence": 100.0, "at_prediction": predicted, "measure": "x"}
    limited = QUESTION._replace(limits=QUESTION.limits._replace(tpot_ms=10.0))
    one = found._replace(caution=caution | {"gain_if_measured": 0.002})
    lines = " ".join(remarks(limited, one))
    assert said in lines and "Worth most" not in lines
    assert "confidence costs" not in " ".join(remarks(QUESTION, one))  # where nothing is limited


def test_one_quote_for_two_kinds_of_chips_is_said_to_be_so(found: Recommendation):
    quoted = QUESTION._replace(cells={"usd_per_chip_hour": "2.5"})
    pools = {"mode": "disaggregated", "prefill_chip": "h100-sxm", "decode_chip": "l4"}
    pools |= {
        f"{pool}_{n}": 1.0 for pool in ("prefill", "decode") for n in ("tp", "pp", "ep", "dp")
    }
    pools |= {"prefill_workers": 1.0, "decode_workers": 1.0}
    mixed = found._replace(deployments=[found.deployments[0] | pools])
    assert "Both kinds of chips cost the quote, 2.5 USD/h each." in remarks(quoted, mixed)
    assert "Both kinds" not in " ".join(remarks(quoted, found))
