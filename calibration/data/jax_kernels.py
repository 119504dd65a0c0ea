"""What `perfmodel measure` runs: the shapes of each operation, and each as a function of JAX."""

import functools
import math
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from perfmodel.kernels.elementwise import KINDS
from perfmodel.library.files import read_toml
from perfmodel.workload.precision import look_up

Sizes = dict[str, Any]
"""Sizes by column, and `kind` where the operation has kinds."""

COLUMNS = (
    *("op", "chip", "dtype", "kind", "m", "n", "k", "batch", "q_len", "ctx_len"),
    *("heads", "kv_heads", "head_dim", "tokens", "hidden"),
)
"""Columns that say what was run."""

MAX_TRIES = 20_000
"""Shapes of a sequence that are looked at, at most."""

VOCABULARY = 8192
"""Rows of the table that embeddings are taken from."""


class TimedKernel(NamedTuple):
    """A kernel to be run.

    - `operands`: functions that make them.
    - `flops`: that it computes.
    - `size`: of operands, result, and what lies between them, in bytes.
    """

    function: Callable
    operands: tuple[Callable[[], np.ndarray], ...]
    flops: float
    size: float


class Dimension(NamedTuple):
    """A size between `low` and `high`: a power of two, or an odd multiple of `grain` (0: never)."""

    name: str
    low: int
    high: int
    grain: int

    def at(self, share: float, odd: bool) -> float:
        """The size at a share of its range, on a logarithmic scale."""
        size = self.low * (self.high / self.low) ** share
        if odd and self.grain:
            return float(self.grain * (2 * int(size / self.grain / 2) + 1))
        return float(2 ** round(math.log2(size)))


class KernelSpec(NamedTuple):
    """How an operation is measured: its sizes, formats, and the function that makes its kernel."""

    dimensions: tuple[Dimension, ...]
    dtypes: tuple[str, ...]
    kernel: Callable[[Sizes, str], TimedKernel]


JAX_TYPES = {
    "fp32": jnp.float32,
    "bf16": jnp.bfloat16,
    "fp16": jnp.float16,
    "fp8": jnp.float8_e4m3fn,
    "int8": jnp.int8,
}
"""Formats, and the type of JAX that holds them."""


def build(op: str, dtype: str, sizes: Sizes) -> TimedKernel:
    """The kernel of one row."""
    return SPECS[op].kernel(sizes, dtype)


def smallest(op: str) -> Sizes:
    """The smallest shape of an operation."""
    sizes = {d.name: float(d.low) for d in SPECS[op].dimensions}
    return _completed(op, sizes, next(iter(KINDS)))


def kernel_shapes(
    op: str, dtype: str, seed: int, fits: Callable[[TimedKernel], bool]
) -> Iterator[tuple[Sizes, TimedKernel]]:
    """Shapes that fit, with their kernels, spread evenly over the ranges, by turns powers of two and odd.

    Points are those of Roberts' sequence: the fractional parts of multiples of powers of the
    root of x^(d+1) = x + 1 ("The Unreasonable Effectiveness of Quasirandom Sequences", 2018).
    """
    dimensions = SPECS[op].dimensions
    root = max(np.roots([1.0, *[0.0] * (len(dimensions) - 1), -1.0, -1.0]).real)
    steps = root ** -np.arange(1.0, len(dimensions) + 1)
    start, seen = np.random.default_rng(seed).uniform(size=len(dimensions)), set()
    for i in range(MAX_TRIES):
        shares = (start + i * steps) % 1
        sizes = {d.name: d.at(x, i % 2 == 1) for d, x in zip(dimensions, shares, strict=True)}
        sizes = _completed(op, sizes, list(KINDS)[len(seen) // 2 % len(KINDS)])
        identity = tuple(sizes.values())
        kernel = build(op, dtype, sizes)
        if identity not in seen and fits(kernel):
            seen.add(identity)
            yield sizes, kernel


def _completed(op: str, sizes: Sizes, kind: str) -> Sizes:
    """Sizes that follow from others: query heads from their groups; a prompt is all of its context."""
    if op == "elementwise":
        return {"kind": kind} | sizes
    if "group" in sizes:
        sizes = sizes | {"heads": sizes["kv_heads"] * sizes.pop("group")}
    return sizes | ({"ctx_len": sizes["q_len"]} if "q_len" in sizes else {})


def _array(shape: tuple[float, ...], kind: Any) -> Callable[[], np.ndarray]:
    """Makes an operand of numbers between -1 and 1, or of whole numbers."""

    def make() -> np.ndarray:
        block = np.random.default_rng(0).uniform(-1, 1, 4096)
        block = np.round(127 * block) if kind == jnp.int8 else block
        return np.resize(block.astype(kind), tuple(map(int, shape)))

    return make


def _size(shape: tuple[float, ...], kind: Any) -> float:
    return math.prod(shape) * np.dtype(kind).itemsize


def _gemm(sizes: Sizes, dtype: str) -> TimedKernel:
    m, n, k = (sizes[name] for name in ("m", "n", "k"))
    stored, full = JAX_TYPES[dtype], jnp.float32 if dtype == "fp32" else jnp.bfloat16
    given = full if look_up(dtype).passes else stored
    function = functools.partial(_product, stored=stored)
    size = _size((m, k), given) + _size((k, n), stored) + _size((m, n), given)
    return TimedKernel(
        function, (_array((m, k), given), _array((k, n), stored)), 2 * m * n * k, size
    )


def _product(a: jax.Array, b: jax.Array, stored: Any) -> jax.Array:
    """A product that sums in 32 bits; activations are quantised first where the weights are."""
    if a.dtype == stored:
        return jnp.matmul(a, b, preferred_element_type=jnp.float32).astype(a.dtype)
    scale, quantised = _quantised(a, stored)
    sums = jnp.int32 if stored == jnp.int8 else jnp.float32
    product = jnp.matmul(quantised, b, preferred_element_type=sums)
    return (product.astype(jnp.float32) * scale).astype(a.dtype)


def _quantised(x: jax.Array, stored: Any) -> tuple[jax.Array, jax.Array]:
    """A scale and what is left, in eight bits."""
    largest = 127.0 if stored == jnp.int8 else float(jnp.finfo(stored).max)
    wide = x.astype(jnp.float32)
    scale = jnp.max(jnp.abs(wide)) / largest
    return scale, (wide / scale).astype(stored)


def _attention(sizes: Sizes, dtype: str) -> TimedKernel:
    """Queries of all rows at once (a prompt, causal), or one of each row (a step of decoding)."""
    names = ("batch", "ctx_len", "heads", "kv_heads", "head_dim")
    batch, context, heads, of_keys, width = (sizes[name] for name in names)
    queries, kind = sizes.get("q_len", 1.0), JAX_TYPES[dtype]
    shapes = [(batch, queries, heads, width), *[(batch, context, of_keys, width)] * 2]
    function = functools.partial(jax.nn.dot_product_attention, is_causal="q_len" in sizes)
    scores = batch * heads * queries * context
    size = sum(_size(shape, kind) for shape in [*shapes, shapes[0]]) + _size((scores,), jnp.float32)
    return TimedKernel(function, tuple(_array(s, kind) for s in shapes), 4 * scores * width, size)


def _elementwise(sizes: Sizes, dtype: str) -> TimedKernel:
    """The kinds of the registry; the samples' logits are in fp32, as there."""
    tokens, hidden, name = sizes["tokens"], sizes["hidden"], sizes["kind"]
    kind = jnp.float32 if name == "sample" else JAX_TYPES[dtype]
    counted, full = KINDS[name], (tokens, hidden)
    shapes = {
        "norm": [full, full, (hidden,)],
        "rope": [full, (tokens, ROPE_PAIRS), (tokens, ROPE_PAIRS)],
        "activation": [full, full],
        "add": [full, full],
        "embedding": [(VOCABULARY, hidden)],
    }.get(name, [full])
    operands = [_array(shape, kind) for shape in shapes]
    operands += [_indices(tokens)] if name == "embedding" else []
    size = sum(_size(shape, kind) for shape in shapes) + 2 * _size(full, kind)
    return TimedKernel(FUNCTIONS[name], tuple(operands), counted.flops * tokens * hidden, size)


ROPE_PAIRS = 8
"""Pairs of numbers that are turned together: `hidden` is a multiple of twice as many."""

EPSILON = 1e-6
"""Added to a mean square before its root."""


def _indices(tokens: float) -> Callable[[], np.ndarray]:
    order = np.random.default_rng(0).permutation(VOCABULARY).astype(np.int32)
    return lambda: np.resize(order, int(tokens))


def _norm(x: jax.Array, residual: jax.Array, weight: jax.Array) -> tuple[jax.Array, jax.Array]:
    total = x + residual
    wide = total.astype(jnp.float32)
    scale = jax.lax.rsqrt(jnp.mean(jnp.square(wide), axis=-1, keepdims=True) + EPSILON)
    return total, (wide * scale).astype(x.dtype) * weight[None]


def _rope(x: jax.Array, cosine: jax.Array, sine: jax.Array) -> jax.Array:
    pairs = x.reshape(x.shape[0], -1, 2, ROPE_PAIRS)
    a, b = pairs[:, :, 0], pairs[:, :, 1]
    c, s = cosine[:, None], sine[:, None]
    return jnp.stack([a * c - b * s, a * s + b * c], axis=2).reshape(x.shape)


FUNCTIONS: dict[str, Callable] = {
    "norm": _norm,
    "rope": _rope,
    "activation": lambda gate, value: jax.nn.silu(gate) * value,
    "add": lambda a, b: a + b,
    "softmax": lambda x: jax.nn.softmax(x, axis=-1),
    "quantise": lambda x: _quantised(x, jnp.int8),
    "embedding": lambda table, places: jnp.take(table, places, axis=0),
    "sample": lambda x: (jnp.argmax(x, axis=-1), jax.nn.logsumexp(x, axis=-1)),
}
"""Each kind of the registry in JAX."""

BUILDERS = {
    "gemm": _gemm,
    "attention_prefill": _attention,
    "attention_decode": _attention,
    "elementwise": _elementwise,
}
"""What makes the kernel of a row, by operation."""

SPECS = {
    op: KernelSpec(
        tuple(Dimension(name, *ends) for name, ends in table["sizes"].items()),
        tuple(table["dtypes"]),
        BUILDERS[op],
    )
    for op, table in read_toml(Path(__file__).with_suffix(".toml")).items()
}
"""What can be measured."""
