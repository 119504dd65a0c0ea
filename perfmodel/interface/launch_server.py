"""What a row of the serving schema says of its servers, as their options need it."""

import math
import re
from collections.abc import Mapping
from typing import Any, NamedTuple

from perfmodel.inference.deployment import cache_format, formats_of
from perfmodel.inference.evaluate import MAX_SEQUENCES
from perfmodel.library.checkpoint import checkpoint
from perfmodel.library.chip import chip_file
from perfmodel.library.files import fold
from perfmodel.library.framework import find_version, framework_files, older_versions
from perfmodel.library.launch_options import (
    foreign_quantisers,
    launch_options,
    node_chips,
    online_word,
)
from perfmodel.library.model import load_model, published
from perfmodel.library.schema import si_or
from perfmodel.workload.feed_forward import Mixture
from perfmodel.workload.plan import REPLICA_RANKS

Row = Mapping[str, Any]
"""A row of the serving schema by column; cells are words or numbers."""

MAX_STEP_TOKENS = 16384
"""Tokens of a step, at most: SGLang's largest default on eight B200 (`chunked_prefill_size`, server_args.py
of 0.5.14). A longer prompt is cut."""

STEP_GRAIN = 256
"""Token budgets are multiples of this, so that any page size of a KV cache divides them."""


class Server(NamedTuple):
    """One server, of which there may be several copies.

    - `role`: `prefill` or `decode` where these are apart; else empty.
    - `chip`: its name in the library; `architecture`: of it; `node`: chips of one host.
    - `tp`, `pp`, `ep`, `dp`: ranks; `copies`: independent servers like this one.
    - `model`: as the row names it; `weights`, `unquantised`, `cache`: formats.
    - `sequences`: that run at once on one data rank; `prompt`: new tokens of one; `length`: in and out.
    - `drafts`: tokens that are guessed in each step; `memory`: share of it; 0: the framework's choice.
    """

    role: str
    chip: str
    architecture: str
    node: int
    tp: int
    pp: int
    ep: int
    dp: int
    copies: int
    model: str
    weights: str
    unquantised: str
    cache: str
    sequences: int
    prompt: int
    length: int
    drafts: int
    memory: float

    @property
    def chips(self) -> int:
        """Of one copy."""
        return self.tp * self.pp * self.dp

    @property
    def hosts(self) -> int:
        """That one copy spans: as few as share its chips evenly, and whole data ranks where one fits."""
        parts = self.dp if self.tp * self.pp <= self.node else self.chips
        least = math.ceil(self.chips / self.node)
        return next(n for n in range(least, self.chips + 1) if parts % n == 0 or n == self.chips)

    @property
    def step_tokens(self) -> int:
        """Token budget of a step on one data rank: all sequences decode, and one prompt rides along."""
        decoded = 0 if self.role == "prefill" else self.sequences * (1 + self.drafts)
        prompt = 0 if self.role == "decode" else min(self.prompt, MAX_STEP_TOKENS)
        # vLLM takes no fewer tokens than sequences.
        tokens = max(prompt + decoded, self.sequences)
        return math.ceil(tokens / STEP_GRAIN) * STEP_GRAIN


def framework_of_row(row: Row) -> str:
    """The framework that a row names, where it is one whose commands are known; else empty.

    Older versions have other options.
    """
    cell = fold(word(row, "framework"))
    version = word(row, "framework_version")
    if {version, f"{cell}-{version}"} & older_versions().keys():
        return ""
    known = {
        fold(name): stem for stem, file in framework_files().items() for name in (stem, file.name)
    }
    found = known.get(cell, "")
    return found if found in launch_options().documented else ""


def server_of(row: Row, role: str = "") -> Server:
    """A row's server, or the one that has a `role` in it.

    **Raises:**

    - `InputError`: for a chip, a model or a format that is not known.
    """
    stem, file = chip_file(word(row, f"{role}_chip" if role else "chip") or word(row, "chip"))
    model = word(row, "model")
    shape = load_model(model)
    unquantised, weights = formats_of(word(row, "precision"), shape, published(model))
    tp, pp, ep, dp = (count(row, f"{role}_{name}" if role else name) for name in REPLICA_RANKS)
    mixes = any(isinstance(stack.layer.feed_forward, Mixture) for stack in shape.stacks)
    copies = count(row, f"{role}_workers" if role else "replicas") * (1 if mixes else dp)
    ranks = dp if mixes else 1
    running = _at_once(row, MAX_SEQUENCES * ranks * copies)
    return Server(
        role,
        stem,
        file.architecture,
        node_chips(si_or(file.scale_up.size if file.scale_up else None, "1", 1.0)),
        *(tp, pp, ep, ranks, copies),
        *(model, weights, unquantised, cache_format(word(row, "kv_precision"), shape.cache)),
        sequences=math.ceil(running / copies / ranks),
        prompt=count(row, "isl") - count(row, "prefix_tokens", 0),
        length=count(row, "isl") + count(row, "osl") + count(row, "speculative_tokens", 0),
        drafts=count(row, "speculative_tokens", 0),
        memory=_memory_share(row),
    )


def _at_once(row: Row, most: float) -> float:
    """Sequences that all servers run at once, at most: those of all users; of requests that come at a rate as
    many as the prediction lets run, since their number varies around its mean.
    """
    open_loop = _number(row, "requests_per_s", 0.0) > 0
    return _number(row, "max_running" if open_loop else "concurrency", most)


def _memory_share(row: Row) -> float:
    """Share of memory that a server is given: as the row says, else the framework's default; 0 where that
    is computed from other options."""
    name = framework_of_row(row)
    memory = find_version(name).memory if name else None
    default = None if memory is None else memory.default_of("")
    return _number(row, "memory_fraction", 0.0 if default is None else default.value)


def word(row: Row, name: str) -> str:
    """A cell as text on one line, so that it cannot leave a comment; empty where it is not there."""
    cell = row.get(name)
    missing = cell is None or (isinstance(cell, float) and math.isnan(cell))
    if missing:
        return ""
    if isinstance(cell, float):
        return f"{cell:.0f}" if cell == round(cell) else f"{cell:.4g}"
    return " ".join(str(cell).split())


def count(row: Row, name: str, default: int = 1) -> int:
    """A cell as a whole number."""
    return round(_number(row, name, default))


def _number(row: Row, name: str, default: float) -> float:
    return float(word(row, name) or default)


def model_line(server: Server, framework: str) -> str:
    """The shell variable that says which weights are loaded."""
    found = _as_published(server) or _plain(server, framework)
    if found:
        return f'MODEL="${{MODEL:-{found}}}"'
    # A shell reads this: a model or a chip may be named by the path of its file.
    named = f"no checkpoint of {server.model} in {server.weights} for {server.chip} is known here"
    reason = re.sub(r"[^\w./ -]", "", named)
    return f'MODEL="${{MODEL:?{reason}; give the path of one}}"'


def quantised_online(server: Server, framework: str) -> str:
    """The framework's word for weights that it makes itself, where no checkpoint has them; else empty."""
    made = not _as_published(server) and _plain(server, framework)
    return _online(server, framework) if made else ""


def _as_published(server: Server) -> str:
    """The checkpoint in the format of the weights, of those that are for the chip."""
    return checkpoint(server.model, server.weights, foreign_quantisers(server.architecture))


def _plain(server: Server, framework: str) -> str:
    """The checkpoint in 16 bits, where the framework can quantise it as it is loaded."""
    return checkpoint(server.model, "bf16") if _online(server, framework) else ""


def _online(server: Server, framework: str) -> str:
    return online_word(framework, server.weights, server.architecture)
