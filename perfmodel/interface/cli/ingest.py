"""`perfmodel ingest`."""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from perfmodel.interface.cli.column_options import takes_columns
from perfmodel.interface.cli.options import Json, Out, check_places
from perfmodel.interface.terminal import bar, say, show_json, show_table, warn


def _of_kernels(meaning: str) -> Any:
    return typer.Option(help=meaning, rich_help_panel="Kernels")


@takes_columns
def ingest(
    files: Annotated[
        list[Path], typer.Argument(metavar="FILE...", help="Files that benchmark tools wrote.")
    ],
    out: Out,
    columns: Mapping[str, str],
    op: Annotated[str, _of_kernels("Operation: all_reduce.")] = "",
    dtype: Annotated[str, _of_kernels("Format: bf16.")] = "",
    m: Annotated[str, _of_kernels("Rows of a product: 16.")] = "",
    n: Annotated[str, _of_kernels("Columns of the weights: 4096.")] = "",
    k: Annotated[str, _of_kernels("Rows of the weights: 4096.")] = "",
    n_gpus: Annotated[str, _of_kernels("Ranks of a collective: 8.")] = "",
    n_nodes: Annotated[str, _of_kernels("Hosts of a collective: 1.")] = "",
    unit: Annotated[str, _of_kernels("Of columns that do not say it: tflops, ms.")] = "",
    provider: Annotated[
        str, _of_kernels("The only column of a CSV of products that is read: cublas.")
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
