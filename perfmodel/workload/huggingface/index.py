"""The `model.safetensors.index.json` beside a config.json: bytes of the checkpoint, to check a count
against."""

import json
from pathlib import Path

INDEX = "model.safetensors.index.json"

TOLERANCE = 0.02
"""By how much, relative to it, the bytes of a checkpoint and a count may differ: buffers, layers that
draft."""

MAX_BYTES = 200_000_000
"""No index is longer; a longer one is not read."""


def check_index(
    config: Path,
    weight_bytes: float,
    vision: int | None,
    audio: int | None,
    native: str,
    assumed: bool,
) -> None:
    """Check bytes of an architecture that is not known against the index beside its file, where there is one.

    **Arguments:**

    - `weight_bytes`: of the language model, as counted; `vision`, `audio`: parameters of towers.
    - `assumed`: whether the architecture is not known; one that is known is not checked.

    **Raises:**

    - `ValueError`: where they differ by more than `TOLERANCE`.
    """
    beside = config.with_name(INDEX)
    if not assumed or not beside.is_file() or vision is None or audio is None:
        return
    total = index_bytes(beside)
    plain = 4.0 if native == "fp32" else 2.0
    counted = weight_bytes + plain * (vision + audio)
    if abs(counted - total) > TOLERANCE * total:
        raise ValueError(
            f"{config}: counted are {counted / 1e9:,.2f} GB of weights, but {INDEX} beside it says "
            f"{total / 1e9:,.2f} GB: the form does not fit this architecture; try another form."
        )


def index_bytes(path: Path) -> float:
    """Bytes of all tensors, as an index says.

    **Raises:**

    - `ValueError`: for a file that is no index.
    """
    try:
        if path.stat().st_size > MAX_BYTES:
            raise ValueError(f"it is longer than {MAX_BYTES:,} bytes")
        total = json.loads(path.read_text(encoding="utf-8"))["metadata"]["total_size"]
        if isinstance(total, bool) or not isinstance(total, int | float) or not total > 0:
            raise ValueError("total_size is not a number greater than zero")
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise ValueError(f"{path} cannot be read as an index: {error}.") from None
    return float(total)
