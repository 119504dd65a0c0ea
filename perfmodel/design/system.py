"""What a system of one or two pools of searched chips does with a workload, and what it costs."""

import dataclasses
from typing import NamedTuple

import jax
import jax.numpy as jnp

from perfmodel.design.chip import ChipDesign
from perfmodel.hardware.board import board_of, held_share
from perfmodel.hardware.cost import YEAR, Ownership, kept_running, price, running, written_off
from perfmodel.inference.disaggregated import Pool as ServingPool
from perfmodel.inference.disaggregated import serve_disaggregated
from perfmodel.inference.placement import place
from perfmodel.inference.service import Service, serve
from perfmodel.inference.step import decode_step
from perfmodel.library.ledger import DEFAULT_BASIS, fact
from perfmodel.units import Scalar, Values, as_scalar
from perfmodel.workload.model import Transformer
from perfmodel.workload.plan import Plan
from perfmodel.workload.request import Request


class Workload(NamedTuple):
    """One workload: a model and its plan, users, their tokens, its share of the objective.

    - `prompt`, `output`: tokens of a request; without them `context` is what users have, decoding.
    """

    model: Transformer
    plan: Plan
    batch: Scalar
    context: Scalar | None
    prompt: Scalar | None
    output: Scalar | None
    weight: Scalar

    @property
    def longest(self) -> Scalar:
        """Tokens of a sequence at its end."""
        if self.context is not None:
            return self.context
        assert self.prompt is not None and self.output is not None
        return self.prompt + self.output

    @property
    def request(self) -> Request:
        """Users in a closed loop."""
        return Request(self.batch, self.prompt, self.output, 1.0)


class Pool(NamedTuple):
    """One pool: its chip, the ranks of one worker, and how many workers."""

    design: ChipDesign
    plan: Plan
    workers: Scalar

    @property
    def chips(self) -> Scalar:
        """In all."""
        return self.plan.chips * self.workers


class Served(NamedTuple):
    """What a workload gets: seconds to the first token (zero where users decode only) and for each
    further one, output tokens a second, joules for each.
    """

    ttft: Scalar
    tpot: Scalar
    rate: Scalar
    energy: Scalar


def served(pools: list[Pool], load: Workload, integer: bool) -> Served:
    """Run a workload on a system."""
    pools = [one._replace(plan=dataclasses.replace(one.plan, integer=integer)) for one in pools]
    if load.context is not None:
        return _decoding(pools[0], load)
    found = _service(pools, load)
    assert load.output is not None
    energy = jnp.asarray(found.energy)
    seen = Served(found.ttft, found.tpot, load.batch * load.output / found.total, energy)
    return at_limit(seen, found.held)


def at_limit(seen: Served, held: Scalar) -> Served:
    """The same where boards at their limit slow down until they have done all their work.

    **Arguments:**

    - `held`: share of the power of work that the limit leaves.
    """
    return delayed(seen._replace(energy=seen.energy / held), 1 / held)


def delayed(seen: Served, factor: Scalar) -> Served:
    """The same with all times `factor` times as long."""
    return Served(seen.ttft * factor, seen.tpot * factor, seen.rate / factor, seen.energy)


def _decoding(pool: Pool, load: Workload) -> Served:
    assert load.context is not None
    each = load.batch / pool.workers
    chip = pool.design.chip
    cost = decode_step(chip, pool.plan, load.model, each, load.context)
    room = board_of(chip, pool.plan.chips).room
    seen = Served(
        as_scalar(0.0), cost.time, load.batch / cost.time, jnp.asarray(cost.energy) / each
    )
    return at_limit(seen, held_share(jnp.sum(cost.work) / cost.time, room))


def _service(pools: list[Pool], load: Workload) -> Service:
    if len(pools) == 1:
        each = dataclasses.replace(load.request, concurrency=load.batch / pools[0].workers)
        return serve(pools[0].design.chip, pools[0].plan, load.model, each)
    prefill, decode = (ServingPool(one.design.chip, one.plan, one.workers) for one in pools)
    return serve_disaggregated(prefill, decode, load.model, load.request)


def capacity_slack(pools: list[Pool], load: Workload) -> Scalar:
    """Memory over what is kept in it at the end of every sequence, as a logarithm; of the tightest pool."""
    slacks = []
    for i, pool in enumerate(pools):
        users = load.batch / pool.workers if i == len(pools) - 1 else pool.plan.dp
        found = place(pool.design.chip, pool.plan, load.model, users, load.longest)
        used = found.size + found.cache_size
        slacks.append(jnp.log(jnp.maximum(found.slack + used, 1.0) / used))
    return jnp.min(jnp.stack(slacks))


LIFE = 5 * YEAR
"""In s, for which a memory must stand the writes of a cache (as servers' drives are warranted)."""


NOT_WORN = 40.0
"""Slack of a memory that is not there, as a logarithm: no limit."""


def wear_slack(pools: list[Pool], load: Workload, seen: Served) -> Scalar:
    """Writes that cells survive over those of a cache in `LIFE`, as a logarithm; of the tightest memory.

    Writes are spread evenly over a memory. A token is written once, in each pool that holds it; users who
    only decode write what they decode.
    """
    slacks = []
    for i, pool in enumerate(pools):
        users = load.batch / pool.workers if i == len(pools) - 1 else pool.plan.dp
        chip = pool.design.chip
        found = place(chip, pool.plan, load.model, users, load.longest)
        token = found.cache_size / (users * load.longest)
        written = token * tokens_written(load) * seen.rate / pool.workers * LIFE
        shares = (found.cache.main, found.cache.private + found.cache.shared)
        sizes = (chip.main.capacity, chip.private.capacity + chip.shared.capacity)
        for share, size, writes in zip(shares, sizes, pool.design.endurance, strict=True):
            left = jnp.log((writes * size + 1.0) / (share * written + 1.0))
            # What finds no room breaks another limit.
            slacks.append(jnp.where(size > 0, left, NOT_WORN))
    return jnp.min(jnp.stack(slacks))


def tokens_written(load: Workload) -> Scalar:
    """To the cache for each token that is put out: of prompts, too, where users bring some."""
    if load.prompt is None or load.output is None:
        return as_scalar(1.0)
    return 1 + load.prompt / load.output


class SystemCost(NamedTuple):
    """What a system costs.

    - `area`: of all dies, in m2; `paid`: for all chips, with their development, in USD.
    - `running`: to own and run it, in USD/s; `power`: that it draws, in W.
    """

    area: Scalar
    paid: Scalar
    running: Scalar
    power: Scalar


def cost_of(
    pools: list[Pool], owner: Ownership, drawn: Scalar, basis: str = DEFAULT_BASIS
) -> SystemCost:
    """A system whose chips draw `drawn` W together, each provisioned for its limit; by one of `BASES`."""
    area = sum((one.chips * one.design.area for one in pools), as_scalar(0.0))
    paid = sum((one.chips * price(one.design.cost, owner) for one in pools), as_scalar(0.0))
    once = sum((one.chips * one.design.development for one in pools), as_scalar(0.0))
    limit = sum((one.chips * one.design.chip.peak_power for one in pools), as_scalar(0.0))
    hours = BASES[basis](paid, drawn, limit, owner) + CAPITAL[basis](once, owner)
    return SystemCost(area, paid + once, hours, drawn)


def chip_price(design: ChipDesign, owner: Ownership) -> Scalar:
    """USD of a chip as it is sold, with its share of what its development cost."""
    return price(design.cost, owner) + design.development


def _rented(paid: Scalar, drawn: Scalar, limit: Scalar, owner: Ownership) -> Scalar:
    """Nobody rents what nobody makes: what owning costs, by what rentals are of it."""
    return fact("rental_over_owner") * running(paid, drawn, limit, owner)


BASES = {"owner": running, "rental": _rented, "marginal": kept_running}
"""USD/s of chips by what was paid for them, in USD, and the power that they draw and their limit, in W."""


def _rented_capital(once: Scalar, owner: Ownership) -> Scalar:
    return fact("rental_over_owner") * written_off(once, owner)


def _spent(once: Scalar, owner: Ownership) -> Scalar:
    """A machine that stands has paid for its development."""
    return 0.0 * once


CAPITAL = {"owner": written_off, "rental": _rented_capital, "marginal": _spent}
"""USD/s of what was paid once, in USD: neither host nor network nor margin goes with it."""


def in_scenario(load: Workload, scenario: dict[str, Scalar]) -> Workload:
    """A workload with factors on its users, their tokens and its model."""
    given = {name: getattr(load, name) for name in ("context", "prompt", "output")}
    tokens = {n: size * scenario["context"] for n, size in given.items() if size is not None}
    model = scale_model(load.model, scenario["model"])
    return load._replace(batch=load.batch * scenario["batch"], model=model, **tokens)


def scale_model(model: Transformer, factor: Scalar) -> Transformer:
    """A model of `factor` times the parameters: deeper and wider by the third root, cube for cube.

    Head sizes, experts and vocabulary stay.
    """

    def grow(path: tuple, leaf: Values) -> Values:
        name = getattr(path[-1], "name", "")
        return leaf * factor ** (1 / 3) if name in SCALED_SIZES else leaf

    return jax.tree_util.tree_map_with_path(grow, model)


SCALED_SIZES = ("hidden", "count", "heads", "kv_heads", "inter", "shared", "width")
"""Sizes of a model that grow with it."""


def with_context(load: Workload, context: Scalar) -> Workload:
    """A request of `context` tokens in all keeps its share of output."""
    if load.context is not None:
        return load._replace(context=context)
    assert load.prompt is not None and load.output is not None
    scale = context / (load.prompt + load.output)
    return load._replace(prompt=load.prompt * scale, output=load.output * scale)
