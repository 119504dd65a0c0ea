"""A kernel costs the same as a row of the kernel schema and inside a whole model, for every kind of layer.

What a layer runs is written down here a second time, as rows. A layer of a new kind fails until it is.
"""

import dataclasses
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from layers import HIDDEN, kinds, layers, model_of

from perfmodel.hardware.chip import Chip, restrict
from perfmodel.inference.kernel_predictions import resolve_group
from perfmodel.inference.operations import (
    Batch,
    Context,
    KernelCall,
    attention_calls,
    feed_forward_calls,
    layer_calls,
)
from perfmodel.inference.placement import Placement
from perfmodel.inference.step import Pass, costs, decode_pass, prompt_pass
from perfmodel.kernels.attention_decode import AttentionDecode
from perfmodel.kernels.elementwise import KINDS as ELEMENTWISE
from perfmodel.kernels.elementwise import Elementwise
from perfmodel.kernels.gemm import Gemm
from perfmodel.kernels.kernel_table import Group, Key
from perfmodel.kernels.linear_attention import KINDS as RECURRENT
from perfmodel.kernels.moe import Moe
from perfmodel.kernels.registry import KERNELS, cost
from perfmodel.kernels.residency import Residency, native
from perfmodel.kernels.routing import ROUTINGS
from perfmodel.kernels.sparse_attention import KINDS as SPARSE
from perfmodel.library.chip import load_chip
from perfmodel.library.fitted import FITTED
from perfmodel.library.model import load_model
from perfmodel.units import as_scalar
from perfmodel.workload.attention import Compressed, Grouped, Latent, Recurrent
from perfmodel.workload.feed_forward import Dense, Mixture
from perfmodel.workload.model import HyperConnections, Layer
from perfmodel.workload.plan import Plan
from perfmodel.xla import ONCE, supported

ROUNDING = 1e-4
"""Relative: a thousand steps of float32's last digit; both are the same sums in another order."""

CHIP = "b200-sxm"
TENSOR, DATA, EXPERT = 2, 2, 4
SEQUENCES, CONTEXT, QUERIES = 16, 65536, 512


class Row(NamedTuple):
    """A kernel as a row: its label in a step, operation, format and columns."""

    label: str
    op: str
    dtype: str
    columns: dict[str, float]


class Texts(NamedTuple):
    """What one data rank has: sequences, new tokens of each, tokens in each cache, and the formats."""

    batch: float
    queries: float
    context: float
    plan: Plan

    @property
    def tokens(self) -> float:
        return self.batch * self.queries

    @property
    def decodes(self) -> bool:
        return self.queries == 1

    def row(self, label: str, op: str, dtype: str = "", **columns: Any) -> Row:
        return Row(label, op, dtype or self.plan.weights, columns)

    def product(self, label: str, rows: float, columns: float, dtype: str = "") -> Row:
        return self.row(label, "gemm", dtype, m=self.tokens, n=columns, k=rows)

    def pass_over(self, kind: str, width: float) -> Row:
        index = list(ELEMENTWISE).index(kind)
        return self.row(kind, "elementwise", tokens=self.tokens, hidden=width, kind=index)

    def reduced(self) -> Row:
        return self.row(
            "all-reduce", "all_reduce", n_gpus=TENSOR, n_nodes=1, bytes=2 * self.tokens * HIDDEN
        )

    def attend(self, op: str, **columns: Any) -> Row:
        sizes = {"batch": self.batch, "ctx_len": self.context} | columns
        return self.row("attention", op, self.plan.attended, **sizes)


def heads(count: float) -> float:
    """Of one tensor rank, at least one."""
    return max(count / TENSOR, 1)


def grouped(texts: Texts, one: Grouped) -> list[Row]:
    query, kv, both = heads(one.heads), heads(one.kv_heads), one.key + one.value
    rope = texts.pass_over("rope", (query + kv) * one.key)
    if one.index_heads:
        sizes = {"key": one.key, "value": one.value, "stored": both, "kv_heads": kv}
        return [rope, picked(texts, "msa", query, one, index_heads=heads(one.index_heads), **sizes)]
    sizes = {"heads": query, "kv_heads": kv, "head_dim": one.key, "value_dim": one.value}
    sizes |= {"stored_dim": both, "window": one.window if np.isfinite(one.window) else 0}
    if texts.decodes:
        return [rope, texts.attend("attention_decode", **sizes)]
    return [rope, texts.attend("attention_prefill", q_len=texts.queries, causal=0, **sizes)]


def picked(texts: Texts, kind: str, query: float, one: Any, **sizes: Any) -> Row:
    phase = 0 if texts.decodes else 1
    columns = {"q_len": texts.queries, "heads": query, "topk": one.index_most, "phase": phase}
    columns |= {"kind": SPARSE.index(kind), "index_key": one.index_key}
    return texts.attend("sparse_attention", **columns, **sizes)


def latents(texts: Texts, one: Latent) -> list[Row]:
    query, width = heads(one.heads), one.rank + one.rope
    rope = texts.pass_over("rope", query * one.rope)
    if one.index_most:
        sizes = {"key": width, "value": one.rank, "stored": width}
        return [rope, picked(texts, "dsa", query, one, index_heads=one.index_heads, **sizes)]
    sizes = {"heads": query, "rank": one.rank, "rope": one.rope}
    if texts.decodes:
        return [rope, texts.attend("mla_decode", **sizes)]
    sizes |= {"q_len": texts.queries, "nope": one.nope, "value_dim": one.value}
    return [rope, texts.attend("mla_prefill", **sizes)]


def compressed(texts: Texts, one: Compressed) -> list[Row]:
    query, kind = heads(one.heads), "csa" if one.index_heads else "hca"
    sizes = dict.fromkeys(("key", "value", "stored"), one.key)
    sizes |= {"ratio": one.ratio, "window": one.window, "index_heads": one.index_heads}
    rope = texts.pass_over("rope", query * one.key)
    return [rope, picked(texts, kind, query, one, **sizes)]


def recurrent(texts: Texts, one: Recurrent) -> list[Row]:
    keys = (one.channels - one.heads * one.value) / (2 * one.key)
    sizes: dict[str, Any] = {
        "head_dim": one.key,
        "value_dim": one.value,
        "kind": RECURRENT.index(one.kind),
    }
    sizes |= {"heads": heads(one.heads), "key_heads": heads(keys), "phase": not texts.decodes}
    columns: dict[str, Any] = {"batch": texts.batch, "q_len": texts.queries} | sizes
    return [texts.row("attention", "linear_attention", **columns)]


MIXES = {Grouped: grouped, Latent: latents, Compressed: compressed, Recurrent: recurrent}


def dense(texts: Texts, inter: float, gated: bool) -> list[Row]:
    columns = inter / TENSOR
    return [
        texts.product("up", HIDDEN, (2 if gated else 1) * columns),
        texts.pass_over("activation", columns),
        texts.product("down", columns, HIDDEN),
    ]


def mixed(texts: Texts, one: Mixture) -> list[Row]:
    plan, sent = texts.plan, texts.tokens * one.active * HIDDEN
    share: dict[str, Any] = {
        "tokens": texts.tokens * DATA,
        "hidden": one.width or HIDDEN,
        "inter": one.inter,
    }
    share |= {"topk": one.active, "experts": one.experts, "gated": one.gated}
    share |= {"tp": TENSOR * DATA / EXPERT, "ep": EXPERT, "routing": ROUTINGS.index("random")}
    way: dict[str, Any] = {"n_gpus": EXPERT, "n_nodes": 1}
    return [
        texts.product("router", HIDDEN, one.experts, plan.unquantised),
        texts.row("dispatch", "all_to_all", bytes=plan.format.activation * sent, **way),
        texts.row("experts", "moe", **share),
        texts.row("combine", "all_to_all", bytes=2 * sent, **way),
        *(dense(texts, one.shared, one.gated) if one.shared else []),
    ]


def rows_of(layer: Layer, texts: Texts) -> list[Row]:
    """What a layer runs, its collectives included."""
    one, inner, norm = layer.attention, layer.feed_forward, texts.pass_over("norm", HIDDEN)
    found: list[Row] = []
    between = streams(texts, layer.connections)
    if one is not None:
        before = [texts.product("projection", *size) for size in one.inputs(HIDDEN, TENSOR)]
        after = [texts.product("output", *size) for size in one.outputs(HIDDEN, TENSOR)]
        found += [*between, norm, *before, *MIXES[type(one)](texts, one), *after, texts.reduced()]
    if isinstance(inner, Dense):
        found += [norm, *dense(texts, inner.inter, inner.gated), texts.reduced()]
    if isinstance(inner, Mixture):
        found += [*between, norm, *mixed(texts, inner), texts.reduced()]
    return found


def streams(texts: Texts, one: HyperConnections | None) -> list[Row]:
    """The streams with a half's output, read and written; the product with all of them; their sum."""
    if one is None:
        return []
    every, copy = one.streams * HIDDEN, {"kind": list(ELEMENTWISE).index("rope")}
    size = {"tokens": texts.tokens, **copy}
    plain = texts.plan.unquantised
    return [
        texts.row("streams", "elementwise", hidden=every + HIDDEN / 2, **size),
        texts.product("streams", every, one.weights, plain),
        texts.row("streams", "elementwise", hidden=(every + HIDDEN) / 2, steps=40, **size),
    ]


def alone(rows: list[Row], plan: Plan) -> np.ndarray:
    """Seconds of each row, as `predict kernels` prices it; those of one operation in one call."""
    times, groups = np.zeros(len(rows)), {}
    for place, row in enumerate(rows):
        groups.setdefault((row.op, row.dtype, *sorted(row.columns)), []).append(place)
    for (op, dtype, *names), places in groups.items():
        columns = {n: np.array([float(rows[i].columns[n]) for i in places]) for n in names}
        cache = plan.cache if "attention" in op or "mla" in op else ""
        group = Group(Key(op, CHIP, "", dtype, cache), np.arange(len(places)), columns)
        site = resolve_group(group, FITTED, False)
        times[places] = priced(op, site.chip, site.plan, columns)
    return times


def priced(op: str, chip: Chip, plan: Plan, columns: dict[str, np.ndarray]) -> np.ndarray:
    def one(row: dict) -> jax.Array:
        return cost(chip, KERNELS[op](**row).count(chip, plan)).time

    many = jax.jit(jax.vmap(one), compiler_options=supported(ONCE))
    return np.asarray(many({name: as_float(column) for name, column in columns.items()}))


def as_float(column: np.ndarray) -> jax.Array:
    return jnp.asarray(column, as_scalar(0.0).dtype)


def inside(chosen: list[Layer], plan: Plan, queries: int) -> tuple[list[str], np.ndarray]:
    """Labels and seconds of the kernels of a step through one of each layer, in memory that holds them."""
    chip = load_chip(CHIP, plan)
    main = dataclasses.replace(chip.main, capacity=as_scalar(1e16))
    chip, model = dataclasses.replace(chip, main=main), model_of(chosen)
    sizes = [as_scalar(x) for x in (SEQUENCES, CONTEXT)]

    def passed() -> Pass:
        if queries == 1:
            return decode_pass(chip, plan, model, *sizes)
        return prompt_pass(chip, plan, model, sizes[0], as_scalar(queries), sizes[1])

    count, labels = len(passed().layers), [task.label for task in passed().layers]

    def seconds() -> jax.Array:
        return costs(chip, plan, model, [passed()])[0].kernels.time

    many = jax.jit(seconds, compiler_options=supported(ONCE))
    return labels, np.asarray(many())[:count]


def compare(chosen: list[Layer], formats: dict[str, Any], queries: int) -> None:
    plan = Plan(tp=TENSOR, dp=DATA, ep=EXPERT, **formats)
    texts = Texts(SEQUENCES / DATA, queries, CONTEXT, plan)
    rows = [row for layer in chosen for row in rows_of(layer, texts)]
    labels, found = inside(chosen, plan, queries)
    assert labels == [row.label for row in rows]
    expected = alone(rows, plan)
    for row, here, there in zip(rows, found, expected, strict=True):
        assert here == pytest.approx(there, rel=ROUNDING), row


BF16: dict[str, str] = {}
FP8 = {"weights": "fp8_block", "cache": "fp8"}


@pytest.mark.long
def test_a_kernel_of_a_decode_step_costs_the_same_alone_and_in_a_model():
    compare(kinds(), FP8, 1)


@pytest.mark.long
def test_a_kernel_of_a_prompt_costs_the_same_alone_and_in_a_model():
    compare(kinds(), BF16, QUERIES)


@pytest.mark.slow
@pytest.mark.parametrize("formats", [BF16, FP8], ids=["bf16", "fp8"])
@pytest.mark.parametrize("queries", [1, QUERIES], ids=["decode", "prompt"])
def test_every_layer_of_the_library_costs_the_same_alone(formats: dict[str, str], queries: int):
    compare(list(layers()), formats, queries)


def seconds_of(attention: Latent) -> float:
    """Of the sparse attention of a decode step of eight texts of 65,536 tokens, on one chip."""
    plan, one = Plan(cache="fp8"), jax.tree.map(as_scalar, attention)
    site = Context(
        plan, Placement(native(B200), native(B200), *[as_scalar(0.0)] * 3), as_scalar(1.0), "all"
    )
    batch = Batch(*[as_scalar(x) for x in (8, 1, 65536)], decoding=True)
    tasks = attention_calls(site, as_scalar(HIDDEN), one, [batch])
    (task,) = [task for task in tasks if task.label == "attention"]
    return float(cost(B200, task.kernel.count(B200, plan)).time)


B200 = restrict(load_chip(CHIP), ["bf16", "fp8"])


@pytest.mark.long
def test_every_size_of_an_indexer_and_its_latents_changes_a_step():
    attention = load_model("deepseek-v3.2").stacks[-1].layer.attention
    assert isinstance(attention, Latent)
    before = seconds_of(attention)
    for name in ("rank", "rope", "index_key", "index_heads", "index_most", "heads"):
        double = dataclasses.replace(attention, **{name: 2 * getattr(attention, name)})
        assert seconds_of(double) > before * 1.001, name


def test_an_indexer_of_compressed_entries_reads_a_key_of_each_entry():
    # Eight texts of 65,536 tokens: 16,384 entries with keys of 132 bytes.
    attention = next(a for a in map(attention_of, layers()) if getattr(a, "sparse", "") == "csa")
    plan, far = Plan(cache="fp8"), Residency(far=1.0)
    site = Context(plan, Placement(far, far, *[as_scalar(0.0)] * 3), as_scalar(1.0), "all")
    batch = Batch(*[as_scalar(x) for x in (8, 1, 65536)], decoding=True)
    *_, task = compressed_tasks(site, jax.tree.map(as_scalar, attention), batch)
    indexer, *_ = task.kernel.count(B200, plan)
    assert float(as_scalar(indexer.demand.far)) == pytest.approx(8 * 16384 * 132, rel=1e-5)


def attention_of(layer: Layer) -> Any:
    return layer.attention


def compressed_tasks(site: Context, attention: Any, batch: Batch) -> list:
    return [
        t
        for t in attention_calls(site, as_scalar(HIDDEN), attention, [batch])
        if t.label == "attention"
    ]


@pytest.mark.parametrize(("version", "heads"), [("", 8), ("vllm-rocm-0.6", 32)])
def test_an_older_framework_reads_the_cache_once_for_each_query_head(version: str, heads: int):
    plan = Plan(framework="vllm", framework_version=version)
    main = Residency(main=1.0)
    site = Context(plan, Placement(main, main, *[as_scalar(0.0)] * 3), as_scalar(1.0), "all")
    batch = Batch(*[as_scalar(x) for x in (8, 1, 4096)], decoding=True)
    attention = jax.tree.map(as_scalar, load_model("llama-3.1-8b").stacks[0].layer.attention)
    calls = attention_calls(site, as_scalar(HIDDEN), attention, [batch])
    (found,) = [call.kernel for call in calls if isinstance(call.kernel, AttentionDecode)]
    assert (float(found.heads), float(found.kv_heads)) == (32, heads)


def test_a_fused_shared_expert_is_one_more_expert_that_every_token_goes_to():
    mixture = load_model("deepseek-v3").stacks[-1].layer.feed_forward
    assert isinstance(mixture, Mixture) and mixture.shares
    traced_mixture, main = jax.tree.map(as_scalar, mixture), Residency(main=1.0)
    found = {}
    for fuses in (False, True):
        plan = Plan(fuses_shared_expert=fuses)
        site = Context(plan, Placement(main, main, *[as_scalar(0.0)] * 3), as_scalar(1.0), "all")
        calls = feed_forward_calls(site, as_scalar(HIDDEN), traced_mixture, as_scalar(8.0))
        (experts,) = [call.kernel for call in calls if isinstance(call.kernel, Moe)]
        shared = {call.label for call in calls} >= {"up", "down"}
        found[fuses] = float(experts.topk), float(experts.experts), shared
    assert found == {False: (8, 256, True), True: (9, 257, False)}


def calls_of(name: str, framework: str | None, place: int = -1) -> list[KernelCall]:
    """Of a decode step of eight texts of 4,096 tokens, in one layer of a model, with experts in four bits."""
    plan, main = Plan(weights="mxfp4", framework=framework), Residency(main=1.0)
    nothing = [as_scalar(0.0)] * 3
    site = Context(plan, Placement(main, main, *nothing), as_scalar(1.0), "experts")
    batch = Batch(*[as_scalar(x) for x in (8, 1, 4096)], decoding=True)
    layer = jax.tree.map(as_scalar, load_model(name).stacks[place].layer)
    return layer_calls(site, as_scalar(HIDDEN), layer, [batch])


def test_a_half_of_a_layer_is_joined_to_its_streams_by_three_kernels():
    # Four streams: 24 weights of a token's mixture; 20 iterations over rows and over columns.
    calls = [call for call in calls_of("deepseek-v4-pro", None) if call.label == "streams"]
    assert len(calls) == 6
    post, product, pre = (call.kernel for call in calls[:3])
    assert isinstance(product, Gemm) and isinstance(pre, Elementwise)
    assert (float(product.n), float(product.k)) == (24, 4 * HIDDEN)
    # Bytes: four streams in, the half's output, four streams out; four streams in, one out.
    moved = [bytes_of(kernel) / 8 for kernel in (post, pre)]
    assert moved == pytest.approx([2 * 9 * HIDDEN, 2 * 5 * HIDDEN])
    plain = dataclasses.replace(pre, steps=None)
    later = [float(kernel.count(B200, Plan())[0].latency) for kernel in (pre, plain)]
    assert later[0] - later[1] == pytest.approx(40 * 50e-9)
    assert not [call for call in calls_of("deepseek-v3.2", None) if call.label == "streams"]


def bytes_of(kernel: Any) -> float:
    (work,) = kernel.count(B200, Plan())
    return float(as_scalar(work.demand.shared))


def test_a_framework_launches_the_products_of_indexers_and_compressors_apart():
    # V4: bottleneck and key; two compressors (2 x 2 x (512 + 128)) and 64 weights; queries; the indexer's.
    products = products_of("deepseek-v4-pro", "vllm")
    assert products == [(1536 + 512, "bf16"), (2560 + 64, "bf16"), (65536, "bf16"), (8192, "bf16")]
    # V3.2: its indexer's keys and the weights of its heads are not quantised.
    assert [columns for columns, _ in products_of("deepseek-v3.2", "sglang")] == [
        1536 + 576,
        128,
        64,
        128 * 192,
        64 * 128,
        128 * 128,
    ]
    together = products_of("deepseek-v4-pro", None)
    assert sum(n for n, _ in together) == sum(n for n, _ in products)
    assert len(together) == 2


def products_of(name: str, framework: str | None) -> list[tuple[float, str]]:
    """Columns and formats of the products before attention of the last layer."""
    calls = calls_of(name, framework)
    projections = [call for call in calls if call.label == "projection"]
    return [(float(c.kernel.n), c.dtype) for c in projections if isinstance(c.kernel, Gemm)]


@pytest.mark.parametrize(("kind", "added"), [("csa", 6), ("hca", 4)])
def test_small_kernels_around_compressors_are_counted_where_a_framework_launches_them(
    kind: str, added: int
):
    # Norms, outputs rotated back; the state and its pooling; of an indexer its queries and places.
    model = load_model("deepseek-v4-pro")
    place = next(
        i for i, s in enumerate(model.stacks) if getattr(s.layer.attention, "sparse", "") == kind
    )
    small = ("norm", "add", "quantise", "rope")
    counts = [
        sum(call.label in small for call in calls_of("deepseek-v4-pro", framework, place))
        for framework in (None, "vllm")
    ]
    assert counts[1] - counts[0] == added
