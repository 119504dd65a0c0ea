"""Kernel libraries, as kernels ask them: how each partitions, pads, folds, converts and communicates.

What the classes do by themselves is what most libraries do; the instances here are the smooth form, which
names no library and takes the best schedule that the hardware allows. Libraries are in
`perfmodel.kernels.backends`, one a file. All are frozen and hashable: a plan carries them as what its
compiled functions depend on.
"""

import dataclasses
from typing import NamedTuple

import jax.numpy as jnp

from perfmodel.smooth import power_of_two
from perfmodel.units import Flag, Scalar, Values
from perfmodel.workload.precision import look_up

TILE = 128.0
"""Tokens of the cache, and rows of queries, in a tile (FlashAttention 2 and 3, TensorRT-LLM)."""

LATENT_TILE = 64.0
"""Tokens of a tile of latents, whose rows are long."""

NO_SPLIT_LIMIT = 1e9
"""Parts of a cache, at most, where no rule says how many."""


class DecodeShape(NamedTuple):
    """What a rule of decode attention looks at.

    - `cache`: format of the cache.
    - `windowed`: whether there is a window, however long the text.
    - `group`: query heads of one KV head.
    - `shared_memory`: of a core, in bytes.
    """

    cache: str
    cores: Scalar
    batch: Scalar
    ctx_len: Scalar
    windowed: Flag
    group: Scalar
    kv_heads: Scalar
    head_dim: Scalar
    shared_memory: Scalar


class Partition(NamedTuple):
    """How a decode kernel partitions a cache over thread blocks.

    - `max_splits`, `min_splits`: parts of one sequence's cache, at most and at least.
    - `extra_passes`: over queries and outputs, or other kernels before the main one.
    - `per_query_head`: 1 where each query head has a block of its own and reads the cache itself.
    - `cuda_cores`: 1 where blocks multiply on the vector units, not on the matrix units.
    - `row_tile`: rows of queries that a block multiplies at least.
    - `heads_per_block`: query heads of one KV head that a block takes, at most.
    - `kv_tile`: tokens of the cache that a block takes at a time.
    - `blocks_per_core`: that a core works on at once, none of them faster for being alone.
    - `unpacked_bytes`: moved for each number of the cache before it is read.
    - `launches_hidden`: 1 where parts that a window hides are started too.
    """

    max_splits: Scalar
    extra_passes: Scalar
    per_query_head: Scalar
    cuda_cores: Scalar
    row_tile: Scalar
    min_splits: Scalar
    heads_per_block: Scalar
    kv_tile: Scalar
    blocks_per_core: Scalar
    unpacked_bytes: Scalar
    launches_hidden: Scalar


@dataclasses.dataclass(frozen=True, repr=False)
class Backend:
    """A kernel library, by its `name` in the files of frameworks."""

    name: str

    def __repr__(self) -> str:
        return self.name


@dataclasses.dataclass(frozen=True, repr=False)
class AttentionBackend(Backend):
    """Kernels of attention. Of decode steps:

    - `latent`: the kernels that decode latent attention; if not given, no library's.
    - `pads_cached_heads`: whether heads take the room of the next power of two on chip.
    - `masked_multihead_attention`: whether query heads with a block each are left to vector units, which
      take every number of the cache for one query.
    - `reads_boundary_tile`: whether a window that cuts the cache costs one tile more.
    - `writes_back`: whether its benchmark leaves the shared tier full of data that must be written back
      before it can be read into: seen as one more pass over as much of the cache as the tier holds.

    Of prompts:

    - `fp8_prompts`: the kernels that take prompts where weights are in fp8; if not given, these.
    - `prompt_rows`, `prompt_keys`: rows of queries, and keys, of a tile.
    - `folds`: whether the queries of a group are folded into rows of one block; `None`: both are tried.
    - `multiplies_hidden`: whether what a window hides is multiplied, and masked.
    - `scores_hidden`: whether what a window hides is scored, and only its products skipped.
    - `pads_prompt_heads`: whether heads are multiplied as of the next power of two.
    - `heads_in_16_bits`: head sizes that are multiplied in 16 bits where others are in fp8.
    - `multiplies_in_bf16`: whether products are in bf16 whatever the formats.
    - `splits_prompts`: whether keys are split, too, where blocks leave cores idle.
    - `absorbs_latents`: whether latents themselves are multiplied, the queries of all heads folded.
    """

    latent: "AttentionBackend | None" = None
    pads_cached_heads: bool = False
    masked_multihead_attention: bool = False
    reads_boundary_tile: bool = False
    writes_back: bool = False
    fp8_prompts: "AttentionBackend | None" = None
    prompt_rows: float = TILE
    prompt_keys: float = TILE
    folds: bool | None = False
    multiplies_hidden: bool = False
    scores_hidden: bool = False
    pads_prompt_heads: bool = False
    heads_in_16_bits: tuple[float, ...] = ()
    multiplies_in_bf16: bool = False
    splits_prompts: bool = False
    absorbs_latents: bool = False

    def partition(self, shape: DecodeShape, free: Partition) -> Partition:
        """How a cache is partitioned; `free`: without a rule."""
        return free

    def cached_padding(self, head_dim: Scalar) -> Scalar:
        """What a cached head becomes on chip, over what it is."""
        return (
            power_of_two(head_dim) / head_dim if self.pads_cached_heads else jnp.ones_like(head_dim)
        )

    def of_prompts(self, weights: str) -> "AttentionBackend":
        """The kernels that take prompts, where the weights are in a format."""
        return self.fp8_prompts if self.fp8_prompts and weights == "fp8" else self

    def row_tile(self, rows: Values, head_dim: Scalar) -> Values:
        """Rows in a tile of a prompt."""
        return jnp.full_like(rows, self.prompt_rows)

    def folded(self, group: Scalar, q_len: Scalar) -> Values:
        """Query heads folded into rows: all of a group, none, or both as alternatives."""
        if self.folds is None:
            return jnp.stack([jnp.ones_like(group), group])
        return group if self.folds else jnp.ones_like(group)

    def prompt_padding(self, key: Scalar, value: Scalar) -> Scalar:
        """What the heads of a prompt's keys and values become on chip, over what they are."""
        if not self.pads_prompt_heads:
            return jnp.ones_like(key)
        return (power_of_two(key) + power_of_two(value)) / (key + value)

    def start_factor(self, head_dim: Scalar) -> Scalar:
        """Time a block of a prompt takes to start, over the fitted."""
        return jnp.ones_like(head_dim)

    def prompt_parts(self, cores: Scalar, blocks: Values, attended: Scalar) -> Values:
        """Parts of the keys that a prompt's queries see: as many as the idle cores can take."""
        if not self.splits_prompts:
            return jnp.ones_like(blocks)
        return jnp.maximum(jnp.minimum(cores / blocks, attended / TILE), 1.0)


SMOOTH_ATTENTION = AttentionBackend("smooth", reads_boundary_tile=True, folds=None)


@dataclasses.dataclass(frozen=True, repr=False)
class GemmBackend(Backend):
    """Matrix products with weights.

    - `fuses_quantisation`: whether norms and activations write fp8 themselves, where the scale is known
      before.
    - `bf16_formats`: formats that are multiplied as bf16, though the chip has units for them.
    - `timed_alone`: whether its benchmark times the product alone: activations are quantised before, and
      no cache holds an operand.
    """

    fuses_quantisation: bool = False
    bf16_formats: tuple[str, ...] = ()
    timed_alone: bool = False

    def product_format(self, weights: str) -> str:
        """Format in which the matrix units multiply."""
        return "bf16" if weights in self.bf16_formats else look_up(weights).matrix

    def leaves_k_whole(self, weights: str, m: Scalar, n: Scalar, k: Scalar) -> Flag:
        """Whether k of a product is not split, though it might pay."""
        return jnp.zeros((), bool)


SMOOTH_GEMM = GemmBackend("smooth", fuses_quantisation=True)


@dataclasses.dataclass(frozen=True, repr=False)
class MoeBackend(Backend):
    """Grouped products of experts, whose tokens are padded to tiles of `row_tiles`: all are tried.

    - `timed_alone`: as of products.
    """

    row_tiles: tuple[float, ...] = (16.0, 32.0, 64.0, 128.0)
    timed_alone: bool = False

    def tiles_tried(self, weights: str, expected: Scalar) -> Values:
        """Rows of the tiles tried.

        - `expected`: pairs of token and expert of all ranks, over the experts of one.
        """
        return jnp.array(self.row_tiles)

    def step_time(self, weights: str, rows: Values) -> Values:
        """Time of a step of a tile's dot products, over that which does not depend on its `rows`."""
        return jnp.ones_like(rows)


SMOOTH_MOE = MoeBackend("smooth")


@dataclasses.dataclass(frozen=True, repr=False)
class CollectiveBackend(Backend):
    r"""Communication between chips.

    - `is_nccl`: whether all collectives but messages are NCCL's.
    - `largest`, `power`: an all-reduce of fewer than `largest` bytes over $n^{power}$ chips runs kernels of
      the framework's own, others NCCL's; without a largest, kernels that take what the network allows.
    """

    is_nccl: bool = False
    largest: float | None = None
    power: float = 0.0

    def reduces_itself(self, ranks: Scalar, size: Scalar) -> Flag:
        """Whether a framework's own kernels all-reduce a vector of `size` bytes, rather than NCCL's."""
        if self.largest is None:
            return jnp.ones_like(size, dtype=bool)
        return size < self.largest / ranks**self.power


SMOOTH_COLLECTIVE = CollectiveBackend("smooth")
