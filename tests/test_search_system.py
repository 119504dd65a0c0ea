"""Systems of a search as they are made: what is paid once, memories that wear out, channels, cooling."""

from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest
from command import run as run_command

from perfmodel.design.facts import names, shifted
from perfmodel.design.problem import Problem, assess, system
from perfmodel.design.resolve import resolve_study
from perfmodel.design.study import Study, read_study
from perfmodel.units import as_scalar

STUDY = """
[objective]
minimise = "usd_per_million_tokens"
[constraints]
power_w = 700
[[workload]]
model = "llama-3.1-8b"
batch = 8
{tokens}
[space]
node = ["n7", "n5"]
{space}
[system]
{system}
[optimiser]
starts = 2
"""

TWO = "[space.prefill]\nworkers = 1\n[space.decode]\nworkers = 3\n"


def study_of(tmp_path: Path, tokens: str = "context = 4096", space: str = "", **keys: str) -> Study:
    path = tmp_path / "study.toml"
    text = "\n".join(f"{name} = {value}" for name, value in keys.items())
    path.write_text(STUDY.format(tokens=tokens, space=space, system=text))
    return read_study(path)


def middle(problem: Problem) -> jnp.ndarray:
    return 0.5 * (problem.low + problem.high)


def usd(problem: Problem, node: int = 1) -> float:
    found = assess(problem, middle(problem), jnp.array([node, 0]), as_scalar(1.0))
    return float(found.figures[0]["usd_per_million_tokens"])


def test_development_is_spread_over_the_chips_made(tmp_path: Path):
    without = usd(resolve_study(study_of(tmp_path)))
    few, many = (usd(resolve_study(study_of(tmp_path, volume=n))) for n in ("10_000", "1_000_000"))
    assert without < many < few
    # A hundred times the chips, a hundredth of the share.
    assert (few - without) / (many - without) == pytest.approx(100, rel=1e-2)


def test_a_second_chip_pays_for_its_own_design_and_masks(tmp_path: Path):
    tokens = "prompt = 1024\noutput = 128"
    pools = system(
        problem := resolve_study(study_of(tmp_path, tokens, TWO, volume="100_000")),
        middle(problem), jnp.array([1, 0]), as_scalar(1.0),
    )[0]  # fmt: skip
    assert [float(p.design.development) for p in pools] == pytest.approx([6640, 6640])


def test_what_is_paid_once_is_a_fact_of_its_node(tmp_path: Path):
    study = study_of(tmp_path, volume="100_000")
    problem = resolve_study(study)
    facts = names(problem, study.space)
    assert {"n7.design", "n5.masks", "n5.volume"} <= set(facts)
    dearer = jnp.zeros(len(facts)).at[facts.index("n5.design")].set(np.log(2.0))
    assert usd(shifted(problem, dearer)) > usd(problem)
    assert usd(shifted(problem, dearer), node=0) == pytest.approx(usd(problem, node=0))


@pytest.mark.parametrize(
    ("key", "words"),
    [
        ("volume = 0", "system.volume: it is 0; it should be greater than 0"),
        ("volume = -5", "system.volume: it is -5; it should be greater than 0"),
    ],
)
def test_wrong_keys_are_told_in_one_sentence(tmp_path: Path, key: str, words: str):
    path = tmp_path / "wrong.toml"
    path.write_text(STUDY.format(tokens="context = 4096", space="", system=key))
    status, _, said = run_command("search", path, "--out", tmp_path / "out")
    assert status == 2
    assert words in said
