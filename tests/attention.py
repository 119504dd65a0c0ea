"""Attention of two sequences, for every way to share keys and values."""

from perfmodel.kernels.attention import Heads, grouped
from perfmodel.kernels.attention_decode import attention_decode
from perfmodel.kernels.attention_prefill import attention_prefill
from perfmodel.library.chip import load_chip
from perfmodel.roofline import Work
from perfmodel.units import as_scalar
from perfmodel.workload.plan import Plan

ROUNDING = 1e-5
"""Relative: some hundred steps of float32's last digit."""


EXACT = Plan(integer=True)


def shape(query: float, kv: float, size: float = 128) -> Heads:
    """MHA, GQA or MQA."""
    return grouped(as_scalar(query), as_scalar(kv), as_scalar(size))


def decode(heads: Heads, plan: Plan = EXACT, name: str = "h100-sxm", **more) -> Work:
    """One token for each of two sequences of 1,024."""
    return attention_decode(load_chip(name), plan, as_scalar(2), as_scalar(1024), heads, **more)


def prefill(
    heads: Heads, queries: float = 512, context: float = 512, plan: Plan = EXACT, **more
) -> Work:
    """Two prompts of 512 tokens."""
    name = more.pop("name", "h100-sxm")
    sizes = [as_scalar(x) for x in (2, queries, context)]
    return attention_prefill(load_chip(name), plan, *sizes, heads=heads, **more)
