r"""What users of a closed loop wait for, from the seconds of a step and of a prompt.

With $C$ users in a closed loop, $B = \min(C, M)$ sequences decode at once, where the KV cache has the
capacity for $M$; the other users wait. Each sequence brings one prompt in the $R$ steps of its
output, and a prompt makes a step longer by $P$.

**Lengths that differ** spread users evenly (`spread_users`):

$$\text{TPOT} = \frac{\text{step}(B)}{\text{tokens}} + P\,\frac{B-1}{R}$$

TTFT is a mean: a prompt waits for half a step (half of $r$ steps where requests are read after each $r$),
rides on one, waits behind the burst with which a run of few rounds begins, and for KV-cache capacity where
there is none:

$$\text{TTFT} = t_0 + \text{prompt} + \tfrac r2\,\text{step} + \frac{b\,P\,B}{2\,\text{rounds}}
  + \Bigl(\frac{C}{B}-1\Bigr) H, \quad H = \text{prompt} + \tfrac r2\,\text{step} + (R-1)\,\text{TPOT}$$

A sequence holds its cache for $H$, so $C$ users get $B / H$ answers a second (Little's law). A static batch
whose caches do not fit together runs in $\lceil C/B \rceil$ waves, one after the other.

**Equal lengths** keep users who begin together in step for ever (`users_in_step`): with $k$ prompts a step
all prompts take $n = C/k$ steps of $p = \text{step} + kP$ seconds. Answers end in the order in which they
began, so that prompts come back one step's worth at a time, $d$ seconds after the last token: the server's
turnaround, and what it takes to send a prompt and make it tokens. Of these waves
$m$ pile up while an answer travels: all where prompts take steps of their own, else at most
$1 + a + d/\text{step}$, with $a = 1$ where the next step is scheduled while one runs. With
$w = m\,(1 - (m-1)/2n)$

$$\text{TTFT} = p\,w + x\,(d + \tfrac12\,\text{step}), \quad
  \text{TPOT} = \frac{\text{step}}{\text{tokens}} + \frac{P}{R}\,\max(0, C - k\,w)$$

where $x$ is 1 if all waves pile up ($m = n$) and 0 if they do not, with a ramp one wave wide between them.
Where prompts take steps of their own TPOT has $P\,(C - k)/2R$: a user meets half of the others' prompts
after its own first token. The first round has all prompts at once: $p\,(n+1)/2 + d$.
"""

from typing import NamedTuple

import jax.numpy as jnp

from perfmodel.hardware.parameters import HostEfficiency
from perfmodel.units import Scalar
from perfmodel.workload.request import Request


class Steps(NamedTuple):
    """Seconds that a closed loop is made of, the host's included.

    - `step`: of a decode step with `batch` sequences.
    - `prompt`: of the prompts that start together, with nothing beside them.
    - `prefill_interference`: by which one prompt makes a decode step longer.
    - `burst_interference`: the same where all data ranks have prompts at once.
    - `prompts_together`: prompts of one step, on all data ranks, where users are in step; 0 where they are
      not.
    - `separate_prefill`, `scheduled_ahead`: 1 where prompts take steps of their own, and where the next step
      is scheduled while one runs.
    """

    batch: Scalar
    step: Scalar
    prompt: Scalar
    prefill_interference: Scalar
    burst_interference: Scalar
    prompts_together: Scalar | float = 0.0
    separate_prefill: Scalar | float = 0.0
    scheduled_ahead: Scalar | float = 0.0


class Waits(NamedTuple):
    """TTFT, TPOT, and seconds from a request to its last token after the first burst."""

    ttft: Scalar
    tpot: Scalar
    total: Scalar


def closed_loop(steps: Steps, host: HostEfficiency, request: Request) -> Waits:
    """What users wait for, from the seconds of a step and of a prompt."""
    in_step = jnp.logical_and(steps.prompts_together > 0, request.concurrency <= steps.batch)
    waits = users_in_step(steps, host, request), spread_users(steps, host, request)
    return Waits(*(jnp.where(in_step, *either) for either in zip(*waits, strict=True)))


def spread_users(steps: Steps, host: HostEfficiency, request: Request) -> Waits:
    """Users whose prompts come at any time."""
    others = request.continuous_batching * jnp.maximum(steps.batch - 1, 0.0)
    tpot = steps.step / request.tokens_per_step + steps.prefill_interference * others / request.osl
    busy = others / jnp.maximum(steps.batch, 1.0)
    burst = host.burst * steps.burst_interference * others / 2 / request.requests_per_user
    prompt = steps.prompt + wait_for_step(request, busy, tpot)
    queue, total = queueing(request, steps.batch, prompt + request.tokens_after_first * tpot)
    before = host.before_prompt(request.isl)
    return Waits(before + prompt + burst + queue, tpot, before + total)


def wait_for_step(request: Request, busy: Scalar, tpot: Scalar) -> Scalar:
    """Seconds until the scheduler has read a request: half of the time from one reading to the next.

    **Arguments:**

    - `busy`: share of the time in which others decode.
    """
    return busy * jnp.maximum(request.read_interval, 1.0) * tpot / 2


class Waves(NamedTuple):
    """Prompts of users in step.

    - `together`: prompts of a step; `waves`: steps that have all users' prompts.
    - `seconds`: of a step with prompts; `waiting`: such steps until a prompt's own has ended, on average.
    - `all_wait`: 1 where the prompts of all waves are there before the first has its answer, 0 where they are
      not, and between where it is within half a wave, so that TTFT has no jump.
    """

    together: Scalar
    waves: Scalar
    seconds: Scalar
    waiting: Scalar
    all_wait: Scalar


def waves_of(steps: Steps, delay: Scalar) -> Waves:
    """How the prompts of users in step follow one another, each `delay` seconds after an answer."""
    together = jnp.clip(steps.prompts_together, 1.0, jnp.maximum(steps.batch, 1.0))
    waves = jnp.maximum(steps.batch, 1.0) / together
    beside = steps.step + steps.burst_interference * together
    alone = jnp.maximum(steps.prompt, steps.burst_interference * together)
    own_step = jnp.logical_or(steps.separate_prefill > 0, waves <= 1)
    seconds = jnp.where(own_step, alone, beside)
    travelling = 1 + steps.scheduled_ahead + delay / steps.step
    piled = jnp.where(steps.separate_prefill > 0, waves, jnp.minimum(waves, travelling))
    waiting = piled * (1 - (piled - 1) / (2 * waves))
    all_wait = jnp.where(
        steps.separate_prefill > 0, 1.0, jnp.clip(travelling - waves + 0.5, 0.0, 1.0)
    )
    return Waves(together, waves, seconds, waiting, all_wait)


def users_in_step(steps: Steps, host: HostEfficiency, request: Request) -> Waits:
    """Users who begin together and whose prompts and answers are of equal length."""
    delay = host.before_next_prompt(request.isl)
    found = waves_of(steps, delay)
    others = jnp.maximum(steps.batch - found.together * found.waiting, 0.0)
    own = jnp.maximum(steps.batch - found.together, 0.0) / 2
    met = jnp.where(steps.separate_prefill > 0, own, others)
    tpot = steps.step / request.tokens_per_step + steps.prefill_interference * met / request.osl
    in_queue = found.all_wait * (delay + steps.step / 2)
    least = delay + steps.prompt + steps.step * (0.5 + steps.scheduled_ahead)
    later = jnp.maximum(found.seconds * found.waiting + in_queue, least)
    first = found.seconds * (found.waves + 1) / 2 + delay
    ttft = later + (first - later) / request.requests_per_user
    return Waits(ttft, tpot, later + request.tokens_after_first * tpot)


def queueing(request: Request, batch: Scalar, residence: Scalar) -> tuple[Scalar, Scalar]:
    """Seconds that a request waits for KV-cache capacity, and until it is answered (all of a static batch).

    **Arguments:**

    - `residence`: seconds for which each of `batch` sequences keeps its cache.
    """
    times = request.concurrency / batch
    waves = jnp.ceil(times)
    mean = (waves - 1) * (1 - waves / times / 2)
    queue = jnp.where(request.continuous_batching > 0, times - 1, mean) * residence
    return queue, jnp.where(request.continuous_batching > 0, times, waves) * residence
