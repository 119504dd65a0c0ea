r"""What a user of a machine sees: time to first token, time per output token, energy.

TTFT is the time of a prompt, or of all prompts of a static batch; there is no queue yet.
TPOT is the time of one decode step with the whole batch in flight, at the mean length of
the text, $\text{prompt} + \text{output}/2$. A user waits TTFT + (output - 1) x TPOT.
"""

import equinox as eqx
import jax.numpy as jnp

from perfmodel.hardware.chip import Chip
from perfmodel.inference.placement import place
from perfmodel.inference.step import costs, decode_pass, prompt_pass
from perfmodel.units import Scalar, Values
from perfmodel.workload.plan import Plan
from perfmodel.workload.traffic import Traffic
from perfmodel.workload.transformer import Transformer


class Service(eqx.Module):
    """What a user sees, and what the machine spends.

    - `ttft`, `tpot`: time to first token, and per output token, in s.
    - `total`: seconds from a prompt to its last token.
    - `energy`: of all chips for one output token, the prompt's share included, in J.
    - `slack`: bytes free on a chip when every text has its full length; negative: short.
    - `seconds`: of a decode step, for each of `BOUNDS`.
    """

    ttft: Scalar
    tpot: Scalar
    total: Scalar
    energy: Scalar
    slack: Scalar
    seconds: Values


def serve(chip: Chip, plan: Plan, model: Transformer, traffic: Traffic) -> Service:
    """Serve `traffic` with a model on the chips of a plan."""
    middle = traffic.prompt + traffic.output / 2
    tokens = decode_pass(chip, plan, model, traffic.batch, middle)
    prompts = prompt_pass(chip, plan, model, traffic.together, traffic.prompt, traffic.prompt)
    step, first = costs(chip, plan, model, [tokens, prompts])
    full = place(chip, plan, model, traffic.batch, traffic.prompt + traffic.output)
    later = jnp.maximum(traffic.output - 1, 0.0)
    return Service(
        ttft=first.time,
        tpot=step.time,
        total=first.time + later * step.time,
        energy=(first.energy / traffic.together + later * step.energy / traffic.batch)
        / traffic.output,
        slack=full.slack,
        seconds=step.breakdown.by_bound(),
    )


def largest_batch(chip: Chip, plan: Plan, model: Transformer, length: Scalar) -> Scalar:
    """Sequences of `length` tokens that fit beside the weights; at least one."""
    one = place(chip, plan, model, plan.data * plan.pipeline, length)
    room = one.slack + one.cache_size
    return jnp.maximum(jnp.floor(room / one.cache_size) * plan.data * plan.pipeline, 1.0)
