"""`perfmodel search`."""

from pathlib import Path
from typing import Annotated

import typer

from perfmodel.errors import InputError
from perfmodel.interface.cli.options import Cluster, Json, Report, check_places, preset_names
from perfmodel.interface.tables import Table
from perfmodel.interface.terminal import (
    bar,
    say,
    show_json,
    show_list,
    show_table,
    warn,
    warn_assumed,
)


def search(
    study: Annotated[
        list[Path] | None,
        typer.Argument(help="Studies in TOML, or names of presets.", autocompletion=preset_names),
    ] = None,
    out: Annotated[Path | None, typer.Option("--out", help="Folder to write.")] = None,
    list_: Annotated[bool, typer.Option("--list", help="List the presets.")] = False,
    resume: Annotated[bool, typer.Option("--resume", help="Go on from OUT's checkpoint.")] = False,
    starts: Annotated[
        int | None, typer.Option(min=1, max=100_000, help="Starts, instead of the study's.")
    ] = None,
    seed: Annotated[int | None, typer.Option(min=0, help="Seed, instead of the study's.")] = None,
    cost_basis: Annotated[
        str,
        typer.Option(help="What USD are of: owner, rental or marginal, instead of the study's."),
    ] = "",
    report: Report = None,
    cluster: Cluster = "",
    coordinator: Annotated[
        str | None,
        typer.Option(help="HOST:PORT of the first of several processes; auto: as SLURM says."),
    ] = None,
    processes: Annotated[int | None, typer.Option(min=1, help="How many they are.")] = None,
    process: Annotated[int | None, typer.Option(min=0, help="Which of them this is.")] = None,
    json_: Json = False,
) -> None:
    """Search a chip, or a system of two pools of chips, by gradient, under limits.

    The winner is priced again in whole tiles, waves and cores, and limits that bind get a price.

    A study's [optimiser] method is sqp (the default), adam or lbfgs.

    A study's [system] volume spreads design and masks over the chips made; its cooling ("air" or "liquid")
    limits W of a package and W/mm2 of its die to what has been shipped.

    Example: perfmodel search --list

    Starts are shared out over all devices, of several processes too; the first one writes.

    Example: perfmodel search cheap-tokens --out found

    Several studies are searched each into a folder of its name. --cluster shares them out over the workers of
    a Ray cluster; of one study, its second searches and fronts.

    Example: perfmodel search cheap-tokens sram-or-hbm joules --out found --cluster local

    Example: srun -n 8 perfmodel search cheap-tokens --out found --coordinator auto
    """
    from perfmodel.processes import join, place_of

    if cluster and coordinator:
        raise InputError("--cluster and --coordinator are both given; give one of them.")
    join(coordinator, processes, process)
    from perfmodel.design.resolve import find_study, presets, question, unlike_base
    from perfmodel.files import write_whole
    from perfmodel.interface.search import run_search
    from perfmodel.interface.search_tables import better_existing, tables
    from perfmodel.library.model import named_in

    if list_:
        listed = [(name, question(path)) for name, path in presets().items()]
        show_list(Table("Presets", ["preset", "question"], listed), json_)
        return
    if not study or out is None:
        raise InputError(
            "give a study and --out, a folder to write; `perfmodel search --list` lists the presets."
        )
    check_places(folder=out, report=report)
    if len(study) > 1:
        _search_many(study, out, resume, (starts, seed, cost_basis), cluster, report, json_)
        return
    if said := unlike_base(find_study(study[0])[1]):
        warn(f"{said}.")
    with bar("starts") as update, place_of(out) as place:
        found = run_search(study[0], place, resume, starts, seed, update, out, cost_basis, cluster)
        if report is not None:
            write_whole(report, (place / "report.html").read_bytes())
    warn_assumed(named_in(study[0], "model"))
    if json_:
        show_json(found)
    else:
        for sentence in better_existing(found):
            say(sentence)
        for table in tables(found):
            show_table(table)
        say(
            "Where a fact doubles, the study was searched again from the best designs of its families."
        )
        say(f"result.json, designs.csv and report.html are in {out}.")
    if found["stopped"]:
        raise KeyboardInterrupt


def _search_many(
    studies: list[Path],
    out: Path,
    resume: bool,
    changes: tuple[int | None, int | None, str],
    cluster: str,
    report: Path | None,
    json_: bool,
) -> None:
    """Several studies, each into a folder of its name."""
    from perfmodel.interface.searches import Changes, search_all, table_of_outcomes

    if report is not None:
        raise InputError("--report is of one study; each of several has report.html in its folder.")
    with bar("studies") as update:
        found = search_all(studies, out, resume, Changes(*changes), cluster, update)
    if json_:
        show_json({one.name: one.report or {"error": one.error} for one in found})
        return
    show_table(table_of_outcomes(found))
    say(f"result.json, designs.csv and report.html of each are in {out}.")
