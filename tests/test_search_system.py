"""Systems of a search as they are made: what is paid once, memories that wear out, channels, cooling."""

import json
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from command import run as run_command

from perfmodel.design.abstract_problem import evaluate_all
from perfmodel.design.chip import bytes_in_flight_rate
from perfmodel.design.facts import names, shifted
from perfmodel.design.problem import Problem, assess, system
from perfmodel.design.resolve import resolve_study
from perfmodel.design.study import Study, read_study
from perfmodel.design.variables import read_space
from perfmodel.errors import InputError
from perfmodel.library.chip import load_chip
from perfmodel.library.cooling import cooling
from perfmodel.library.technology import device
from perfmodel.units import as_scalar

pytestmark = pytest.mark.slow

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


@pytest.mark.slow
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


def slack_of(problem: Problem, name: str, choice: tuple[int, int]) -> float:
    value, slack = evaluate_all(problem, np.full((1, len(problem.names)), 0.5), np.array([choice]))
    assert np.isfinite(value).all()
    return dict(zip(problem.constraint_names, map(float, slack[0]), strict=True))[name]


FLASH = 'memory = ["hbm3e", "hbf"]'


def test_a_cache_wears_flash_out_and_hbm_not(tmp_path: Path):
    problem = resolve_study(study_of(tmp_path, "prompt = 4096\noutput = 512", FLASH))
    assert slack_of(problem, "endurance", (1, 0)) > 10
    flash = slack_of(problem, "endurance", (1, 1))
    # A tenth of the writes: less room by the logarithm of ten.
    facts = names(problem, study_of(tmp_path, "prompt = 4096\noutput = 512", FLASH).space)
    less = jnp.zeros(len(facts)).at[facts.index("hbf.endurance")].set(-np.log(10.0))
    assert slack_of(shifted(problem, less), "endurance", (1, 1)) == pytest.approx(
        flash - np.log(10), abs=1e-3
    )


def test_a_cache_wears_reram_on_the_die_out_long_before_mram_and_sram(tmp_path: Path):
    study = study_of(tmp_path, space='memory = "none"\nsram_mb = { low = 20000, high = 40000 }')
    table = study.space.model_copy(update={"node": ["n16", "n16+reram", "n16+stt-mram"]})
    problem = resolve_study(study.model_copy(update={"space": table}))
    slacks = [slack_of(problem, "endurance", (node, 0)) for node in range(3)]
    assert slacks[1] + 20 < min(slacks[0], slacks[2])


def test_studies_without_such_memories_have_no_such_limit(tmp_path: Path):
    assert "endurance" not in resolve_study(study_of(tmp_path)).constraint_names


def test_pages_of_flash_need_room_for_what_is_on_its_way():
    flash = float(device("hbf").latency)
    assert float(bytes_in_flight_rate(as_scalar(16e6), as_scalar(flash))) == pytest.approx(
        0.9 * 1.6e12
    )
    assert float(bytes_in_flight_rate(as_scalar(16e6), as_scalar(0.0))) > 1e20


def test_lpddr_has_channels_and_hbm_stacks(tmp_path: Path):
    both = read_space(study_of(tmp_path, space='memory = ["hbm3e", "lpddr5x"]'))
    assert {"stacks", "channels"} <= set(both.names)
    alone = read_space(study_of(tmp_path, space='memory = "lpddr5x"'))
    assert "channels" in alone.names and "stacks" not in alone.names
    given = read_space(
        study_of(tmp_path, space='memory = "lpddr5x"\nstacks = { low = 1, high = 9 }')
    )
    assert "stacks" in given.names and "channels" not in given.names
    problem = resolve_study(study_of(tmp_path, space='memory = "lpddr5x"\nchannels = 16'))
    pool = system(problem, middle(problem), jnp.array([1, 0]), as_scalar(1.0))[0][0]
    assert float(pool.design.chip.main.bandwidth) == pytest.approx(16 * 68e9)
    assert float(pool.design.chip.main.capacity) == pytest.approx(16 * 32e9)


@pytest.mark.parametrize(
    ("key", "words"),
    [
        ("volume = 0", "system.volume: it is 0; it should be greater than 0"),
        ("volume = -5", "system.volume: it is -5; it should be greater than 0"),
        ('cooling = "ice"', "system.cooling: it is 'ice'; it should be 'air' or 'liquid'"),
    ],
)
def test_wrong_keys_are_told_in_one_sentence(tmp_path: Path, key: str, words: str):
    path = tmp_path / "wrong.toml"
    path.write_text(STUDY.format(tokens="context = 4096", space="", system=key))
    status, _, said = run_command("search", path, "--out", tmp_path / "out")
    assert status == 2
    assert words in said


def test_cooling_is_what_has_been_shipped():
    def density(name: str) -> float:
        chip = load_chip(name)
        return float(chip.peak_power / chip.area)

    assert cooling("air").package == float(load_chip("b200-sxm").peak_power)
    assert cooling("liquid").package == float(load_chip("rubin").peak_power)
    assert cooling("air").density == pytest.approx(density("h100-sxm"), rel=5e-3)
    assert cooling("liquid").density == pytest.approx(density("rubin"), rel=5e-3)


def test_air_leaves_less_power_than_liquid(tmp_path: Path):
    free = "power_w = { low = 100, high = 700 }"
    air, liquid = (
        resolve_study(study_of(tmp_path, space=free, cooling=f'"{name}"'))
        for name in ("air", "liquid")
    )
    for name in ("package_w", "w_per_mm2"):
        assert slack_of(air, name, (1, 0)) < slack_of(liquid, name, (1, 0))


def test_density_binds_on_a_small_die_with_much_power(tmp_path: Path):
    problem = resolve_study(study_of(tmp_path, cooling='"air"'))
    at = problem.constraint_names.index("w_per_mm2") - len(problem.user_constraints)
    choice = jnp.array([1, 0])

    def slack(x: jnp.ndarray) -> jnp.ndarray:
        return problem.static_constraints(x, choice)[at]

    assert slack(problem.low) < 0
    gradient = jax.grad(slack)(middle(problem))
    assert jnp.isfinite(gradient).all() and (gradient != 0).any()


def test_without_cooling_there_is_no_such_limit(tmp_path: Path):
    assert not {"package_w", "w_per_mm2"} & set(resolve_study(study_of(tmp_path)).constraint_names)


def test_a_wafer_is_no_package(tmp_path: Path):
    with pytest.raises(InputError, match=r"a limit of packages, but space\.base is wse-3"):
        resolve_study(study_of(tmp_path, space='base = "wse-3"', cooling='"air"'))


@pytest.mark.slow
def test_a_search_prices_what_cooling_limits(tmp_path: Path):
    path = tmp_path / "study.toml"
    path.write_text(COOLED)
    status, _, said = run_command("search", path, "--out", tmp_path / "out")
    assert status == 0, said
    limits = json.loads((tmp_path / "out" / "result.json").read_text())["constraints"]
    assert limits["package_w"]["limit"] == 1000
    assert limits["w_per_mm2"]["limit"] == pytest.approx(0.86)
    assert limits["w_per_mm2"]["shadow_price"] > 0 and limits["w_per_mm2"]["slack"] < 1e-3


COOLED = """
[objective]
maximise = "tokens_per_s"
[constraints]
area_mm2 = 600
power_w = 900
[[workload]]
model = "llama-3.1-8b"
batch = 512
prompt = 2000
output = 20
[space]
memory = ["hbm3e"]
tflops = { low = 500, high = 2000 }
power_w = { low = 100, high = 900 }
[system]
cooling = "air"
[optimiser]
starts = 2
"""
