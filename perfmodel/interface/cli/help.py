"""Help of a command, from its docstring."""

import inspect
from collections.abc import Callable
from typing import Any

from rich.markup import escape

EXAMPLE = "Example: "

TRY = """Try:

perfmodel quickstart

perfmodel recommend --model llama-3.3-70b --chip h100-sxm --n-chips 8 --isl 1024 --osl 1024 --tpot-ms 30

perfmodel predict serving --chip h100-sxm,b200-sxm --model qwen3-32b --isl 8192 --osl 512 --concurrency 16

perfmodel search cheap-tokens --out found
"""
"""What `perfmodel` alone says to begin with: an answer, a deployment, a prediction, a design."""


def help_text(command: Callable[..., Any]) -> str:
    """The docstring of a command: paragraphs that fill the terminal's width, then its examples."""
    paragraphs = [" ".join(one.split()) for one in (inspect.getdoc(command) or "").split("\n\n")]
    prose = [one for one in paragraphs if not one.startswith(EXAMPLE)]
    examples = [one for one in paragraphs if one.startswith(EXAMPLE)]
    return escape("\n\n".join([*prose, *examples]))
