"""The explorer: a page on which one drags a machine and sees what it does to speed, price and energy."""

from pathlib import Path


def page_path() -> Path:
    """The file that Streamlit runs."""
    return Path(__file__).with_name("page.py")
