"""Every study, as a page of the documents with a picture each.

Run: python -m benchmarks.studies --out docs
"""

import argparse
import os
import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from perfmodel.files import write_whole
from perfmodel.interface import plots
from perfmodel.interface.plots.studies import draw
from perfmodel.studies.answer import Answer, Study
from perfmodel.studies.contents import find, names

HEAD = """# Studies

What does the model say to claims made in public about SRAM, HBM and inference? Each study is one
command, `perfmodel study NAME`, whose answer follows from the library's facts and the fitted parameters
at the time it runs; so an answer changes when a fact does. A claim *holds* where it is true in nine of
ten draws of what is not known exactly (the fit's error, prices, wafer costs, static power), *does not
hold* where it is true in one of ten or fewer, and *is not decided* between. This page is written by
`python -m benchmarks.studies`.

Three warnings hold for all of them. Wafers rest on three published speeds: read a factor of two and a
half. LPUs rest on a few, and no price of them is published. Static power of SRAM is known to a factor
of ten each way.

"""

PICTURES = Path("pictures") / "studies"


class Part(NamedTuple):
    """What the page says of one study: its line of the summary, and its section."""

    row: str
    section: str

    @property
    def verdict(self) -> str:
        """What its line says of the claim."""
        return self.row.split(" | ")[2]


SUMMARY = "| claim | question | the claim | true in draws |\n|---|---|---|---|\n"


def part(study: Study, answer: Answer) -> Part:
    """A study that has just run."""
    row = (
        f"| {study.question} | [{study.title}](#{study.name}) | {answer.verdict} | "
        f"{100 * answer.share:.0f} % |\n"
    )
    return Part(row, section(study, answer))


def parts_of(page: str) -> dict[str, Part]:
    """Studies that a page has already, by name."""
    rows = {name: row for row, name in re.findall(r"^(\| .*\(#([\w-]+)\).*\n)", page, re.M)}
    body = page.split("\n**Takeaway:**")[0]
    sections = re.findall(r"\n## (?:(?!\n## )[\s\S])*", body)
    named = {
        found[1]: text for text in sections if (found := re.search(r'<a id="([\w-]+)">', text))
    }
    return {name: Part(rows[name], text) for name, text in named.items() if name in rows}


def section(study: Study, answer: Answer) -> str:
    """One study: claim, answer, how sure, caveats, picture, command."""
    caveats = "".join(f"- {caveat}\n" for caveat in answer.caveats)
    picture = (PICTURES / f"{study.name}.svg").as_posix()
    return (
        f'\n## {study.question}: {study.title} <a id="{study.name}"></a>\n\n'
        f"**Claim** ({study.source}): {study.claim}\n\n"
        f"**Tested:** {study.test}.\n\n"
        f"**Answer:** {answer.said} The claim {answer.verdict} (true in "
        f"{100 * answer.share:.0f} % of draws). {answer.sure}\n\n"
        f"![{answer.figure.title}]({picture})\n\n"
        f"{caveats}\n`perfmodel study {study.name}` takes about {study.seconds} s.\n"
    )


WORDS = {"holds": "hold", "does not hold": "do not hold", "is not decided": "are not decided"}


def takeaway(found: Sequence[Part]) -> str:
    """How many claims hold."""
    counts = Counter(one.verdict for one in found)
    said = ", ".join(f"{counts[verdict]} {words}" for verdict, words in WORDS.items())
    return f"\n**Takeaway:** of {len(found)} claims {said}.\n"


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
    (asked.out / PICTURES).mkdir(parents=True, exist_ok=True)
    page = asked.out / "studies.md"
    parts = parts_of(page.read_text()) if page.exists() else {}
    for study in map(find, wanted):
        answer = study.run(lambda done, of: None)
        plots.save(draw(answer.figure), asked.out / PICTURES / f"{study.name}.svg")
        print(f"{study.name}: {answer.said} The claim {answer.verdict}.", flush=True)
        parts[study.name] = part(study, answer)
        found = [parts[name] for name in names() if name in parts]
        rows, sections = ("".join(column) for column in zip(*found, strict=True))
        write_whole(page, (HEAD + SUMMARY + rows + sections + takeaway(found)).encode())


if __name__ == "__main__":
    os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0.5")
    main()
