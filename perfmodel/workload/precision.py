"""Number formats: bytes of a weight, bytes of an activation, and the matrix unit used.

Block formats carry their scales: nvfp4 one fp8 scale for 16 values, mxfp4 one byte for
32 (OCP Microscaling Formats specification 1.0, 2023; NVIDIA Blackwell architecture brief).
"""

from collections.abc import Collection
from typing import Literal, NamedTuple

from perfmodel.errors import InputError


class Format(NamedTuple):
    """How a matrix product stores and computes.

    - `weight`, `activation`: bytes of one element, scales included.
    - `matrix`: the kind of matrix unit that multiplies them.
    - `passes`: over activations that are quantised on the fly: two where a scale is of the whole
      tensor, whose largest value must be known first; one where it is of a block or a row.
    """

    weight: float
    activation: float
    matrix: str
    passes: int


_INT4 = 0.5 + 2 / 128  # one bf16 scale for a group of 128, as AWQ and GPTQ store them
_NVFP4 = 0.5 + 1 / 16
_MXFP4 = 0.5 + 1 / 32

FORMATS = {
    "fp32": Format(4, 4, "fp32", 0),
    "bf16": Format(2, 2, "bf16", 0),
    "fp16": Format(2, 2, "bf16", 0),
    "fp8": Format(1, 1, "fp8", 2),
    "fp8_block": Format(1, 1, "fp8", 1),
    "int8": Format(1, 1, "int8", 1),
    "int4": Format(_INT4, 2, "bf16", 0),
    "nvfp4": Format(_NVFP4, _NVFP4, "fp4", 1),
    "mxfp4": Format(_MXFP4, _MXFP4, "fp4", 1),
    "w8a16": Format(1, 2, "bf16", 0),
    "w4a16_nvfp4": Format(_NVFP4, 2, "bf16", 0),
    "w4a16_mxfp4": Format(_MXFP4, 2, "bf16", 0),
    "w4a8_mxfp4": Format(_MXFP4, 1, "fp8", 1),
    "w4afp8": Format(_INT4, 1, "fp8", 1),
}

UNPACKED_FORMATS = {
    "fp8": "w8a16",
    "fp8_block": "w8a16",
    "int8": "w8a16",
    "nvfp4": "w4a16_nvfp4",
    "mxfp4": "w4a16_mxfp4",
    "w4a8_mxfp4": "w4a16_mxfp4",
    "w4afp8": "int4",
}
"""What a format becomes where a chip has no matrix unit for it: weights as they are, unpacked to
bf16 as they are multiplied (as Marlin does in vLLM and SGLang)."""

REPLACED_FORMATS = {"bf16": "fp16"}
"""What a format becomes on a chip that has units of its width but does not take it."""

MAX_NARROW_BYTES = 1.0
"""Bytes of a weight below which checkpoints leave some matrices as they were."""

Scope = Literal["all", "feed_forward", "experts"]
"""Which matrices a checkpoint in four bits has in them: all, those of feed-forward layers, or of
experts."""

COVERED: dict[Scope, tuple[str, ...]] = {
    "all": ("attention", "feed_forward", "experts"),
    "feed_forward": ("feed_forward", "experts"),
    "experts": ("experts",),
}

MatrixKind = Literal["fp32", "bf16", "fp8", "int8", "fp4"]
"""Kinds of matrix unit that a chip's file may list; fp16 runs at the rate of bf16."""


class Share(NamedTuple):
    """A share of a part's weights: the word of its format, bytes of a weight with scales, and the share."""

    word: str
    size: float
    share: float


class CheckpointFormats(NamedTuple):
    """Formats of a checkpoint part by part, as its file lists them layer by layer.

    - `native`: the format that most of what is quantised is in.
    - `attention`, `feed_forward`, `experts`: shares of each format; none where there is no such part.
    - `head`, `embedding`: of the output head and of the embedding.
    - `scope`: which matrices other checkpoints in four bits are taken to have in them.
    """

    native: str
    attention: tuple[Share, ...]
    feed_forward: tuple[Share, ...]
    experts: tuple[Share, ...]
    head: Share
    embedding: Share
    scope: Scope = "all"

    def words(self) -> set[str]:
        """Formats of any part."""
        return {share.word for part in self[1:4] for share in part}

    def runnable(
        self, kinds: Collection[str], chip: str, without: Collection[str] = ()
    ) -> "CheckpointFormats":
        """With the formats that a chip with matrix units of some `kinds` runs instead, as `runnable`."""
        parts = [
            tuple(share._replace(word=runnable(share.word, kinds, chip, without)) for share in part)
            for part in self[1:4]
        ]
        native = runnable(self.native, kinds, chip, without)
        attention, feed_forward, experts = parts
        return self._replace(
            native=native, attention=attention, feed_forward=feed_forward, experts=experts
        )


class MixedFormat(str):
    """The format that most of a part is in; `size` is bytes of a weight in the mean over the part."""

    size: float

    def __new__(cls, shares: tuple[Share, ...]) -> "MixedFormat":
        words = {share.word for share in shares}
        most = max(words, key=lambda word: sum(s.share for s in shares if s.word == word))
        mixed = super().__new__(cls, most)
        mixed.size = sum(share.size * share.share for share in shares)
        return mixed


def look_up(dtype: str) -> Format:
    """The format called `dtype`.

    **Raises:**

    - `InputError`: for an unknown name.
    """
    if dtype not in FORMATS:
        raise InputError(f"unknown dtype {dtype!r}; allowed are {', '.join(FORMATS)}.")
    found = FORMATS[dtype]
    return found._replace(weight=dtype.size) if isinstance(dtype, MixedFormat) else found


def format_of(part: str, scope: Scope | CheckpointFormats, weights: str, unquantised: str) -> str:
    """The format of a part of a model, a word of `COVERED`, whose checkpoint is in `weights`."""
    if isinstance(scope, CheckpointFormats):
        shares: tuple[Share, ...] = getattr(scope, part)
        if weights == scope.native and shares:
            return MixedFormat(shares)
        scope = scope.scope
    narrow = look_up(weights).weight < MAX_NARROW_BYTES
    return unquantised if narrow and part not in COVERED[scope] else weights


def taken(dtype: str, without: Collection[str]) -> str:
    """The format that a chip takes for `dtype`: another of its width where it is `without` it."""
    return REPLACED_FORMATS.get(dtype, dtype) if dtype in without else dtype


def runnable(dtype: str, kinds: Collection[str], chip: str, without: Collection[str] = ()) -> str:
    """How `dtype` runs on a chip with matrix units of some `kinds`: as it is, or unpacked.

    **Arguments:**

    - `without`: formats that the chip does not take, though it has units of their width.

    **Raises:**

    - `InputError`: when it cannot run there, with the formats that can.
    """
    dtype = taken(dtype, without)
    if look_up(dtype).matrix in kinds:
        return dtype
    unpacked = UNPACKED_FORMATS.get(dtype, "")
    if unpacked and look_up(unpacked).matrix in kinds:
        return unpacked
    works = [name for name, format in FORMATS.items() if format.matrix in kinds]
    raise InputError(
        f"{chip} has no matrix unit for {dtype}; the nearest that work are {', '.join(works)}."
    )
