r"""Energy of a token at the wall, from what it computes and moves and from how fast tokens come.

$$E = a\,\frac{\min\big(P_\text{limit},\; P_0 + r \sum_i f_i J_i\big)}{r}$$

with the plain joules $J_i$ that a breakdown counts for each resource, the factors $f_i$ that make them
all-in (`hardware.power.all_in`), static power $P_0$, $r$ tokens/s of a chip, and $a$ watts at the
wall for each watt of the chips: fans, host, conversion.
"""

from perfmodel.breakdown import JOULES
from perfmodel.hardware.chip import Chip
from perfmodel.inference.service import limited_to, running_sequences, steps_of
from perfmodel.smooth import soft_min
from perfmodel.units import Scalar, Values
from perfmodel.workload.model import Transformer
from perfmodel.workload.plan import Plan
from perfmodel.workload.request import Request


def token_joules(chip: Chip, plan: Plan, model: Transformer, request: Request) -> Values:
    """Plain joules of one output token by resource of `JOULES`, its share of the prompt included.

    Of all chips of the plan; arithmetic, arrays, devices and wires alone, and no static power.
    """
    batch = running_sequences(chip, plan, model, request)
    request = limited_to(request, batch)
    joules = steps_of(chip, plan, model, request, batch).joules
    return joules.at[JOULES.index("idle")].set(0.0)


def power_at(
    joules: Values, rate: Scalar, factors: dict[str, Scalar], static: Scalar, limit: Scalar
) -> Scalar:
    """Power of one chip at `rate` tokens/s, in W; smoothly below its limit.

    **Arguments:**

    - `joules`: of a token by resource of `JOULES`, of this chip.
    - `factors`: that make them all-in; `static`: power without work, in W; `limit`: in W.
    """
    dynamic = sum(joules[JOULES.index(name)] * factor for name, factor in factors.items())
    return soft_min(static + rate * dynamic, limit)
