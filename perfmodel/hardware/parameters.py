"""Fitted parameters: how much of its peak rates a chip reaches, and what it costs to start.

Each field carries its unit, the bounds that keep it physical, how it follows the clock and the rate of a
format, and whose it is.
They are facts that a chip carries; `perfmodel.calibration` fits them, nothing else changes them.
"""

import dataclasses
from collections.abc import Iterator
from typing import Any, Literal

import equinox as eqx
import jax.numpy as jnp
import numpy as np

from perfmodel.units import Scalar, Values, as_scalar, as_values

Owner = Literal["chip", "framework", "server", "benchmark"]
"""Whose a parameter is: the chip's; a framework's, as it tells how many kernels and passes that adds; the
server's that the chip was measured in; or a benchmark's, which replays kernels: service has none of it."""


def parameter(
    low: float,
    high: float,
    unit: str = "1",
    clock: int | None = None,
    owner: Owner = "chip",
    rate: int = 0,
) -> Any:
    """A field fitted between `low` and `high`, written in files in `unit`.

    **Arguments:**

    - `clock`: the power of the cores' clock with which it goes; if not given, times take cycles (-1), and
      nothing else follows the clock.
    - `owner`: whose it is.
    - `rate`: the power of the format's matrix rate, over that of bf16, with which it goes.
    """
    power = (-1 if unit == "us" else 0) if clock is None else clock
    metadata = {"low": low, "high": high, "unit": unit, "clock": power, "owner": owner}
    metadata["rate"] = rate
    return eqx.field(converter=as_scalar, metadata=metadata)


def parameters(kind: type) -> Iterator[dataclasses.Field[Any]]:
    """The fitted fields of an efficiency class, in order."""
    return (field for field in dataclasses.fields(kind) if "low" in field.metadata)


def rescaled(field: Any, value: Any, clock: float, rate: float = 1.0) -> Any:
    """A parameter, in SI, where the clock and the rate of a format are so many times as high; within its
    bounds.
    """
    follows = field.metadata
    moved = value * clock ** follows["clock"] * rate ** follows["rate"]
    return np.clip(moved, follows["low"], follows["high"])


class GemmEfficiency(eqx.Module):
    """Dense matrix product.

    - `launch`: from the end of one kernel to the first work of the next.
    - `sustained`: share of the matrix peak at which multiplications issue.
    - `energy_factor`: energy of a product over that of its multiplications alone: operands, clocks,
      leakage.
    - `power_limit_onset`: work at the matrix peak half of which runs before a power limit holds (a
      benchmark's effect: in service the limit has long been reached).
    - `feed`: share of the shared tier's peak at which tiles reach the cores; above 1 where cores
      find a neighbour's read on its way.
    - `l2_bandwidth`: share of the shared tier's peak at which what stays there is read: partial sums,
      and a benchmark's operands.
    - `streaming`: share of main memory's peak.
    - `memory_ramp`: until main memory serves at that rate: its first bytes on their way.
    - `private`: share of the private SRAM's peak, where weights live in it.
    - `prologue`: time to fill and drain a tile's pipeline, in steps of k.
    - `step_overhead`: what each step of k costs a tile besides its operands, in bytes that would have come.
    - `splitk_reduction`: added when k is split over cores, for the reduction.
    - `wave_quantisation`: weight of whole waves against fractional ones.
    - `quantise_bandwidth`: share of the shared tier's peak at which activations are quantised.
    - `selection_sharpness`: how surely the library picks the fastest tile.
    - `l2_hit_capacity`, `l2_hit_sharpness`: footprint at which half of replayed operands stay in the
      shared tier, over its capacity, and how sharply that falls (a benchmark's effect).
    """

    launch: Scalar = parameter(1e-8, 1e-4, "us", owner="framework")
    sustained: Scalar = parameter(0.2, 1.0)
    energy_factor: Scalar = parameter(1.0, 30.0, clock=2)
    power_limit_onset: Scalar = parameter(1e-6, 1e-1, "us", clock=0, owner="benchmark")
    feed: Scalar = parameter(0.05, 8.0)
    l2_bandwidth: Scalar = parameter(0.02, 4.0)
    streaming: Scalar = parameter(0.3, 1.0)
    memory_ramp: Scalar = parameter(1e-8, 1e-5, "us", clock=0)
    private: Scalar = parameter(0.01, 1.0)
    prologue: Scalar = parameter(1.0, 2000.0, rate=1)
    step_overhead: Scalar = parameter(1.0, 3000.0)
    splitk_reduction: Scalar = parameter(1e-8, 1e-4, "us")
    quantise_bandwidth: Scalar = parameter(0.01, 4.0, owner="framework")
    wave_quantisation: Scalar = parameter(0.0, 1.0)
    selection_sharpness: Scalar = parameter(1.0, 200.0)
    l2_hit_capacity: Scalar = parameter(0.1, 4.0, owner="benchmark")
    l2_hit_sharpness: Scalar = parameter(0.5, 60.0, owner="benchmark")


class AttentionDecodeEfficiency(eqx.Module):
    """Attention of one new token per sequence over its cache.

    - `launch`, `sustained`, `feed`, `streaming`, `private`, `wave_quantisation`, `selection_sharpness`,
      `l2_hit_capacity`, `l2_hit_sharpness`: as for the matrix product.
    - `wide_head_rate`: share of the rates left for heads of 256 numbers, whose tiles crowd the registers.
    - `block_start`: to start a thread block and to end it; `block_start_cuda`: the same for one that
      multiplies on the vector units (CUDA cores).
    - `flop_per_element`: FLOPs of the vector units for each number of the cache, where they take it for
      one query: conversion, both products, addresses.
    - `per_sequence`: added for each sequence of the batch (its page table, its append).
    - `splitkv_reduction`: added when the cache is split over cores.
    - `rope_passes`: passes over queries and outputs beside the kernel's own (rotary embedding, formats).
    - `kv_reread`: share of a cache that main memory serves anew to each further block that reads it.
    - `extra_pass`: of one more pass that a framework's rule adds.
    """

    launch: Scalar = parameter(1e-8, 1e-4, "us", owner="framework")
    sustained: Scalar = parameter(0.05, 1.0)
    wide_head_rate: Scalar = parameter(0.1, 1.0)
    feed: Scalar = parameter(0.05, 8.0)
    streaming: Scalar = parameter(0.3, 1.0)
    private: Scalar = parameter(0.01, 1.0)
    block_start: Scalar = parameter(1e-9, 2e-5, "us")
    block_start_cuda: Scalar = parameter(1e-9, 2e-5, "us")
    flop_per_element: Scalar = parameter(1.0, 500.0)
    per_sequence: Scalar = parameter(1e-12, 1e-6, "us", owner="framework")
    splitkv_reduction: Scalar = parameter(1e-8, 1e-4, "us")
    extra_pass: Scalar = parameter(1e-8, 1e-4, "us", owner="framework")
    rope_passes: Scalar = parameter(0.0, 20.0, owner="framework")
    kv_reread: Scalar = parameter(0.0, 1.0)
    wave_quantisation: Scalar = parameter(0.0, 1.0)
    selection_sharpness: Scalar = parameter(0.5, 200.0)
    l2_hit_capacity: Scalar = parameter(0.05, 4.0, owner="benchmark")
    l2_hit_sharpness: Scalar = parameter(0.5, 60.0, owner="benchmark")


class AttentionPrefillEfficiency(eqx.Module):
    """Causal attention of a whole prompt.

    - `launch`, `sustained`, `feed`, `streaming`, `private`, `wave_quantisation`, `l2_hit_capacity`,
      `l2_hit_sharpness`: as for the matrix product.
    - `exponential`: share of the peak rate of exponentials.
    - `wide_head_rate`: share of the rates left for heads of 256 numbers, whose tiles crowd the registers.
    - `block_start`, `window_start`: to start a thread block, and more where a window cuts it.
    - `tail`: share of the longest block that no other block hides.
    - `rope_passes`, `append_passes`: passes over queries, and over keys and values, before the product
      itself (rotary embedding, append to the cache).
    - `per_token`: added for each token (its append to a paged cache).
    """

    launch: Scalar = parameter(1e-8, 1e-4, "us", owner="framework")
    sustained: Scalar = parameter(0.05, 1.0)
    exponential: Scalar = parameter(0.02, 4.0)
    wide_head_rate: Scalar = parameter(0.1, 1.0)
    feed: Scalar = parameter(0.05, 8.0)
    streaming: Scalar = parameter(0.3, 1.0)
    private: Scalar = parameter(0.01, 1.0)
    block_start: Scalar = parameter(1e-9, 2e-5, "us")
    window_start: Scalar = parameter(1e-9, 2e-5, "us")
    tail: Scalar = parameter(0.0, 1.0)
    rope_passes: Scalar = parameter(0.0, 20.0, owner="framework")
    append_passes: Scalar = parameter(0.0, 20.0, owner="framework")
    per_token: Scalar = parameter(1e-13, 1e-7, "us", owner="framework")
    wave_quantisation: Scalar = parameter(0.0, 1.0)
    l2_hit_capacity: Scalar = parameter(0.05, 4.0, owner="benchmark")
    l2_hit_sharpness: Scalar = parameter(0.5, 60.0, owner="benchmark")


class ElementwiseEfficiency(eqx.Module):
    """Kernels that read, do little, and write.

    - `launch`, `streaming`, `private`: as for the matrix product.
    - `feed`: share of the shared tier's peak.
    """

    launch: Scalar = parameter(1e-8, 1e-4, "us", owner="framework")
    feed: Scalar = parameter(0.05, 8.0)
    streaming: Scalar = parameter(0.3, 1.0)
    private: Scalar = parameter(0.01, 1.0)


class LinearAttentionEfficiency(eqx.Module):
    """Linear attention: a state updated token by token, or chunk by chunk.

    - `launch`: of the convolution and the update; `prompt_launch`: of the kernels
      that a prompt has besides.
    - `kda_launch`: of those that Kimi's prompts have besides (three convolutions, gates of keys).
    - `sustained`, `feed`, `streaming`, `private`, `l2_hit_capacity`, `l2_hit_sharpness`: as for the matrix
      product.
    - `l2_capacity`: of the shared tier's capacity, what holds data between a prompt's kernels.
    - `token_passes`: how often a prompt's kernels move what each token brings (queries, keys, values,
      gates, outputs).
    - `state_copies`: how often a prompt moves the states beyond once in and once out.
    - `per_row`: added for each token of a chunk, whose rows are eliminated one by one.
    - `per_chunk`: added for each chunk after the first, which waits for the state before it.
    - `per_sequence`: added for each sequence of a prompt's batch, where a kernel takes one by one.
    """

    launch: Scalar = parameter(1e-8, 1e-4, "us", owner="framework")
    prompt_launch: Scalar = parameter(1e-9, 1e-3, "us")
    kda_launch: Scalar = parameter(1e-9, 1e-3, "us")
    sustained: Scalar = parameter(0.005, 1.0)
    feed: Scalar = parameter(0.05, 8.0)
    streaming: Scalar = parameter(0.3, 1.0)
    private: Scalar = parameter(0.01, 1.0)
    l2_capacity: Scalar = parameter(0.05, 4.0)
    token_passes: Scalar = parameter(1.0, 40.0)
    state_copies: Scalar = parameter(0.0, 20.0)
    per_row: Scalar = parameter(1e-11, 1e-5, "us")
    per_chunk: Scalar = parameter(1e-11, 1e-4, "us")
    per_sequence: Scalar = parameter(1e-11, 1e-4, "us", owner="framework")
    l2_hit_capacity: Scalar = parameter(0.05, 4.0, owner="benchmark")
    l2_hit_sharpness: Scalar = parameter(0.5, 60.0, owner="benchmark")


class MoeEfficiency(eqx.Module):
    """Mixture of experts: one rank's routing, grouped products and combination.

    - `launch`: of all its kernels together.
    - `sustained`, `feed`, `streaming`, `private`, `wave_quantisation`, `selection_sharpness`,
      `l2_bandwidth`, `l2_hit_capacity`, `l2_hit_sharpness`: as for the matrix product.
    - `prologue`: added for each round of tiles, to fill and drain their pipelines.
    - `per_dot_element`: added for each number of the two dot products, which a tile goes through in turn;
      more for high tiles of some kernels (`MoeBackend.step_time`).
    - `per_pair`: added for each (token, expert) pair; `per_expert`: for each expert of the rank.
    - `permute_passes`, `intermediate_passes`: over activations to and from the experts, and between
      their products, times what they need at full rate.
    """

    launch: Scalar = parameter(1e-8, 2e-4, "us", owner="framework")
    sustained: Scalar = parameter(0.05, 1.0)
    feed: Scalar = parameter(0.05, 8.0)
    streaming: Scalar = parameter(0.3, 1.0)
    private: Scalar = parameter(0.01, 1.0)
    prologue: Scalar = parameter(1e-10, 1e-4, "us")
    per_dot_element: Scalar = parameter(1e-12, 1e-8, "us")
    per_pair: Scalar = parameter(1e-13, 1e-7, "us")
    per_expert: Scalar = parameter(1e-12, 1e-5, "us")
    permute_passes: Scalar = parameter(0.05, 20.0)
    intermediate_passes: Scalar = parameter(0.05, 20.0)
    wave_quantisation: Scalar = parameter(0.0, 1.0)
    selection_sharpness: Scalar = parameter(1.0, 200.0)
    l2_hit_capacity: Scalar = parameter(0.1, 4.0, owner="benchmark")
    l2_bandwidth: Scalar = parameter(0.02, 4.0)
    l2_hit_sharpness: Scalar = parameter(0.5, 60.0, owner="benchmark")


class CollectiveEfficiency(eqx.Module):
    """Communication between chips.

    - `launch`: of the collective; `step_latency`: time of each step, over the network's latency.
    - `handshake`: of one pass over the vector at full rate, in NCCL's protocols;
      `pipeline_fill`: of one piece of it in the pipeline.
    - `copy_bandwidth`: share of main memory's rate at which NCCL copies a chip's own part.
    - `host_bridge_rate`: share of the rate left at each level of a tree of host bridges (PCIe).
    - `sustained`: share of the links' peak.
    - `selection_sharpness`: how surely the fastest algorithm is taken.
    """

    launch: Scalar = parameter(1e-8, 1e-4, "us", owner="framework")
    step_latency: Scalar = parameter(0.05, 20.0)
    handshake: Scalar = parameter(1e-9, 1e-4, "us")
    pipeline_fill: Scalar = parameter(1e-9, 1e-4, "us", clock=0)
    copy_bandwidth: Scalar = parameter(0.02, 2.0)
    host_bridge_rate: Scalar = parameter(0.05, 1.0, owner="server")
    sustained: Scalar = parameter(0.2, 1.0)
    selection_sharpness: Scalar = parameter(1.0, 200.0)


def delay_of_prompt(constant: Any, per_token: Any, tokens: Any) -> Any:
    """Seconds until a prompt of some tokens is in the scheduler's queue: of any, and of each of its tokens.

    Closed forms have it in arrays, the simulated scheduler in plain numbers.
    """
    return constant + per_token * tokens


class HostEfficiency(eqx.Module):
    """What the host adds to a step of launched chips: scheduling, sampling, gaps between graphs.

    - `step`: added once; `per_sequence`: added for each sequence of the batch.
    - `per_kernel`: added for each kernel beside what it takes when a benchmark repeats it.
    - `per_prompt_kernel`: added for each kernel of a step with prompts, beside that: graphs hold decode steps
      alone, so that a prompt's kernels are launched one by one.
    - `first_token`: added to the first token: the way to the server and back, and templates.
    - `per_prompt_token`: added to the first token for each token of the prompt: text is sent and made tokens.
    - `burst`: how much longer a prompt takes in a burst than it makes a decode step.
    - `turnaround`: from the last token of an answer until its user's next prompt can be scheduled.
    """

    step: Scalar = parameter(0.0, 1e-2, "us", owner="framework")
    per_sequence: Scalar = parameter(0.0, 1e-3, "us", owner="framework")
    per_kernel: Scalar = parameter(-2e-6, 5e-5, "us", owner="framework")
    per_prompt_kernel: Scalar = parameter(0.0, 5e-5, "us", owner="framework")
    first_token: Scalar = parameter(0.0, 2.0, "us", owner="framework")
    per_prompt_token: Scalar = parameter(0.0, 1e-4, "us", owner="framework")
    burst: Scalar = parameter(0.0, 5.0, owner="framework")
    turnaround: Scalar = parameter(0.0, 1.0, "us", owner="framework")

    def before_prompt(self, tokens: Scalar) -> Scalar:
        """Seconds added to the first token after a prompt of some tokens."""
        return delay_of_prompt(self.first_token, self.per_prompt_token, tokens)

    def before_next_prompt(self, tokens: Scalar) -> Scalar:
        """Seconds from an answer until its user's next prompt, of some tokens, can be scheduled."""
        return delay_of_prompt(self.turnaround, self.per_prompt_token, tokens)


class BoardPower(eqx.Module):
    """What a board draws while it serves (`hardware.board`).

    - `active_idle`: share of the power between idle and the limit that it draws while an engine runs,
      whatever its kernels do: clocks that do not fall, leakage of warm silicon.
    - `matrix`, `vector`, `sram`, `link`: energy all-in over that of the arithmetic, the arrays and the wires
      alone.
    - `memory`: of a byte that attention reads over that of the memory device alone: its host's side, the way
      over the die.
    - `weights`: of a byte of all other kernels, mostly weights, likewise: they also pass the shared tier and
      the cores' SRAM, and whole tiles are multiplied.
    - `cores`: power of cores that prompts fill, over that of the matrix units at their peak.
    """

    active_idle: Scalar = parameter(0.0, 0.9)
    matrix: Scalar = parameter(0.2, 30.0)
    vector: Scalar = parameter(0.2, 30.0)
    sram: Scalar = parameter(0.2, 30.0)
    memory: Scalar = parameter(0.2, 30.0)
    weights: Scalar = parameter(0.2, 30.0)
    link: Scalar = parameter(0.2, 30.0)
    cores: Scalar = parameter(0.0, 20.0)


class Anchor(eqx.Module):
    """Factors on times from measured serving runs of a stack: chip, software, model, format.

    - `steps`: on decode steps; `prompts`: on prompts.
    - `ranks`: deployments that were measured themselves: tp, pp, ep and dp of each, of shape (n, 4).
    - `own`: a further factor on steps and on prompts of each, of shape (n, 2).
    """

    steps: Scalar = eqx.field(converter=as_scalar)
    prompts: Scalar = eqx.field(converter=as_scalar)
    ranks: Values = eqx.field(converter=as_values)
    own: Values = eqx.field(converter=as_values)

    @classmethod
    def of_stack(cls, steps: Any, prompts: Any) -> "Anchor":
        """Factors of all deployments of a stack."""
        return cls(steps, prompts, np.zeros((0, 4)), np.ones((0, 2)))

    def factors(self, ranks: Values) -> Values:
        """Factors on steps and on prompts of a deployment with some `ranks`, of shape (4,)."""
        alike = jnp.all(self.ranks == ranks[None], axis=-1)[:, None]
        further = jnp.prod(jnp.where(alike, self.own, 1.0), axis=0)
        return jnp.stack([self.steps, self.prompts]) * further


class Efficiency(eqx.Module):
    """The fitted parameters of each kernel family, what a core crossed costs, and what a board draws.

    - `unquantised`: of the products in the format that a plan keeps beside that of its weights.
    - `hop_cycles`: cycles for data to cross one core of a dataflow machine, software included.
    - `anchor`: factors on times of a served model; none where no run of its stack was measured.
    """

    gemm: GemmEfficiency
    unquantised: GemmEfficiency
    attention_decode: AttentionDecodeEfficiency
    attention_prefill: AttentionPrefillEfficiency
    mla_decode: AttentionDecodeEfficiency
    mla_prefill: AttentionPrefillEfficiency
    elementwise: ElementwiseEfficiency
    linear_attention: LinearAttentionEfficiency
    moe: MoeEfficiency
    collective: CollectiveEfficiency
    host: HostEfficiency
    board: BoardPower
    hop_cycles: Scalar = parameter(0.0, 100.0)
    anchor: Anchor | None = None
