"""`perfmodel ingest`."""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

import typer

from perfmodel.interface.cli.column_options import takes_columns
from perfmodel.interface.cli.options import Json, Out, check_places
from perfmodel.interface.terminal import bar, say, show_json, show_table, warn

KERNELS = "Kernels"


@takes_columns
def ingest(
    files: Annotated[
        list[Path], typer.Argument(metavar="FILE...", help="Files that benchmark tools wrote.")
    ],
    out: Out,
    columns: Mapping[str, str],
    op: Annotated[str, typer.Option(help="Operation: all_reduce.", rich_help_panel=KERNELS)] = "",
    dtype: Annotated[str, typer.Option(help="Format: bf16.", rich_help_panel=KERNELS)] = "",
    m: Annotated[str, typer.Option(help="Rows of a product: 16.", rich_help_panel=KERNELS)] = "",
    n: Annotated[
        str, typer.Option(help="Columns of the weights: 4096.", rich_help_panel=KERNELS)
    ] = "",
    k: Annotated[
        str, typer.Option(help="Rows of the weights: 4096.", rich_help_panel=KERNELS)
    ] = "",
    n_gpus: Annotated[
        str, typer.Option(help="Ranks of a collective: 8.", rich_help_panel=KERNELS)
    ] = "",
    n_nodes: Annotated[
        str, typer.Option(help="Hosts of a collective: 1.", rich_help_panel=KERNELS)
    ] = "",
    unit: Annotated[
        str,
        typer.Option(help="Of columns that do not say it: tflops, ms.", rich_help_panel=KERNELS),
    ] = "",
    provider: Annotated[
        str,
        typer.Option(
            help="The only column of a CSV of products that is read: cublas.",
            rich_help_panel=KERNELS,
        ),
    ] = "",
    json_: Json = False,
) -> None:
    """Read results of benchmark tools as rows of predict serving, or of predict kernels.

    Serving: vllm bench serve, SGLang's bench_serving, AIPerf and genai-perf, InferenceX, llama-bench.
    Kernels: nccl-tests, and CSVs of matrix products. Files are recognised by what is in them. What they do
    not say is given by options, which hold for all files; ranks that nothing says are 1.

    The rows have measured_ttft_ms and measured_tpot_ms, or latency_us: predict compares them, and calibrate
    fits to them.

    Example: perfmodel ingest results.json --out rows.csv --chip h100-sxm --tp 8 --framework vllm

    Example: perfmodel ingest nccl.txt --out rows.csv --chip a100-sxm-80gb, then perfmodel calibrate --data
    rows.csv --out fitted
    """
    from perfmodel.interface.ingest import ingest as run
    from perfmodel.interface.ingest import outcome, table_of_rows

    check_places(file=out)
    kernels = {"op": op, "dtype": dtype, "m": m, "n": n, "k": k, "n_gpus": n_gpus}
    kernels |= {"n_nodes": n_nodes, "unit": unit, "provider": provider}
    given = {name: text.strip() for name, text in (kernels | dict(columns)).items() if text.strip()}
    with bar("files") as update:
        found = run(files, out, given, update)
    if json_:
        show_json(outcome(found, out))
        return
    for line in (*found.left_out, *found.notes):
        warn(line)
    show_table(table_of_rows(found))
    ops = " --ops serving" if found.schema == "serving" else ""
    say(
        f"{len(found.rows):,} rows of {len(found.readings)} files are in {out}; "
        f"fit to them with perfmodel calibrate --data {out}{ops} --out fitted."
    )
