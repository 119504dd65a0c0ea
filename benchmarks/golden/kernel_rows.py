"""Rows of the kernel schema that are kept: drawn with a seed over operations, frameworks, formats, chips."""

import itertools
from collections.abc import Hashable, Iterator
from typing import NamedTuple

import numpy as np

from perfmodel.batching import structure
from perfmodel.errors import InputError
from perfmodel.inference.kernel_predictions import resolve_group
from perfmodel.kernels.kernel_table import groups_of
from perfmodel.kernels.registry import KERNELS
from perfmodel.library.fitted import FITTED

SEED = 20261201

Row = dict[str, str]

CHIPS = {
    "hopper": ("h100-sxm", "h200-sxm", "h100-pcie", "gh200"),
    "blackwell": ("b200-sxm", "gb200", "b300-sxm", "gb300"),
    "any": ("mi300x", "tpu-v6e", "gaudi3", "m3-ultra", "epyc-9754", "trainium2", "arc-pro-b60"),
    "ampere": ("a100-sxm-80gb", "a100-pcie-80gb", "a30"),
    "ada": ("l40s", "l4", "rtx-4090"),
    "scheduled": ("lpu-v1", "lp30", "wormhole-n300", "cloud-ai-100-ultra"),
    "workstation": ("rtx-pro-6000", "gb10"),
    "dataflow": ("wse-3", "wse-2", "sn40l", "ipu-bow"),
    "amd": ("mi300x", "mi355x", "mi250x"),
}
"""Chips whose rows share compiled functions: measured ones, their siblings, and those of the prior alone."""

SMOOTH = ("any", "scheduled", "dataflow", "amd")
"""Those of `CHIPS` on which no framework is modelled."""

COUNTS = {
    "gemm": 60,
    "attention_decode": 42,
    "moe": 40,
    "mla_decode": 24,
    "attention_prefill": 36,
    "mla_prefill": 18,
    "elementwise": 16,
    "linear_attention": 18,
    "sparse_attention": 18,
    "all_reduce": 10,
    "all_gather": 6,
    "reduce_scatter": 6,
    "all_to_all": 6,
}
"""Rows of each operation: 300."""

EACH = 4
"""Rows of one operation, framework, format and kind of chips."""

COLD = 6
"""Of so many groups of rows one has its operands in main memory, as in service."""

FORMATS = ("bf16", "fp8", "nvfp4", "fp8_block", "int4", "int8", "mxfp4", "w4a16_mxfp4", "fp16")
CACHES = ("bf16", "fp8")

SIZES = {
    "m": (1, 7, 16, 64, 256, 1000, 4096, 16384),
    "n": (512, 1536, 4096, 7168, 14336, 28672),
    "k": (256, 2048, 4096, 7168, 16384),
    "batch": (1, 2, 8, 32, 100, 256),
    "q_len": (1, 100, 1024, 4096, 16384),
    "ctx_len": (128, 1000, 4096, 16384, 65536),
    "heads": (8, 16, 32, 64, 128),
    "kv_heads": (1, 4, 8),
    "head_dim": (64, 128, 256),
    "window": (0, 0, 128, 4096),
    "tokens": (1, 16, 100, 1024, 8192),
    "hidden": (2048, 4096, 7168),
    "inter": (768, 2048, 14336),
    "topk": (1, 4, 8),
    "experts": (8, 64, 128, 256),
    "tp": (1, 1, 4, 8),
    "ep": (1, 1, 8),
    "n_gpus": (2, 4, 8, 16),
    "n_nodes": (1, 1, 2),
    "bytes": (1e4, 1e5, 3e6, 1e8),
    "key_heads": (8,),
    "value_dim": (128,),
}
"""What sizes are drawn from."""


class Form(NamedTuple):
    """What rows that share a compiled function have in common."""

    chips: str
    framework: str
    dtype: str
    cache: str
    replay: str


def kernels() -> list[Row]:
    """Rows of the kernel schema."""
    random, rows = np.random.default_rng(SEED), []
    for place, (op, count) in enumerate(COUNTS.items()):
        rows += list(itertools.islice(_kernels(op, place, random), count))
    return [{"case": f"k{i:03d}"} | row for i, row in enumerate(rows)]


FRAMEWORKS = ("vllm", "trtllm", "sglang", "")
"""In turn; empty: the smooth form."""


def _kernels(op: str, place: int, random: np.random.Generator) -> Iterator[Row]:
    """Rows of one operation without an end, `EACH` of a form together."""
    for turn, chips in enumerate(itertools.cycle(CHIPS)):
        form = Form(
            chips,
            "" if chips in SMOOTH else FRAMEWORKS[(turn + place) % len(FRAMEWORKS)],
            str(random.choice(FORMATS[: 3 + turn])),
            CACHES[turn % len(CACHES)],
            "false" if turn % COLD == COLD - 1 else "true",
        )
        rows = (_kernel(op, form, random) for _ in range(4 * EACH))
        yield from itertools.islice(filter(_runs, rows), EACH)


def _kernel(op: str, form: Form, random: np.random.Generator) -> Row:
    operation = KERNELS[op]
    numbers = {n: drawn(random, SIZES[n]) for n in (*operation.sizes(), *operation.options())}
    words = {n: drawn(random, choices) for n, choices in operation.words().items()}
    row = {"op": op, "chip": drawn(random, CHIPS[form.chips])} | numbers | words
    row |= {"framework": form.framework, "dtype": form.dtype, "replay": form.replay}
    row["framework"] = "nccl" if "n_gpus" in row and form.framework else form.framework
    if "heads" in row:
        row |= {"kv_dtype": form.cache, "dtype": "bf16"}
    return row


def drawn(random: np.random.Generator, choices: tuple) -> str:
    """One of some numbers or words, as a cell."""
    chosen = choices[int(random.integers(len(choices)))]
    return chosen if isinstance(chosen, str) else f"{chosen:g}"


def _runs(row: Row) -> bool:
    """Whether a row is right, and its chip runs its format."""
    try:
        form_of(row)
    except InputError:
        return False
    return True


def form_of(row: Row) -> Hashable:
    """What the function that is compiled for a row depends on.

    **Raises:**

    - `InputError`: for a row that is wrong.
    """
    groups, errors = groups_of({name: [cell] for name, cell in row.items()}, 1)
    if errors[0]:
        raise InputError(str(errors[0]))
    site = resolve_group(groups[0], FITTED, row["replay"] == "true")
    return row["op"], structure((site.chip, site.plan))
