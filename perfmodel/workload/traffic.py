"""What is asked of a machine."""

from typing import Any, TypeVar

import equinox as eqx
import jax.numpy as jnp

from perfmodel.units import Scalar, Values, as_scalar

S = TypeVar("S", Scalar, Values)

MOST_DRAFTED = 16
"""Tokens guessed in a step, at most."""


class Traffic(eqx.Module):
    """Users who each have one request open, and send the next when it is answered (closed loop); or
    requests that come at a rate (open loop).

    - `users`: requests open at once; what the machine has no room for waits.
    - `prompt`, `output`: tokens of each, in and out.
    - `together`: prompts that start at the same time: all of a static batch, else one.
    - `cached`: tokens of each prompt whose keys and values are there already (prefix caching).
    - `steady`: 1 where prompts come while others decode, 0 where all decode together.
    - `drafted`: tokens guessed in each step; `acceptance`: share of guesses that hold.
    - `rounds`: requests of each user; all send the first at once, so a mean over few rounds
      has that burst in it. Infinite: no burst.
    - `rate`: requests a second that come whatever is open; 0 in a closed loop.
    """

    users: Scalar = eqx.field(converter=as_scalar)
    prompt: Scalar = eqx.field(converter=as_scalar)
    output: Scalar = eqx.field(converter=as_scalar)
    together: Scalar = eqx.field(converter=as_scalar)
    cached: Scalar = eqx.field(converter=as_scalar, default=0.0)
    steady: Scalar = eqx.field(converter=as_scalar, default=1.0)
    rounds: Scalar = eqx.field(converter=as_scalar, default=float("inf"))
    drafted: Scalar = eqx.field(converter=as_scalar, default=0.0)
    acceptance: Scalar = eqx.field(converter=as_scalar, default=0.0)
    rate: Scalar = eqx.field(converter=as_scalar, default=0.0)

    @property
    def later(self) -> Scalar:
        """Output tokens after the first, which the prompt gives."""
        return jnp.maximum(self.output - 1, 0.0)

    def at_once(self, ranks: Scalar) -> Scalar:
        """Prompts that a pass has: those that start together, at least one on each of its data `ranks`."""
        return jnp.maximum(self.together, ranks)

    def a_token(self, prompt: S, step: S, batch: Scalar) -> S:
        """What one output token spends, its prompt's share included.

        **Arguments:**

        - `prompt`: spent for one prompt; `step`: in a decode step of `batch` sequences; in J, say.
        """
        return (prompt + self.later * step / batch / self.tokens) / self.output

    @property
    def tokens(self) -> Scalar:
        """Of a step: the sum of a geometric series, of which a whole number of terms counts."""
        # Its closed form is 0/0 at an acceptance of 1: the mean of each unit's term is not.
        places = jnp.arange(1.0 * MOST_DRAFTED)
        there = jnp.clip(self.drafted - places, 0.0, 1.0)
        return 1.0 + jnp.sum(there * self.acceptance ** (places + 1))


def static_batch(batch: Any, prompt: Any, output: Any) -> Traffic:
    """Sequences that start together and decode together."""
    return Traffic(batch, prompt, output, batch, steady=0.0)
