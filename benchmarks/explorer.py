"""The picture of the explorer in the documents: its page as a browser shows it.

Run: python -m benchmarks.explorer --out docs/pictures/explore.png (needs Chromium)
"""

import argparse
import contextlib
import json
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

DOCS = Path(__file__).parents[1] / "docs"
SCENE = (
    "?machine=8*h100-sxm&machine=8*h100-sxm:fp8,sram=4,bandwidth=1.5"
    "&machine=8*b200-sxm&machine=4*wse-3"
)
"""What is shown: an H100 as it is and as it was dragged, beside two others."""

BROWSER = next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), ""
)
PATIENCE = 600.0
"""Seconds to wait for a page: the first machine of its kind compiles."""


def free_port() -> int:
    """A port of this machine that nobody listens on."""
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


@contextlib.contextmanager
def served(port: int) -> Iterator[tuple[dict[str, Any], int]]:
    """A page that runs meanwhile: what it said of itself when it answered, and its process."""
    words = ["explore", "--no-browser", "--port", str(port), "--json"]
    command = [sys.executable, "-m", "perfmodel", *words]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        yield json.load(process.stdout), process.pid
    finally:
        process.terminate()
        process.wait(30)


def settled(page: Any) -> None:
    """Wait until the page runs no more."""
    page.wait_for_selector("text=Export", timeout=1e3 * PATIENCE)
    page.wait_for_timeout(400)
    page.wait_for_function(
        "document.querySelector('[data-testid=stApp]').dataset.testScriptState === 'notRunning'",
        timeout=1e3 * PATIENCE,
    )
    page.wait_for_timeout(800)


def main() -> None:
    """Write the picture."""
    from playwright.sync_api import sync_playwright

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=DOCS / "pictures" / "explore.png")
    parser.add_argument("--scene", default=SCENE, help="what the link says")
    parser.add_argument("--size", default="1440x900", help="of the window, in pixels")
    asked = parser.parse_args()
    width, height = map(int, asked.size.split("x"))
    with served(free_port()) as (said, _), sync_playwright() as p:
        browser = p.chromium.launch(executable_path=BROWSER, args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": width, "height": height})
        page.goto(f"{said['address']}/{asked.scene}")
        settled(page)
        page.screenshot(path=asked.out)
        browser.close()
    print(asked.out)


if __name__ == "__main__":
    main()
