"""Tiers below the KV cache (host memory, SSD): blocks of prompts that were evicted, and how fast they return.

A block that is evicted from the KV cache goes to the first tier, one that this evicts to the next, from the
last it is forgotten; each forgets by last use. A block that is read comes back at its tier's bandwidth,
behind those that are on their way from there already. Writing down takes no bandwidth of reading up: links
have two directions.
"""

import itertools
from collections import Counter, OrderedDict
from collections.abc import Sequence
from typing import NamedTuple

BLOCK = 512
"""Tokens of a block of a prompt that requests may share, by its hash: as in Mooncake's traces."""


class Tier(NamedTuple):
    """What a tier holds: its name, tokens of KV cache, and tokens that come back in a second."""

    name: str
    tokens: float
    tokens_per_s: float


class LowerTiers:
    """Blocks in the tiers below the KV cache of an engine.

    - `loaded`: tokens that have come back from each tier, by name.
    """

    def __init__(self, tiers: Sequence[Tier] = ()) -> None:
        self._tiers = tuple(tiers)
        self._blocks = [OrderedDict[int, None]() for _ in self._tiers]
        self._free_at = [0.0] * len(self._tiers)
        self.loaded = Counter({one.name: 0 for one in self._tiers})

    def add(self, block: int) -> None:
        """The KV cache evicts a block."""
        for tier, blocks in zip(self._tiers, self._blocks, strict=True):
            blocks[block] = None
            blocks.move_to_end(block)
            if len(blocks) * BLOCK <= tier.tokens:
                return
            block, _ = blocks.popitem(last=False)

    def found(self, hash_ids: Sequence[int]) -> list[int]:
        """The first of some blocks of a prompt that are in any tier."""
        return list(itertools.takewhile(lambda one: self._place(one) >= 0, hash_ids))

    def load(self, found: Sequence[int], now: float) -> float:
        """When some blocks are in the KV cache, which are asked for `now`, in s."""
        counts = [0] * len(self._tiers)
        for block in found:
            i = self._place(block)
            counts[i] += 1
            del self._blocks[i][block]
        there = now
        for i, (tier, count) in enumerate(zip(self._tiers, counts, strict=True)):
            if count:
                self.loaded[tier.name] += count * BLOCK
                seconds = count * BLOCK / tier.tokens_per_s
                self._free_at[i] = max(self._free_at[i], now) + seconds
                there = max(there, self._free_at[i])
        return there

    def _place(self, block: int) -> int:
        """The tier that has a block; -1: none has it."""
        return next((i for i, blocks in enumerate(self._blocks) if block in blocks), -1)
