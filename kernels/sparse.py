r"""Sparse attention: an indexer scores the cache, the best entries are picked, and attention sees these.

- `dsa`: of DeepSeek-V3.2 and GLM-5, over latents (arXiv 2512.02556, section 2.1).
- `msa`: of MiniMax-M3, over blocks of keys and values of a few heads (its `config.json`).
- `csa`, `hca`: of DeepSeek-V4: entries that stand for 4 tokens, of which an indexer picks; and
  for 128 tokens, all seen (technical report, section 2.3). Both see a window of tokens besides.

Kernels compute all the entries that may be picked, also where the text is shorter
(`flash_mla_sparse_fwd`: its time does not depend on the context).
"""

from typing import NamedTuple

import jax.numpy as jnp

from perfmodel.hardware.chip import Chip
from perfmodel.hardware.efficiency import DecodeEfficiency, MatmulEfficiency
from perfmodel.kernels.elementwise import Traffic, elementwise
from perfmodel.kernels.home import Home, native, spilled
from perfmodel.kernels.launch import crossing_time
from perfmodel.resources import Resources
from perfmodel.roofline import Work
from perfmodel.smooth import soft_min
from perfmodel.units import Scalar
from perfmodel.workload.plan import Plan
from perfmodel.workload.precision import look_up

KINDS = ("dsa", "msa", "csa", "hca")
"""Kinds of sparse attention, by their index in a row."""

SCORE_BYTES = 4.0
"""Scores are in fp32."""

TILE = 64.0
"""Heads, or queries, that one read of a key serves."""

TOPK = Traffic(read=8.0, written=0.0, flops=4.0, exponentials=0.0, crossings=2.0, cold=0.0)
"""Of one score: read once to count its digits, and once to pick (radix select)."""


class Form(NamedTuple):
    """What distinguishes one kind from another.

    - `ratio`: tokens of one entry; `window`: tokens seen besides.
    - `key`, `value`, `stored`: numbers of one entry: in its key, in its value, in the cache.
    - `kv_heads`: that are cached.
    - `index_heads`, `index_key`: of the indexer, whose keys take a byte a number; zero for none.
    - `most`: entries that it picks, where a row does not say.
    """

    ratio: Scalar | float
    window: Scalar | float
    key: Scalar | float
    value: Scalar | float
    stored: Scalar | float
    kv_heads: Scalar | float
    index_heads: Scalar | float
    index_key: Scalar | float
    most: Scalar | float


FORMS = {
    "dsa": Form(1.0, 0.0, 576.0, 512.0, 576.0, 1.0, 64.0, 128.0, 2048.0),
    "msa": Form(1.0, 0.0, 128.0, 128.0, 256.0, 4.0, 4.0, 128.0, 2048.0),
    "csa": Form(4.0, 128.0, 512.0, 512.0, 512.0, 1.0, 64.0, 128.0, 512.0),
    "hca": Form(128.0, 128.0, 512.0, 512.0, 512.0, 1.0, 0.0, 0.0, 1e12),
}
"""From the configurations of DeepSeek-V3.2, MiniMax-M3 and DeepSeek-V4-Flash, as in `library/models`."""


class Text(NamedTuple):
    """Sequences, new tokens of each, tokens in each cache, and whether it is a prompt (one or zero)."""

    batch: Scalar
    queries: Scalar
    context: Scalar
    prompt: Scalar

    @property
    def tokens(self) -> Scalar:
        """New tokens in all."""
        return self.batch * self.queries


def form_of(kind: Scalar) -> Form:
    """The form of a kind, given by its index."""
    table = jnp.array([FORMS[name] for name in KINDS], dtype=float)
    return Form(*jnp.take(table, kind.astype(int), axis=0))


def sparse(
    chip: Chip,
    plan: Plan,
    text: Text,
    heads: Scalar,
    topk: Scalar,
    form: Form,
    home: Home | None = None,
) -> list[Work]:
    """Count the indexer, the choice of entries, and attention.

    **Arguments:**

    - `topk`: entries that are picked; zero: as many as the kind does.
    - `home`: where the cache lives; the chip's native memory if not given.
    """
    home = native(chip) if home is None else home
    entries = text.context / form.ratio
    most = jnp.where(topk > 0, topk, form.most)
    indexed = jnp.where(form.index_heads > 0, 1.0, 0.0)
    # What is picked is read and written as the scores are, with its place in the cache.
    choice = elementwise(chip, plan, text.tokens, entries + most * indexed, TOPK)
    return [
        _only(_indexer(chip, text, form, entries, home), indexed),
        _only(choice, indexed),
        _attention(chip, plan, text, form, heads, _seen(text, form, entries, most), home),
    ]


def _only(work: Work, on: Scalar) -> Work:
    """The work where `on` is one; none where it is zero."""
    return Work(
        demand=work.demand.map(lambda _, demand: demand * on),
        shares=work.shares,
        occupancy=work.occupancy,
        latency=work.latency * on,
        choice=work.choice,
        dtype=work.dtype,
    )


def _seen(text: Text, form: Form, entries: Scalar, most: Scalar) -> Scalar:
    """Entries that one query is multiplied with: where an indexer picks, padded to the most it may."""
    picked = jnp.where(form.index_heads > 0, most, jnp.minimum(entries, most))
    return picked + jnp.minimum(text.context, form.window)


def _shares(fitted: MatmulEfficiency | DecodeEfficiency) -> Resources:
    """Of a plain product for the indexer; of absorbed latents, which are the same, for attention."""
    return Resources(
        matrix=fitted.sustained,
        private=fitted.private,
        shared=fitted.feed,
        main=fitted.streaming,
    )


def _indexer(chip: Chip, text: Text, form: Form, entries: Scalar, home: Home) -> Work:
    """Scores of each new token with the entries before it, written for the choice."""
    pairs = text.tokens * (entries - text.prompt * 0.5 * text.queries / form.ratio)
    reads = home.traffic(text.batch * entries * form.index_key)
    scores = SCORE_BYTES * pairs
    launched = chip.execution == "launched"
    return Work(
        demand=Resources(
            matrix=2 * form.index_heads * form.index_key * pairs,
            private=reads["private"],
            shared=reads["shared"] + reads["main"] + scores if launched else reads["shared"],
            main=reads["main"] + (scores * spilled(chip, scores) if launched else 0.0),
            far=reads["far"],
        ),
        shares=_shares(chip.efficiency.matmul),
        latency=chip.efficiency.elementwise.launch + crossing_time(chip, 2.0),
    )


def _attention(
    chip: Chip, plan: Plan, text: Text, form: Form, heads: Scalar, seen: Scalar, home: Home
) -> Work:
    """Each query gathers its own entries, which all heads of a cached one share."""
    pairs = text.tokens * heads * seen
    number = form.stored * form.kv_heads * look_up(plan.cache).weight
    kept = text.batch * (text.context / form.ratio + form.window)
    reads = home.traffic(soft_min(text.tokens * seen, kept) * number)
    gathered = text.tokens * seen * number
    launched = chip.execution == "launched"
    blocks = text.tokens * form.kv_heads * jnp.maximum(heads / form.kv_heads / TILE, 1.0)
    # A decoded token's entries are split over cores, as in `attention_decode`.
    blocks = blocks * (1 + (1 - text.prompt) * seen / TILE)
    return Work(
        demand=Resources(
            matrix=2 * (form.key + form.value) * pairs,
            exponential=pairs,
            private=reads["private"],
            shared=gathered if launched else reads["shared"],
            main=reads["main"],
            far=reads["far"],
        ),
        shares=_shares(chip.efficiency.mla_decode),
        occupancy=soft_min(blocks / chip.cores, jnp.ones_like(blocks)) if launched else 1.0,
        latency=chip.efficiency.mla_decode.launch + crossing_time(chip, 4.0),
    )
