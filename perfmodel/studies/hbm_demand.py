"""Q9: how much HBM is not bought when fast tokens move to SRAM?"""

import numpy as np

from perfmodel.library.chip import load_chip
from perfmodel.library.economics import load_economics
from perfmodel.library.market import market, spread
from perfmodel.studies.answer import Answer, Axis, Figure, Progress, Study, Table, show
from perfmodel.studies.draws import Draws, middle, share
from perfmodel.studies.fronts import HBM, SRAM, WAFER, Cloud, best, cloud, least

TARGETS = tuple(float(round(x)) for x in np.geomspace(10, 250, 15))
MUCH = 0.1
"""Share of all HBM from which on one would speak of erosion."""


def held(found: Cloud) -> np.ndarray:
    """Bytes of HBM that are taken for a second by one output token, at every point and draw."""
    size = [
        float(load_chip(s.asked.machine.chip).main.capacity) * s.asked.machine.chips
        for s in found.seen
    ]
    time = np.array([s.held for s in found.seen])[:, None]
    slow = np.array([s.speed for s in found.seen])[:, None] / found.speed
    return np.array(size)[:, None] * time * slow


def run(progress: Progress) -> Answer:
    draws = Draws()
    found = cloud(progress, draws)
    size = np.where(found.of([HBM])[:, None], held(found), np.inf)
    usual = market().demand["usual"].si("1/s")
    fast = usual * market().premium["speed"].value
    part = draws.of(spread(market().demand["fast"], "1"))
    slow_, quick = (least(found, size, [HBM], target) for target in (usual, fast))
    cheaper = least(found, found.dollars, SRAM, fast) < least(found, found.dollars, [HBM], fast)
    possible = np.isfinite(quick)
    # What no GPU can serve would not have been bought as HBM.
    moved = np.where(cheaper & possible, part * np.where(possible, quick, 0.0), 0.0)
    eroded = moved / ((1 - part) * slow_ + part * np.where(possible, quick, 0.0))
    gone, wafers = middle(eroded), _contract(found)
    one, two = middle(slow_).median, middle(quick[possible]).median
    power = market().contract["power"].si("W") / 1e6
    said = (
        f"A token at {usual:.0f} tokens/s holds {show(one / 1e6)} MB of HBM for a second, one at {fast:.0f} "
        f"tokens/s {show(two / 1e6)} MB; if {show(100 * market().demand['fast'].value, 1)} % of tokens are "
        f"that fast and go where they are cheaper, {show(100 * float(np.mean(eroded)))} % of HBM is not "
        f"bought ({show(100 * gone.low)} to {show(100 * gone.high)} in 90 %). OpenAI's {power:.0f} MW of "
        f"wafers stand for {show(wafers / 1e15)} PB of HBM at the slower speed."
    )
    return Answer(
        said,
        share(eroded > MUCH),
        f"SRAM is cheaper at {fast:.0f} tokens/s in {100 * share(cheaper):.0f} % of draws; the share of fast "
        "tokens is drawn from 1 to 20 %, since nobody publishes it.",
        _table(found, size),
        _figure(found, size),
        (
            "One dense model of 70 billion parameters; a sparse one holds more HBM for each token.",
            "What no GPU can serve counts as new demand, not as HBM that is not bought.",
            "Faster and cheaper tokens are also more tokens: that growth is not in it.",
        ),
        {
            "hbm_bytes_slow": one,
            "hbm_bytes_fast": two,
            "eroded": float(np.mean(eroded)),
            "eroded_high": gone.high,
            "contract_hbm_bytes": wafers,
        },
    )


def _contract(found: Cloud) -> float:
    """Bytes of HBM that would serve what the contract's wafers serve, at a usual tier's speed."""
    usual = market().demand["usual"].si("1/s")
    wafer, gpu = best(found, [WAFER], usual), best(found, [HBM], usual)
    assert wafer is not None and gpu is not None
    power = float(load_chip("wse-3").peak_power) * load_economics().overhead
    rate = market().contract["power"].si("W") / power / wafer.asked.machine.chips / wafer.held
    size = float(load_chip(gpu.asked.machine.chip).main.capacity) * gpu.asked.machine.chips
    return rate * gpu.held * size


def _table(found: Cloud, size: np.ndarray) -> Table:
    rows = []
    for target in TARGETS:
        drawn = least(found, size, [HBM], target)
        wins = share(
            least(found, found.dollars, SRAM, target) < least(found, found.dollars, [HBM], target)
        )
        half = middle(drawn).median / 1e6
        rows.append((target, half if np.isfinite(half) else float("nan"), 100 * wins))
    return Table(["tokens/s a user", "MB of HBM for a token/s", "SRAM cheaper, % of draws"], rows)


def _figure(found: Cloud, size: np.ndarray) -> Figure:
    rows = []
    for target, mega, wins in _table(found, size).rows:
        if np.isfinite(mega):
            rows.append({"speed": target, "mb": mega, "wins": "yes" if wins > 50 else "no"})
    return Figure(
        "HBM that a token holds for a second, on GPUs",
        "points",
        Axis("speed", "speed of one user", "tokens/s", log=True),
        Axis("mb", "HBM for each token/s", "MB", log=True),
        Axis("wins", "SRAM cheaper"),
        rows,
    )


STUDY = Study(
    name="hbm-demand",
    question="Q9",
    title="How much HBM is not bought when fast tokens move to SRAM?",
    claim="SRAM inference erodes the demand for HBM.",
    source="AI Inference Efficiency Gains Shake Memory Chip Stocks",
    test="more than a tenth of all HBM is not bought, with fast tokens where they are cheaper",
    seconds=40,
    run=run,
)
