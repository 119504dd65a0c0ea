"""Fitted parameters: how much of its peak rates a chip reaches, and what it costs to start.

Each field carries its unit and the bounds that keep it physical. They are facts
that a chip carries; `perfmodel.calibration` fits them, nothing else changes them.
"""

import dataclasses
from collections.abc import Iterator
from typing import Any

import equinox as eqx

from perfmodel.units import Scalar, as_scalar


def parameter(low: float, high: float, unit: str = "1") -> Any:
    """A field fitted between `low` and `high`, written in files in `unit`."""
    return eqx.field(converter=as_scalar, metadata={"low": low, "high": high, "unit": unit})


def parameters(kind: type) -> Iterator[dataclasses.Field]:
    """The fitted fields of an efficiency class, in order."""
    return (field for field in dataclasses.fields(kind) if "low" in field.metadata)


class GemmEfficiency(eqx.Module):
    """Dense matrix product.

    - `launch`: from the end of one kernel to the first work of the next.
    - `sustained`: share of the matrix peak at which multiplications issue.
    - `draw`: energy of a product over that of its multiplications alone: operands, clocks, leakage.
    - `onset`: work at the matrix peak half of which runs before a power limit holds (a benchmark's
      effect: in service the limit has long been reached).
    - `feed`: share of the shared tier's peak at which tiles reach the cores; above 1 where cores
      find a neighbour's read on its way.
    - `cached`: share of the shared tier's peak at which what stays there is read: partial sums,
      and a benchmark's operands.
    - `streaming`: share of main memory's peak.
    - `fill`: until main memory serves at that rate: its first bytes on their way.
    - `private`: share of the private SRAM's peak, where weights live in it.
    - `prologue`: time to fill and drain a tile's pipeline, in steps of k.
    - `step`: what each step of k costs a tile besides its operands, in bytes that would have come.
    - `fixup`: added when k is split over cores, for the reduction.
    - `rounding`: weight of whole waves against fractional ones.
    - `quantise`: share of the shared tier's peak at which activations are quantised.
    - `choice`: how surely the library picks the fastest tile.
    - `hold`, `cliff`: footprint at which half of replayed operands stay in the
      shared tier, over its capacity, and how sharply that falls (a benchmark's effect).
    """

    launch: Scalar = parameter(1e-8, 1e-4, "us")
    sustained: Scalar = parameter(0.2, 1.0)
    draw: Scalar = parameter(1.0, 30.0)
    onset: Scalar = parameter(1e-6, 1e-1, "us")
    feed: Scalar = parameter(0.05, 8.0)
    cached: Scalar = parameter(0.02, 4.0)
    streaming: Scalar = parameter(0.3, 1.0)
    fill: Scalar = parameter(1e-8, 1e-5, "us")
    private: Scalar = parameter(0.01, 1.0)
    prologue: Scalar = parameter(1.0, 2000.0)
    step: Scalar = parameter(1.0, 3000.0)
    fixup: Scalar = parameter(1e-8, 1e-4, "us")
    quantise: Scalar = parameter(0.01, 4.0)
    rounding: Scalar = parameter(0.0, 1.0)
    choice: Scalar = parameter(1.0, 200.0)
    hold: Scalar = parameter(0.1, 4.0)
    cliff: Scalar = parameter(0.5, 60.0)


class AttentionDecodeEfficiency(eqx.Module):
    """Attention of one new token per sequence over its cache.

    - `launch`, `sustained`, `feed`, `streaming`, `private`, `rounding`, `choice`,
      `hold`, `cliff`: as for the matrix product.
    - `crowded`: share of the rates left for heads of 256 numbers, whose tiles crowd the registers.
    - `block`: to start a thread block and to end it; `light`: the same for one of plain vector code.
    - `plain`: FLOPs of the vector units for each number of the cache, where plain vector code takes
      them for one query: conversion, both products, addresses.
    - `sequence`: added for each sequence of the batch (its page table, its append).
    - `reduction`: added when the cache is split over cores.
    - `rotate`: passes over queries and outputs beside the kernel's own (rotary embedding, formats).
    - `again`: share of a cache that main memory serves anew to each further block that reads it.
    - `copy`: of one extra pass that a framework's rule adds.
    """

    launch: Scalar = parameter(1e-8, 1e-4, "us")
    sustained: Scalar = parameter(0.05, 1.0)
    crowded: Scalar = parameter(0.1, 1.0)
    feed: Scalar = parameter(0.05, 8.0)
    streaming: Scalar = parameter(0.3, 1.0)
    private: Scalar = parameter(0.01, 1.0)
    block: Scalar = parameter(1e-9, 2e-5, "us")
    light: Scalar = parameter(1e-9, 2e-5, "us")
    plain: Scalar = parameter(1.0, 500.0)
    sequence: Scalar = parameter(1e-12, 1e-6, "us")
    reduction: Scalar = parameter(1e-8, 1e-4, "us")
    copy: Scalar = parameter(1e-8, 1e-4, "us")
    rotate: Scalar = parameter(0.0, 20.0)
    again: Scalar = parameter(0.0, 1.0)
    rounding: Scalar = parameter(0.0, 1.0)
    choice: Scalar = parameter(0.5, 200.0)
    hold: Scalar = parameter(0.05, 4.0)
    cliff: Scalar = parameter(0.5, 60.0)


class AttentionPrefillEfficiency(eqx.Module):
    """Causal attention of a whole prompt.

    - `launch`, `sustained`, `feed`, `streaming`, `private`, `rounding`, `hold`, `cliff`:
      as for the matrix product.
    - `exponential`: share of the peak rate of exponentials.
    - `crowded`: share of the rates left for heads of 256 numbers, whose tiles crowd the registers.
    - `block`, `windowed`: to start a thread block, and more where a window cuts it.
    - `tail`: share of the longest block that no other block hides.
    - `rotate`, `append`: passes over queries, and over keys and values, before the product
      itself (rotary embedding, append to the cache).
    - `token`: added for each token (its append to a paged cache).
    """

    launch: Scalar = parameter(1e-8, 1e-4, "us")
    sustained: Scalar = parameter(0.05, 1.0)
    exponential: Scalar = parameter(0.02, 4.0)
    crowded: Scalar = parameter(0.1, 1.0)
    feed: Scalar = parameter(0.05, 8.0)
    streaming: Scalar = parameter(0.3, 1.0)
    private: Scalar = parameter(0.01, 1.0)
    block: Scalar = parameter(1e-9, 2e-5, "us")
    windowed: Scalar = parameter(1e-9, 2e-5, "us")
    tail: Scalar = parameter(0.0, 1.0)
    rotate: Scalar = parameter(0.0, 20.0)
    append: Scalar = parameter(0.0, 20.0)
    token: Scalar = parameter(1e-13, 1e-7, "us")
    rounding: Scalar = parameter(0.0, 1.0)
    hold: Scalar = parameter(0.05, 4.0)
    cliff: Scalar = parameter(0.5, 60.0)


class ElementwiseEfficiency(eqx.Module):
    """Kernels that read, do little, and write.

    - `launch`, `streaming`, `private`: as for the matrix product.
    - `feed`: share of the shared tier's peak.
    """

    launch: Scalar = parameter(1e-8, 1e-4, "us")
    feed: Scalar = parameter(0.05, 8.0)
    streaming: Scalar = parameter(0.3, 1.0)
    private: Scalar = parameter(0.01, 1.0)


class LinearAttentionEfficiency(eqx.Module):
    """Linear attention: a state updated token by token, or chunk by chunk.

    - `launch`: of the convolution and the update; `kernels`: of those that a prompt has besides.
    - `apart`: of those that Kimi's prompts have besides (three convolutions, gates of keys).
    - `sustained`, `feed`, `streaming`, `private`, `hold`, `cliff`: as for the matrix product.
    - `keep`: of the shared tier's capacity, what holds data between a prompt's kernels.
    - `passes`: how often a prompt's kernels move what each token brings (queries, keys, values,
      gates, outputs).
    - `copies`: how often a prompt moves the states beyond once in and once out.
    - `row`: added for each token of a chunk, whose rows are eliminated one by one.
    - `chain`: added for each chunk after the first, which waits for the state before it.
    - `sequence`: added for each sequence of a prompt's batch, where a kernel takes one by one.
    """

    launch: Scalar = parameter(1e-8, 1e-4, "us")
    kernels: Scalar = parameter(1e-9, 1e-3, "us")
    apart: Scalar = parameter(1e-9, 1e-3, "us")
    sustained: Scalar = parameter(0.005, 1.0)
    feed: Scalar = parameter(0.05, 8.0)
    streaming: Scalar = parameter(0.3, 1.0)
    private: Scalar = parameter(0.01, 1.0)
    keep: Scalar = parameter(0.05, 4.0)
    passes: Scalar = parameter(1.0, 40.0)
    copies: Scalar = parameter(0.0, 20.0)
    row: Scalar = parameter(1e-11, 1e-5, "us")
    chain: Scalar = parameter(1e-11, 1e-4, "us")
    sequence: Scalar = parameter(1e-11, 1e-4, "us")
    hold: Scalar = parameter(0.05, 4.0)
    cliff: Scalar = parameter(0.5, 60.0)


class MoeEfficiency(eqx.Module):
    """Mixture of experts: one rank's routing, grouped products and combination.

    - `launch`: of all its kernels together.
    - `sustained`, `feed`, `streaming`, `private`, `rounding`, `choice`, `hold`, `cached`,
      `cliff`: as for the matrix product.
    - `prologue`: added for each round of tiles, to fill and drain their pipelines.
    - `serial`: added for each number of the two dot products, which a tile goes through in turn.
    - `route`: added for each (token, expert) pair; `local`: for each expert of the rank.
    - `passes`, `between`: over activations to and from the experts, and between their products,
      times what they need at full rate.
    """

    launch: Scalar = parameter(1e-8, 2e-4, "us")
    sustained: Scalar = parameter(0.05, 1.0)
    feed: Scalar = parameter(0.05, 8.0)
    streaming: Scalar = parameter(0.3, 1.0)
    private: Scalar = parameter(0.01, 1.0)
    prologue: Scalar = parameter(1e-10, 1e-4, "us")
    serial: Scalar = parameter(1e-12, 1e-8, "us")
    route: Scalar = parameter(1e-13, 1e-7, "us")
    local: Scalar = parameter(1e-12, 1e-5, "us")
    passes: Scalar = parameter(0.05, 20.0)
    between: Scalar = parameter(0.05, 20.0)
    rounding: Scalar = parameter(0.0, 1.0)
    choice: Scalar = parameter(1.0, 200.0)
    hold: Scalar = parameter(0.1, 4.0)
    cached: Scalar = parameter(0.02, 4.0)
    cliff: Scalar = parameter(0.5, 60.0)


class CollectiveEfficiency(eqx.Module):
    """Communication between chips.

    - `launch`: of the collective; `step`: time of each step, over the network's latency.
    - `handshake`: of one pass over the vector at full rate, in NCCL's protocols; `fill`: of
      one piece of it in the pipeline.
    - `copy`: share of main memory's rate at which NCCL copies a chip's own part.
    - `bridge`: share of the rate left at each level of a tree of host bridges (PCIe).
    - `sustained`: share of the links' peak.
    - `choice`: how surely the fastest algorithm is taken.
    """

    launch: Scalar = parameter(1e-8, 1e-4, "us")
    step: Scalar = parameter(0.05, 20.0)
    handshake: Scalar = parameter(1e-9, 1e-4, "us")
    fill: Scalar = parameter(1e-9, 1e-4, "us")
    copy: Scalar = parameter(0.02, 2.0)
    bridge: Scalar = parameter(0.05, 1.0)
    sustained: Scalar = parameter(0.2, 1.0)
    choice: Scalar = parameter(1.0, 200.0)


class HostEfficiency(eqx.Module):
    """What the host adds to a step of launched chips: scheduling, sampling, gaps between graphs.

    - `step`: added once; `sequence`: added for each sequence of the batch.
    - `kernel`: added for each kernel beside what it takes when a benchmark repeats it.
    - `first`: added to the first token: the way to the server and back, tokens and templates.
    - `burst`: how much longer a prompt takes in a burst than it makes a decode step.
    """

    step: Scalar = parameter(0.0, 1e-2, "us")
    sequence: Scalar = parameter(0.0, 1e-3, "us")
    kernel: Scalar = parameter(-2e-6, 5e-5, "us")
    first: Scalar = parameter(0.0, 2.0, "us")
    burst: Scalar = parameter(0.0, 5.0)


class Efficiency(eqx.Module):
    """The fitted parameters of each kernel family, and what a core crossed costs.

    - `kept`: of the products in the format that a plan keeps beside that of its weights.
    - `crossing`: cycles for data to cross one core of a dataflow machine, software included.
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
    crossing: Scalar = parameter(0.0, 100.0)
