"""`perfmodel recommend`."""

from pathlib import Path
from typing import Annotated

import typer

from perfmodel.errors import InputError
from perfmodel.interface.cli import options
from perfmodel.interface.terminal import bar, say, show_json, show_table, warn_assumed


def recommend(
    model: Annotated[
        str,
        typer.Option(
            help="Model, by name or the path of a config.json.", autocompletion=options.model_names
        ),
    ] = "",
    isl: Annotated[float | None, typer.Option(help="Input tokens of a request.")] = None,
    osl: Annotated[float | None, typer.Option(help="Output tokens of a request.")] = None,
    chip: Annotated[
        str, typer.Option(help="Chips, with commas.", autocompletion=options.chip_names)
    ] = "",
    n_chips: Annotated[
        str, typer.Option(help="Chips in all; several numbers with commas are all tried.")
    ] = "",
    concurrency: Annotated[
        str,
        typer.Option(help="Users at once, with commas; from 1 to 128 for each chip if not given."),
    ] = "",
    requests_per_s: Annotated[
        float | None,
        typer.Option(help="Requests that come at a rate; without --n-chips, the fewest chips."),
    ] = None,
    ttft_ms: Annotated[float | None, typer.Option(help="Limit on TTFT.")] = None,
    tpot_ms: Annotated[float | None, typer.Option(help="Limit on TPOT.")] = None,
    end_to_end_ms: Annotated[
        float | None, typer.Option(help="Limit on the time from a request to its last token.")
    ] = None,
    usd_per_million: Annotated[
        float | None, typer.Option(help="Limit on USD per million output tokens.")
    ] = None,
    framework: Annotated[
        str,
        typer.Option(
            help="Frameworks, or versions as vllm-0.5, with commas; all that run on the chip if not given."
        ),
    ] = "",
    precision: Annotated[
        str,
        typer.Option(
            help="Formats of the weights, with commas; those published that the chip multiplies if not given."
        ),
    ] = "",
    kv_precision: Annotated[
        str,
        typer.Option(
            help="Formats of the KV cache, with commas, as bf16,fp8; bf16 alone if not given."
        ),
    ] = "",
    speculative_tokens: Annotated[
        str,
        typer.Option(
            help="Drafted tokens, with commas; 0,1 if not given for a model with layers for it (MTP), else 0."
        ),
    ] = "",
    mode: Annotated[
        str,
        typer.Option(
            help="aggregated, disaggregated, attention_ffn, with commas; pools from 16 chips on if not given."
        ),
    ] = "",
    prefill_chip: Annotated[str, typer.Option(help="Chips of prefill pools.")] = "",
    decode_chip: Annotated[str, typer.Option(help="Chips of decode pools.")] = "",
    ffn_chip: Annotated[
        str, typer.Option(help="Chips of feed-forward layers, apart from attention.")
    ] = "",
    objective: Annotated[
        str, typer.Option(help="throughput (of a chip), cost, energy, or speed (of a user).")
    ] = "throughput",
    confidence: Annotated[
        int, typer.Option(help="50, 80 or 90: the probability with which each limit is kept, in %.")
    ] = 80,
    usd_per_chip_hour: Annotated[
        float | None, typer.Option(help="A quote: replaces all other costs of a chip.")
    ] = None,
    cost_basis: Annotated[
        str,
        typer.Option(help="What USD are of: owner, rental, marginal or quote; owner if not given."),
    ] = "",
    column: Annotated[
        list[str] | None,
        typer.Option("--set", help="A further column of the serving schema, as length_ratio=0.9."),
    ] = None,
    top: Annotated[int, typer.Option(min=1, help="Deployments that are shown.")] = 10,
    out: Annotated[
        Path | None,
        typer.Option(
            "--out",
            help="Folder for deployments.csv, front.csv and launch/; of --questions for answers.csv.",
        ),
    ] = None,
    questions: Annotated[
        Path | None,
        typer.Option(
            help="CSV of many questions: a row each, a column for each option that differs."
        ),
    ] = None,
    cluster: options.Cluster = "",
    calibration: options.Calibration = None,
    report: options.Report = None,
    json_: options.Json = False,
) -> None:
    """Recommend deployments: the best ranks, framework, format and users under limits.

    Every way to spread the model over the chips is priced, in every format of the weights, for every
    framework and number of users; the KV cache is in bf16 unless --kv-precision says others. Each limit is
    kept with the probability --confidence. With --requests-per-s and without --n-chips: the fewest chips, or
    with --objective cost the cheapest, that carry the load.

    Example: perfmodel recommend --model deepseek-r1 --chip b200-sxm --n-chips 8 --isl 8192 --osl 1024
    --ttft-ms 5000 --tpot-ms 40

    Example: perfmodel recommend --model llama-3.3-70b --chip h100-sxm,mi300x --requests-per-s 12 --isl 1024
    --osl 256 --tpot-ms 50 --objective cost

    With --questions, every row of a file is a question; options hold where a row says nothing. Columns are
    the options' names (n_chips, tpot_ms) or columns of the serving schema. answers.csv has the deployments of
    each, or why there is none. --cluster shares them out over the workers of a Ray cluster.

    Example: perfmodel recommend --questions questions.csv --chip h100-sxm --n-chips 8 --top 1 --out answers
    --cluster local
    """
    from perfmodel.inference.question import ask_cells
    from perfmodel.inference.recommend import answer
    from perfmodel.interface.recommend import (
        WIDTH,
        cells_of,
        narrowed,
        remarks,
        tables_of,
        write,
    )

    options.check_places(folder=out, report=report)
    given = {
        "model": model,
        "isl": isl,
        "osl": osl,
        "chip": chip,
        "n_chips": n_chips,
        "concurrency": concurrency,
        "requests_per_s": requests_per_s,
        "ttft_ms": ttft_ms,
        "tpot_ms": tpot_ms,
        "end_to_end_ms": end_to_end_ms,
        "usd_per_million": usd_per_million,
        "framework": framework,
        "precision": precision,
        "kv_precision": kv_precision,
        "speculative_tokens": speculative_tokens,
        "mode": mode,
        "prefill_chip": prefill_chip,
        "decode_chip": decode_chip,
        "ffn_chip": ffn_chip,
        "objective": objective,
        "confidence": confidence,
        "usd_per_chip_hour": usd_per_chip_hour,
        "cost_basis": cost_basis,
    }
    cells = {name: "" if value is None else f"{value}" for name, value in given.items()}
    cells |= cells_of(column or [])
    if questions is not None:
        _answer_many(
            questions, cells, out, report, options.fitted(calibration), top, cluster, json_
        )
        return
    if cluster:
        raise InputError("--cluster answers many questions at a time; give --questions FILE.csv.")
    question = ask_cells(cells)
    with bar("programs") as update:
        found = answer(question, options.fitted(calibration), top, update)
    warn_assumed([question.model])
    if out is not None:
        write(found, out)
    if report is not None:
        from perfmodel.interface.pages.recommend import recommend_page

        options.write_report(report, recommend_page(question, found), silent=json_)
    if json_:
        show_json(found.as_dict())
        return
    for table in tables_of(question, found):
        show_table(narrowed(table), WIDTH)
    say(*remarks(question, found))
    if out is not None:
        say(f"deployments.csv, front.csv and launch/ are in {out}.")


def _answer_many(
    questions: Path,
    given: dict[str, str],
    out: Path | None,
    report: Path | None,
    calibration: Path,
    top: int,
    cluster: str,
    json_: bool,
) -> None:
    """The questions of a file, answered into one table."""
    from perfmodel.inference.questions import answer_all
    from perfmodel.interface.recommend import read_questions, write_answers

    if out is None:
        raise InputError("--questions writes answers.csv; give --out, a folder.")
    if report is not None:
        raise InputError("--report is of one question; leave it or --questions out.")
    asked = read_questions(questions, given)
    with bar("questions") as update:
        found = answer_all(asked, calibration, top, cluster, update)
    warn_assumed(dict.fromkeys(row.get("model", "") for row in asked))
    errors = [one.error for one in found if one.error]
    place = write_answers(found, out)
    if json_:
        show_json(
            {"out": str(place), "questions": len(found), "errors": len(errors)}
            | {"first_error": errors[0] if errors else ""}
        )
        return
    say(f"{len(found):,} questions, {len(errors):,} without an answer: {place}.")
    if errors:
        say(f"The first: {errors[0]}")
