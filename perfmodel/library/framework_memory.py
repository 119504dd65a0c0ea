"""What a serving framework keeps of a chip's memory besides weights and KV cache."""

from typing import Literal

from pydantic import Field

from perfmodel.library.schema import Bytes, Quantity, Share, Strict


class FractionSince(Strict):
    """A default share of memory from a release on, and bytes of CUDA graphs that are counted from then on.

    - `release`: the first that has it; empty: all before the next.
    - `value`: the share of memory; `graphs`: bytes of CUDA graphs.
    """

    release: str
    value: float = Field(gt=0, le=1)
    source: str
    graphs: Bytes | None = None
    note: str = ""


class MemoryReserve(Strict):
    """How a framework finds the bytes of weights and KV cache; absent amounts are zero.

    - `share_of`: what its fraction is of: `total` memory, from which activations are then taken; `static`:
      memory once the process runs, activations being in what is left; `free`: what is free beside weights
      and activations.
    - `fractions`: its default, by release; without any it follows from the amounts that are `reserved`.
    - `raised`: the share that operators give where the default leaves next to nothing for KV cache.
    - `process`: of libraries and the driver in a process; `communication`: more, where a model is on several
      chips.
    - `logits`: of sampling, for each sequence of a step and word of the vocabulary.
    - `activations`: numbers of 16 bits for each token of a step and number of the hidden size.
    - `experts`: more, of a model with experts.
    - `reserved`: in any case; `reserved_per_token`: for each token of a step; `reserved_per_sequence`: for
      each sequence of the largest CUDA graph; `reserved_per_rank_sequence`: for each of each data rank, where
      there are several; `reserved_per_chip`: of one replica; `reserved_for_drafts`: where tokens are
      drafted; `reserved_least`: of all together; `least_from`: bytes of a chip from which on that holds.
    - `prompt_window`: whether a windowed layer keeps a step of prompt besides its window.
    - `block`: tokens of a block of KV cache.
    """

    share_of: Literal["total", "static", "free"]
    fractions: list[FractionSince] = []
    raised: Share | None = None
    process: Bytes | None = None
    communication: Bytes | None = None
    logits: Bytes | None = None
    activations: Quantity | None = None
    experts: Bytes | None = None
    reserved: Bytes | None = None
    reserved_per_token: Bytes | None = None
    reserved_per_sequence: Bytes | None = None
    reserved_per_rank_sequence: Bytes | None = None
    reserved_per_chip: Bytes | None = None
    reserved_for_drafts: Bytes | None = None
    reserved_least: Bytes | None = None
    least_from: Bytes | None = None
    prompt_window: bool = False
    block: int = Field(default=1, ge=1)

    def bytes_of(self, name: str) -> float:
        """One of its amounts, in bytes; zero where it is absent."""
        found = getattr(self, name)
        return 0.0 if found is None else found.si("byte")

    @property
    def activation_numbers(self) -> float:
        """Numbers for each token of a step and number of the hidden size."""
        return 0.0 if self.activations is None else self.activations.si("1")

    def default_of(self, release: str) -> FractionSince | None:
        """The default of a release; of the newest where it is empty; none where it is computed."""
        if not release:
            return self.fractions[-1] if self.fractions else None
        known = [one for one in self.fractions if _order(one.release) <= _order(release)]
        return known[-1] if known else None


def _order(release: str) -> tuple[int, ...]:
    """What releases are sorted by: their numbers."""
    digits = "".join(char if char.isdigit() else " " for char in release)
    return tuple(int(word) for word in digits.split())
