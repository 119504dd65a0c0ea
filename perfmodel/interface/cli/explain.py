"""`perfmodel explain`."""

from pathlib import Path
from typing import Annotated

import typer

from perfmodel.interface.cli import options
from perfmodel.interface.terminal import bar, say, show_json, show_table


def explain(
    row: Annotated[
        list[str],
        typer.Argument(help="FILE.csv:NUMBER, or words such as chip=h100 op=gemm m=32 ..."),
    ],
    out: Annotated[
        Path | None, typer.Option("--out", help="Picture to write: .png, .svg or .html.")
    ] = None,
    calibration: options.Calibration = None,
    report: options.Report = None,
    json_: options.Json = False,
) -> None:
    """Explain a prediction: what binds, kernel by kernel and term by term.

    Example: perfmodel explain chip=h100 op=gemm dtype=bf16 m=32 n=8192 k=8192

    Example: perfmodel explain chip=h100 n_chips=8 model=llama-3.1-70b isl=4096 osl=256 concurrency=32
    """
    from perfmodel.inference.explanation import explain as run
    from perfmodel.interface.explain import as_dict, read_asked, tables_of
    from perfmodel.interface.pages.explain import explain_page, kernel_times
    from perfmodel.interface.plots.theme import save
    from perfmodel.units import figures

    options.check_places(picture=out, report=report)
    cells = read_asked(row)
    with bar("compiling"):
        found = run(cells, options.fitted(calibration))
    if out is not None:
        save(kernel_times(found), out)
    if report is not None:
        options.write_report(report, explain_page(found, cells), silent=True)
    if json_:
        show_json(as_dict(found))
    else:
        say(f"{found.title}: {figures(found.time * 1e6)} us")
        for table in tables_of(found):
            show_table(table)
