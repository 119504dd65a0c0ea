r"""Sparse attention: an indexer scores the cache, the best entries are picked, and attention sees these.

- `dsa`: of DeepSeek-V3.2 and GLM-5, over latents (arXiv 2512.02556, section 2.1).
- `msa`: of MiniMax-M3, over blocks of keys and values of a few heads (its `config.json`).
- `csa`, `hca`: of DeepSeek-V4: entries that stand for 4 tokens, of which an indexer picks; and
  for 128 tokens, all seen (technical report, section 2.3). Both see a window of tokens besides.

Kernels compute all the entries that may be picked, also where the text is shorter
(`flash_mla_sparse_fwd`: its time does not depend on the context). Whole models and rows of the
kernel schema are counted here alike.

What indexers keep and multiply, read in the frameworks' sources and seen in measured modules of
SGLang 0.5.14 and 0.5.16 (`aiconfigurator-core` 0.12.0):

- DeepSeek's keys are in fp8, with one scale in fp32 for each key, and so are the products
  (`deep_gemm.fp8_mqa_logits`), whatever the format of the cache. Each tensor rank scores with all
  heads of the indexer: 131,072 tokens more take as long on one of eight ranks as on one alone.
- MiniMax's keys are in bf16, also beside a cache in fp8: so read, they come at 0.86 of the
  bandwidth of B200, 0.92 of H200's and 0.94 of H100's. Its heads are cut over tensor ranks.
"""

import dataclasses
from typing import NamedTuple

import jax.numpy as jnp

from perfmodel.hardware.chip import Chip
from perfmodel.hardware.parameters import AttentionDecodeEfficiency, GemmEfficiency
from perfmodel.kernels.attention import Heads, causal_pairs
from perfmodel.kernels.attention_decode import attention_decode
from perfmodel.kernels.elementwise import Traffic, elementwise
from perfmodel.kernels.kernel import AbstractKernel, column, extra
from perfmodel.kernels.mla import with_latent_parameters
from perfmodel.kernels.occupancy import mesh_traversal_time
from perfmodel.kernels.residency import Residency, native, spilled
from perfmodel.resources import Resources
from perfmodel.roofline import MIN_RATE, Work
from perfmodel.smooth import soft_min
from perfmodel.trees import map_leaves
from perfmodel.units import Scalar, as_scalar
from perfmodel.workload.backend import SMOOTH_ATTENTION
from perfmodel.workload.plan import MATRIX, Plan
from perfmodel.workload.precision import look_up

KINDS = ("dsa", "msa", "csa", "hca")
"""Kinds of sparse attention, by their index in a row."""

SCORE_BYTES = 4.0
"""Scores are in fp32."""

TILE = 64.0
"""Heads, or queries, that one read of a key serves."""

INDEX_MATRIX = "fp8"
"""Matrix units that score entries, where a chip has them; else those of bf16."""

INDEX_KEY = 1 + 4 / 128
"""Bytes of a number of a key of DeepSeek's indexer: fp8, with one scale in fp32 for a key of 128."""

FLOP_PER_SCORE = 4.0
"""FLOP of a vector unit for each score of a head: two instructions, of which each could be a multiply-add,
rectify it and add it to those of the other heads under a weight (arXiv 2512.02556, equation 1)."""

TOPK = Traffic(read=8.0, written=0.0, flops=4.0, exponentials=0.0, traversals=2.0, uncached=0.0)
"""Of one score: read once to count its digits, and once to pick (radix select)."""


class Form(NamedTuple):
    """What distinguishes one kind from another.

    - `ratio`: tokens of one entry; `window`: tokens seen besides.
    - `key`, `value`, `stored`: numbers of one entry: in its key, in its value, in the cache.
    - `kv_heads`: that are cached.
    - `index_heads`, `index_key`: of the indexer; zero for none.
    - `index_bytes`: of one number of its keys.
    - `block`: entries that are picked together, by one score.
    - `default_topk`: entries that it picks, where a row does not say; infinite where all are seen.
    """

    ratio: Scalar | float
    window: Scalar | float
    key: Scalar | float
    value: Scalar | float
    stored: Scalar | float
    kv_heads: Scalar | float
    index_heads: Scalar | float
    index_key: Scalar | float
    index_bytes: Scalar | float
    block: Scalar | float
    default_topk: Scalar | float


FORMS = {
    "dsa": Form(1.0, 0.0, 576.0, 512.0, 576.0, 1.0, 64.0, 128.0, INDEX_KEY, 1.0, 2048.0),
    "msa": Form(1.0, 0.0, 128.0, 128.0, 256.0, 4.0, 4.0, 128.0, 2.0, 128.0, 2048.0),
    "csa": Form(4.0, 128.0, 512.0, 512.0, 512.0, 1.0, 64.0, 128.0, INDEX_KEY, 1.0, 512.0),
    "hca": Form(128.0, 128.0, 512.0, 512.0, 512.0, 1.0, 0.0, 0.0, 0.0, 1.0, float("inf")),
}
"""From the configurations of DeepSeek-V3.2, MiniMax-M3 and DeepSeek-V4-Flash, as in `library/models`."""


class Sequences(NamedTuple):
    """Sequences, new tokens of each, tokens in each cache, and whether it is a prompt (one or zero)."""

    batch: Scalar
    q_len: Scalar
    ctx_len: Scalar
    is_prefill: Scalar

    @property
    def tokens(self) -> Scalar:
        """New tokens in all."""
        return self.batch * self.q_len


def form_of(kind: Scalar) -> Form:
    """The form of a kind, given by its index."""
    table = jnp.array([FORMS[name] for name in KINDS], dtype=float)
    return Form(*jnp.take(table, kind.astype(int), axis=0))


def index_matrix(chip: Chip) -> str:
    """The kind of matrix unit that an indexer's scores are computed in."""
    return INDEX_MATRIX if INDEX_MATRIX in chip.matrix else "bf16"


def sparse_attention(
    chip: Chip,
    plan: Plan,
    sequences: Sequences,
    heads: Scalar,
    topk: Scalar,
    form: Form,
    residency: Residency | None = None,
) -> list[Work]:
    """Count the indexer, the choice of entries, and attention: of a decode step, and of a prompt.

    **Arguments:**

    - `chip`: whose parameters of decode are those of latents.

    - `topk`: entries that are picked; zero: as many as the kind does.
    - `residency`: where the cache lives; the chip's native memory if not given.
    """
    residency = native(chip) if residency is None else residency
    entries = sequences.ctx_len / form.ratio
    most = jnp.where(topk > 0, topk, form.default_topk)
    indexed = jnp.where(form.index_heads > 0, 1.0, 0.0)
    # What is picked is read and written as the scores are, with its place in the cache.
    scores = (entries + jnp.where(form.index_heads > 0, most, 0.0)) / form.block
    top_k = elementwise(chip, plan, sequences.tokens, scores, TOPK)
    attended = _attended_entries(sequences, form, entries, most)
    return [
        _where(_indexer(chip, sequences, form, entries, residency), indexed),
        _where(top_k, indexed),
        _where(
            _decode(chip, plan, sequences, form, heads, attended, residency),
            1 - sequences.is_prefill,
        ),
        _where(
            _prefill(chip, plan, sequences, form, heads, attended, residency), sequences.is_prefill
        ),
    ]


def _where(work: Work, on: Scalar) -> Work:
    """The work where `on` is one; none where it is zero."""
    return Work(
        demand=work.demand.map(lambda _, demand: demand * on),
        shares=work.shares,
        occupancy=work.occupancy,
        latency=work.latency * on,
        selection_sharpness=work.selection_sharpness,
        dtype=work.dtype,
    )


def _causal_entries(sequences: Sequences, form: Form, entries: Scalar) -> Scalar:
    """Entries up to a new token, on average: those of the tokens after it are not seen."""
    return entries - (sequences.q_len - 1) / 2 / form.ratio


def _attended_entries(sequences: Sequences, form: Form, entries: Scalar, most: Scalar) -> Scalar:
    """Entries that one query is multiplied with: where some are picked, padded to the most that may be."""
    picked = jnp.where(jnp.isinf(most), _causal_entries(sequences, form, entries), most)
    near = jnp.minimum(sequences.ctx_len, form.window)
    return picked + causal_pairs(sequences.q_len, sequences.ctx_len, near) / sequences.q_len


def _cached_entries(sequences: Sequences, form: Form) -> Scalar:
    """Entries of one cache, and tokens in the windows of all queries."""
    windows = jnp.minimum(sequences.ctx_len, form.window + sequences.q_len - 1)
    return sequences.ctx_len / form.ratio + jnp.where(form.window > 0, windows, 0.0)


def _shares(
    fitted: GemmEfficiency | AttentionDecodeEfficiency, useful: Scalar | float = 1.0
) -> Resources:
    """Of a plain product for the indexer; of absorbed latents, which are the same, for attention."""
    return Resources(
        matrix=fitted.sustained * useful,
        private=fitted.private,
        shared=fitted.feed,
        main=fitted.streaming,
    )


def _indexer(
    chip: Chip, sequences: Sequences, form: Form, entries: Scalar, residency: Residency
) -> Work:
    """Scores of each new token with the entries before it, written for the choice."""
    pairs = sequences.tokens * _causal_entries(sequences, form, entries)
    reads = residency.traffic(sequences.batch * entries * form.index_key * form.index_bytes)
    scores = SCORE_BYTES * pairs / form.block
    launched = chip.execution == "launched"
    return Work(
        demand=Resources(
            matrix=2 * form.index_heads * form.index_key * pairs,
            vector=FLOP_PER_SCORE * form.index_heads * pairs,
            private=reads["private"],
            shared=reads["shared"] + reads["main"] + scores if launched else reads["shared"],
            main=reads["main"] + (scores * spilled(chip, scores) if launched else 0.0),
            far=reads["far"],
        ),
        shares=_shares(chip.efficiency.gemm, _indexer_rate(chip, form)),
        latency=chip.efficiency.elementwise.launch + mesh_traversal_time(chip, 2.0),
        dtype=index_matrix(chip),
    )


def _indexer_rate(chip: Chip, form: Form) -> Scalar:
    """Share of the peak of matrix units that wait while vector units rectify and add what they multiplied.

    So counted, products in fp8 take what `deep_gemm.fp8_mqa_logits` is measured at: 0.30 to 0.38 of the
    peak of B200, 0.37 to 0.43 of H200's. Keys in 16 bits are multiplied in them.
    """
    narrow, wide = (as_scalar(chip.rates(kind).matrix) for kind in (index_matrix(chip), "bf16"))
    rate = jnp.where(form.index_bytes < 2, narrow, wide)
    # As a ratio: single precision has no room for the slopes of times of 1e-13 s.
    waits = rate * chip.efficiency.gemm.sustained / (chip.vector + MIN_RATE)
    sums = waits * FLOP_PER_SCORE / (2 * jnp.maximum(form.index_key, 1.0))
    return rate / narrow / (1 + sums)


def _decode(
    chip: Chip,
    plan: Plan,
    sequences: Sequences,
    form: Form,
    heads: Scalar,
    attended: Scalar,
    residency: Residency,
) -> Work:
    """Attention of a decode step to what is picked: as to a cache of so many entries.

    So counted, a kernel over DeepSeek-V4's entries (`FLASHMLA_SPARSE_DSV4` in vLLM 0.24) is off by 31 % on
    B200 and 14 % on H200, on average over 130 measured sizes each; without splits and their sum, by 78 and
    44 %; with what frameworks do to dense latents, by 33 and 32 %.
    """
    share = _gathered(sequences, form, attended) / (sequences.tokens * attended)
    residency = map_leaves(lambda part: part * share, residency)
    numbers = (form.kv_heads, form.key, form.value, form.stored)
    shape = Heads(heads, *map(as_scalar, numbers))
    return attention_decode(chip, plan, sequences.tokens, attended, shape, residency=residency)


def _gathered(sequences: Sequences, form: Form, attended: Scalar) -> Scalar:
    """Entries that leave the memory of the cache: what is gathered, but no more than are kept."""
    return soft_min(sequences.tokens * attended, sequences.batch * _cached_entries(sequences, form))


def _prefill(
    chip: Chip,
    plan: Plan,
    sequences: Sequences,
    form: Form,
    heads: Scalar,
    attended: Scalar,
    residency: Residency,
) -> Work:
    """Each query of a prompt gathers its own entries, which all heads of a cached one share."""
    pairs = sequences.tokens * heads * attended
    number = form.stored * form.kv_heads * look_up(plan.cache).weight
    reads = residency.traffic(_gathered(sequences, form, attended) * number)
    launched = chip.execution == "launched"
    blocks = sequences.tokens * form.kv_heads * jnp.maximum(heads / form.kv_heads / TILE, 1.0)
    return Work(
        demand=Resources(
            matrix=2 * (form.key + form.value) * pairs,
            exponential=pairs,
            private=reads["private"],
            shared=sequences.tokens * attended * number if launched else reads["shared"],
            main=reads["main"],
            far=reads["far"],
        ),
        shares=_shares(chip.efficiency.attention_decode),
        occupancy=soft_min(blocks / chip.cores, jnp.ones_like(blocks)) if launched else 1.0,
        latency=chip.efficiency.attention_decode.launch + mesh_traversal_time(chip, 4.0),
    )


class SparseAttention(AbstractKernel):
    """Sparse attention of `q_len` new tokens for each of `batch` sequences; several are a prompt, whatever
    the phase says.

    - `batch`: sequences; `heads`: of queries, on one chip; `q_len`: new tokens of each sequence.
    - `kind`: how entries are chosen; `phase`: of a benchmark's row.
    - `ctx_len`: tokens in each cache, the new ones included.
    - `topk`: entries that are picked; zero: as many as the kind does.
    - `residency`: where the cache lives, if not in the chip's native memory.
    - The others: sizes of a model's own attention, which take the place of those of its kind; see `Form`.
    """

    op = "sparse_attention"
    family = "mla_decode"
    reads = (MATRIX, "cache", "replay")
    wishes = frozenset({INDEX_MATRIX})

    batch: Scalar = column()
    ctx_len: Scalar = column()
    heads: Scalar = column()
    q_len: Scalar = column(default=1.0)
    topk: Scalar = column(default=0.0)
    kind: Scalar = column(words=KINDS)
    phase: Scalar = column(words=("decode", "prefill"))
    ratio: Scalar | None = extra()
    window: Scalar | None = extra()
    key: Scalar | None = extra()
    value: Scalar | None = extra()
    stored: Scalar | None = extra()
    kv_heads: Scalar | None = extra()
    index_heads: Scalar | None = extra()
    index_key: Scalar | None = extra()
    residency: Residency | None = None

    def count(self, chip: Chip, plan: Plan) -> list[Work]:
        is_prefill = jnp.where((self.phase > 0) | (self.q_len > 1), 1.0, 0.0)
        sequences = Sequences(self.batch, self.q_len, self.ctx_len, is_prefill)
        chip = with_latent_parameters(chip)
        plan = dataclasses.replace(plan, attention_backend=SMOOTH_ATTENTION)
        sizes = (sequences, self.heads, self.topk, self.form)
        return sparse_attention(chip, plan, *sizes, self.residency)

    @property
    def form(self) -> Form:
        """Of its kind, with the sizes of a model's own."""
        sizes = {name: getattr(self, name, None) for name in Form._fields}
        return form_of(self.kind)._replace(**{n: x for n, x in sizes.items() if x is not None})
