"""The picture of docs/recommend.md: `python -m benchmarks.deployments --out deployments.svg`."""

import argparse
from pathlib import Path

from perfmodel.inference.question import ask
from perfmodel.inference.recommend import answer
from perfmodel.interface.plots import theme
from perfmodel.interface.plots.deployments import deployments
from perfmodel.library.fitted import FITTED


def draw(out: Path) -> None:
    """Fronts of eight B200 and of eight H200 with DeepSeek-R1, and the deployments that are recommended."""
    theme.check_picture(out)
    question = ask(
        model="deepseek-r1",
        chip=["b200-sxm", "h200-sxm"],
        n_chips=8,
        isl=8192,
        osl=1024,
        ttft_ms=5000,
        tpot_ms=40,
    )
    theme.save(deployments(question, answer(question, FITTED)), out)


def main() -> None:
    """Draw it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True, help="picture to write")
    draw(parser.parse_args().out)


if __name__ == "__main__":
    main()
