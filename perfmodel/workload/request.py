"""What is asked of a machine."""

import dataclasses
import functools
from collections.abc import Mapping
from typing import Any, TypeVar

import equinox as eqx
import jax
import jax.numpy as jnp

from perfmodel.units import Scalar, Values, as_scalar

S = TypeVar("S", Scalar, Values)

MAX_SPECULATIVE_TOKENS = 16
"""Tokens guessed in a step, at most."""


class Request(eqx.Module):
    """Users who each have one request open, and send the next when it is answered (closed loop); or
    requests that come at a rate (open loop).

    - `concurrency`: requests open at once; what the KV cache has no capacity for waits.
    - `isl`, `osl`: tokens of each, in and out.
    - `batch_size`: prompts that start at the same time: all of a static batch, else one.
    - `prefix_tokens`: tokens of each prompt whose keys and values are there already (prefix caching).
    - `continuous_batching`: 1 where prompts come while others decode, 0 where all decode together.
    - `speculative_tokens`: tokens guessed in each step; `acceptance`: share of guesses that hold.
    - `requests_per_user`: requests of each user; all send the first at once, so a mean over few of them
      has that burst in it. Infinite: no burst.
    - `requests_per_s`: requests a second that come whatever is open; 0 in a closed loop.
    - `length_spread`: half of the range of lengths over their mean; 0: all are equal.
    - `max_num_batched_tokens`: tokens of a step, at most; 0: the framework's default.
    - `read_interval`: decode steps from one time that the scheduler reads requests to the next.
    - `max_num_seqs`: sequences that decode at once on each data rank, at most; 0: as many as fit.
    - `memory_fraction`: share of memory that the server may use; 0: the framework's default.
    """

    concurrency: Scalar = eqx.field(converter=as_scalar)
    isl: Scalar = eqx.field(converter=as_scalar)
    osl: Scalar = eqx.field(converter=as_scalar)
    batch_size: Scalar = eqx.field(converter=as_scalar)
    prefix_tokens: Scalar = eqx.field(converter=as_scalar, default=0.0)
    continuous_batching: Scalar = eqx.field(converter=as_scalar, default=1.0)
    requests_per_user: Scalar = eqx.field(converter=as_scalar, default=float("inf"))
    speculative_tokens: Scalar = eqx.field(converter=as_scalar, default=0.0)
    acceptance: Scalar = eqx.field(converter=as_scalar, default=0.0)
    requests_per_s: Scalar = eqx.field(converter=as_scalar, default=0.0)
    length_spread: Scalar = eqx.field(converter=as_scalar, default=0.0)
    max_num_batched_tokens: Scalar = eqx.field(converter=as_scalar, default=0.0)
    read_interval: Scalar = eqx.field(converter=as_scalar, default=1.0)
    max_num_seqs: Scalar = eqx.field(converter=as_scalar, default=0.0)
    memory_fraction: Scalar = eqx.field(converter=as_scalar, default=0.0)

    def seconds_per_token(self, total: Scalar) -> Scalar:
        """From one output token of all users to the next, where each request takes `total` seconds."""
        return total / (self.concurrency * self.osl)

    def shared(self, replicas: Scalar | float) -> "Request":
        """What each of some replicas is asked."""
        return dataclasses.replace(
            self,
            concurrency=self.concurrency / replicas,
            requests_per_s=self.requests_per_s / replicas,
        )

    @property
    def tokens_after_first(self) -> Scalar:
        """Output tokens after the first, which the prompt gives."""
        return jnp.maximum(self.osl - 1, 0.0)

    def prompts_per_pass(self, ranks: Scalar) -> Scalar:
        """Prompts that a pass has: those that start together, at least one on each of its data `ranks`."""
        return jnp.maximum(self.batch_size, ranks)

    def per_output_token(self, prompt: S, step: S, batch: Scalar) -> S:
        """What one output token spends, its prompt's share included.

        **Arguments:**

        - `prompt`: spent for one prompt; `step`: in a decode step of `batch` sequences; in J, say.
        """
        return (prompt + self.tokens_after_first * step / batch / self.tokens_per_step) / self.osl

    @property
    def tokens_per_step(self) -> Scalar:
        """Of a step: the sum of a geometric series, of which a whole number of terms counts."""
        # Its closed form is 0/0 at an acceptance of 1: the mean of each unit's term is not.
        places = jnp.arange(1.0 * MAX_SPECULATIVE_TOKENS)
        drafted = jnp.clip(self.speculative_tokens - places, 0.0, 1.0)
        return 1.0 + jnp.sum(drafted * self.acceptance ** (places + 1))


def request_of(numbers: Mapping[str, Any]) -> Request:
    """A request of plain numbers or arrays by name, as they are: rows are made by the thousand, and a
    converter would put each of their numbers on a device.
    """
    names = [field.name for field in dataclasses.fields(Request)]
    return jax.tree.unflatten(_structure(), [numbers[name] for name in names])


def with_users(request: Request, users: float) -> Request:
    """The same request of plain numbers, asked by some users."""
    numbers = {field.name: getattr(request, field.name) for field in dataclasses.fields(Request)}
    return request_of(numbers | {"concurrency": users})


@functools.cache
def _structure() -> Any:
    return jax.tree.structure(Request(1.0, 1.0, 1.0, 1.0))


def static_batch(batch: Any, isl: Any, osl: Any) -> Request:
    """Sequences that start together and decode together."""
    return Request(batch, isl, osl, batch, continuous_batching=0.0)
