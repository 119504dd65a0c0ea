"""Every study as a page of the documents with a picture, and the list of them.

Run: python -m benchmarks.studies --out docs
"""

import argparse
import os
import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from perfmodel.files import write_whole
from perfmodel.interface.plots import theme
from perfmodel.interface.plots.studies import draw
from perfmodel.studies.claim import Answer, Claim, find, names

HEAD = """# Studies

What does the model say to claims made in public about SRAM, HBM and inference? Each study is one
command, `perfmodel study NAME`, whose answer follows from the library's facts and the fitted parameters
at the time it runs; so an answer changes when a fact does. A claim *holds* where it is true in nine of
ten draws of what is not known exactly (the fit's error, prices, wafer costs, static power), *does not
hold* where it is true in one of ten or fewer, and *is not decided* between. Where a search designs machines
for it (Q5, Q6, Q8, Q11) and their token is the cheaper, the draws are of these; the page says both. Each
has a page, with its figure, how sure it is, and caveats, written by `python -m benchmarks.studies`.

Three warnings hold for all of them. Wafers rest on three published speeds: read a factor of two and a
half. LPUs rest on a few, and no price of them is published. Static power of SRAM is known to a factor
of ten each way.

"""

PICTURES, PAGES = Path("pictures") / "studies", Path("studies")


SUMMARY = "| claim | question | the claim | true in draws |\n|---|---|---|---|\n"


def row(study: Claim, answer: Answer) -> str:
    """The line of a study in the list."""
    return (
        f"| {study.question} | [{study.title}](studies/{study.name}.md) | {answer.verdict} | "
        f"{100 * answer.share:.0f} % |\n"
    )


def rows_of(text: str) -> dict[str, str]:
    """Lines of studies that the list has already, by name."""
    lines = re.findall(r"^(\| .*\(studies/([\w-]+)\.md\).*\n)", text, re.M)
    return {name: line for line, name in lines}


def page(study: Claim, answer: Answer) -> str:
    """One study: claim, answer, how sure, caveats, picture, command."""
    caveats = "".join(f"- {caveat}\n" for caveat in answer.caveats)
    picture = (Path("..") / PICTURES / f"{study.name}.svg").as_posix()
    return (
        f"# {study.question}: {study.title}\n\n"
        f"**Claim** ({study.source}): {study.claim}\n\n"
        f"**Tested:** {study.test}.\n\n"
        f"**Answer:** {answer.said} The claim {answer.verdict} (true in "
        f"{100 * answer.share:.0f} % of draws). {answer.sure}\n\n"
        f"![{answer.figure.title}]({picture})\n\n"
        f"{caveats}\n`perfmodel study {study.name}` takes about {study.seconds} s; "
        "[all claims](../studies.md).\n"
    )


WORDS = {"holds": "hold", "does not hold": "do not hold", "is not decided": "are not decided"}


def takeaway(rows: Sequence[str]) -> str:
    """How many claims hold."""
    counts = Counter(line.split(" | ")[2] for line in rows)
    said = ", ".join(f"{counts[verdict]} {words}" for verdict, words in WORDS.items())
    return f"\n**Takeaway:** of {len(rows)} claims {said}.\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("docs"), help="folder of the documents")
    parser.add_argument(
        "--only",
        default="",
        help="names of studies, with commas, that run; others stay as they are",
    )
    asked = parser.parse_args()
    wanted = [name for name in asked.only.split(",") if name] or names()
    for folder in (PICTURES, PAGES):
        (asked.out / folder).mkdir(parents=True, exist_ok=True)
    contents = asked.out / "studies.md"
    rows = rows_of(contents.read_text()) if contents.exists() else {}
    for study in map(find, wanted):
        answer = study.run(lambda done, of: None)
        theme.save(draw(answer.figure), asked.out / PICTURES / f"{study.name}.svg")
        write_whole(asked.out / PAGES / f"{study.name}.md", page(study, answer).encode())
        print(f"{study.name}: {answer.said} The claim {answer.verdict}.", flush=True)
        rows[study.name] = row(study, answer)
        found = [rows[name] for name in names() if name in rows]
        write_whole(contents, (HEAD + SUMMARY + "".join(found) + takeaway(found)).encode())


if __name__ == "__main__":
    os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0.5")
    main()
