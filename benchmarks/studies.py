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

TEMPLATE = Path(__file__).with_suffix(".txt")
"""The list of studies, with places for its rows and its takeaway."""

PICTURES, PAGES = Path("pictures") / "studies", Path("studies")


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
    """One study: claim, answer, picture, what was found, how sure, command."""
    picture = (Path("..") / PICTURES / f"{study.name}.svg").as_posix()
    return (
        f"# {study.question}: {study.title}\n\n"
        f"**Claim** ({study.source}): {study.claim}\n\n"
        f"**Answer:** it {answer.verdict}, true in {100 * answer.share:.0f} % of draws. "
        f"Tested: {study.test}.\n\n"
        f"![{answer.figure.title}]({picture})\n\n{listed(sentences(answer.said))}\n"
        f"## How sure is it?\n\n{listed([*sentences(answer.sure), *answer.caveats])}\n"
        f"`perfmodel study {study.name}` takes about {study.seconds} s; "
        "[all claims](../studies.md).\n"
    )


def sentences(text: str) -> list[str]:
    """One by one."""
    return re.split(r"(?<=[.;]) (?=[A-Z])", text.strip()) if text.strip() else []


def listed(lines: Sequence[str]) -> str:
    """As a list in Markdown."""
    return "".join(f"- {line}\n" for line in lines)


WORDS = {"holds": "hold", "does not hold": "do not hold", "is not decided": "are not decided"}


def takeaway(rows: Sequence[str]) -> str:
    """How many claims hold."""
    counts = Counter(line.split(" | ")[2] for line in rows)
    said = ", ".join(f"{counts[verdict]} {words}" for verdict, words in WORDS.items())
    return f"**Takeaway:** of {len(rows)} claims {said}.\n"


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
        said = TEMPLATE.read_text().format(rows="".join(found), takeaway=takeaway(found))
        write_whole(contents, said.encode())


if __name__ == "__main__":
    os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0.5")
    main()
