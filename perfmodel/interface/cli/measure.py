"""`perfmodel measure`."""

from typing import Annotated

import typer

from perfmodel.interface.cli.options import Json, Out, check_places, listed
from perfmodel.interface.terminal import bar, say, show_json


def measure(
    out: Out,
    ops: Annotated[
        str, typer.Option(help="Operations, with commas.")
    ] = "gemm,attention_prefill,attention_decode,elementwise",
    dtype: Annotated[
        str, typer.Option(help="Formats, with commas: bf16, fp16, fp32, fp8, int8.")
    ] = "bf16",
    chip: Annotated[
        str, typer.Option(help="Name to write for this machine's chip; JAX's if not given.")
    ] = "",
    rows: Annotated[
        int, typer.Option(min=1, max=10_000, help="Of each operation and format, at most.")
    ] = 64,
    seconds: Annotated[float, typer.Option(min=1, help="For all of it, about.")] = 180,
    seed: Annotated[int, typer.Option(min=0, help="Of the shapes.")] = 0,
    resume: Annotated[bool, typer.Option("--resume", help="Keep the rows OUT holds.")] = False,
    json_: Json = False,
) -> None:
    """Time this machine's own kernels with JAX, and write the rows that `calibrate` reads.

    Example: perfmodel measure --out rows.csv --ops gemm,attention_decode --seconds 120
    """
    from perfmodel.calibration.data.measure import MeasureRequest, advice, outcome
    from perfmodel.calibration.data.measure import measure as run

    check_places(file=out)
    request = MeasureRequest(listed(ops), listed(dtype), chip.strip(), rows, seconds, seed)
    with bar("kernels") as update:
        found = run(request, out, resume, update)
    if json_:
        show_json({"out": str(out)} | found._asdict())
        return
    say(outcome(found, out))
    say(*found.failed[:3], advice(found, out))
