"""What all pictures share: colours, sizes, and how they are written."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from perfmodel.errors import InputError
from perfmodel.files import check_place, write_whole
from perfmodel.library.files import fold

COLOURS = {
    "compute": "#4477AA",
    "exponential": "#66CCEE",
    "sram": "#228833",
    "memory": "#CCBB44",
    "latency": "#D5D5D5",
    "network": "#AA3377",
}
"""One colour for each bound, told apart by the colour-blind, and in grey from the next (after Paul Tol)."""

ENERGY_COLOURS = {
    "matrix": "#4477AA",
    "vector": "#88AACC",
    "exponential": "#66CCEE",
    "private": "#117733",
    "shared": "#66AA66",
    "main": "#CCBB44",
    "far": "#997722",
    "network": "#AA3377",
    "fabric": "#DDAACC",
    "idle": "#D5D5D5",
}
"""One colour for each term of energy: shades of the bound that it belongs to, as much as that can be."""

FAMILIES = {
    "h100": "#4477AA",
    "h200": "#44AAAA",
    "b200": "#EE6677",
    "b300": "#CC3311",
    "wse": "#228833",
    "lpu": "#CCBB44",
    "tpu": "#66CCEE",
    "mi3": "#AA3377",
    "gb": "#EE8866",
    "a100": "#7777BB",
}
"""Chips that are often drawn have the same colour in every picture."""

FAMILY_ALIASES = {"wafer": "wse", "lp30": "lpu"}
"""Other words for chips of a family."""

PALETTE = ("#4477AA", "#EE6677", "#228833", "#CCBB44", "#66CCEE", "#AA3377", "#222255", "#999933")
"""Colours of what belongs to none of `FAMILIES`, in order."""

SHAPES = ("circle", "square", "triangle-up", "diamond", "cross", "triangle-down")
DASHES = ((1, 0), (6, 3), (2, 2), (8, 3, 2, 3), (4, 2, 1, 2), (10, 4))
"""Shapes and dashes tell chips apart where colours cannot: in grey print."""

PADDING = 12
"""Pixels between what is drawn and the frame, so that no mark is cut."""

FORMATS = (".png", ".svg", ".html")
WIDTH, HEIGHT = 560, 300
GREY, INK, GOOD, BAD = "#BBBBBB", "#333333", "#228833", "#CC3311"


def altair() -> Any:
    """The library, where it is installed.

    **Raises:**

    - `InputError`: when it is not, with what to install.
    """
    try:
        import altair as found
        import vl_convert  # noqa: F401
    except ImportError:
        raise InputError(
            "pictures need Altair; install `perfmodel[plots]`, or leave the picture out."
        ) from None
    return found


def colours_of(names: Sequence[str]) -> list[str]:
    """A colour for each chip or machine: its family's for the first of a family, else a free one."""
    found: dict[int, str] = {}
    for i, name in enumerate(names):
        plain = fold(name) + "".join(
            key for word, key in FAMILY_ALIASES.items() if word in fold(name)
        )
        own = [colour for key, colour in FAMILIES.items() if key in plain]
        if own and own[0] not in found.values():
            found[i] = own[0]
    for i in range(len(names)):
        if i not in found:
            free = [colour for colour in PALETTE if colour not in found.values()]
            found[i] = (free or list(PALETTE))[0]
    return [found[i] for i in range(len(names))]


def chip_scales(
    names: Sequence[str], title: str = "chip", column: str = "name"
) -> tuple[Any, Any, Any]:
    """Colour, shape and dash of the chips of a column, in one legend."""
    alt, dashes = altair(), [list(dash) for dash in DASHES]
    channels = {alt.Color: colours_of(names), alt.Shape: SHAPES, alt.StrokeDash: dashes}
    colour, shape, dash = (
        told_by(channel, column, names, looks, title) for channel, looks in channels.items()
    )
    return colour, shape, dash


def told_by(
    channel: Any, column: str, names: Sequence[str], looks: Sequence[Any], title: Any
) -> Any:
    """Names of a column told apart by a channel: the looks in order, again from the first if they are few."""
    each = [looks[i % len(looks)] for i in range(len(names))]
    return channel(f"{column}:N", scale=altair().Scale(domain=list(names), range=each), title=title)


def coloured(
    column: str, colours: Mapping[str, str], rows: Sequence[Mapping[str, Any]], title: str | None
) -> Any:
    """Names of a column in colours of their own; the legend has those that are there, in that order."""
    there = [name for name in colours if any(row[column] == name for row in rows)]
    return told_by(altair().Color, column, there, [colours[name] for name in there], title)


def tooltip(column: str, title: str, form: str = ".3g") -> Any:
    """A number that is told where the pointer is."""
    return altair().Tooltip(f"{column}:Q", format=form, title=title)


def log_scale(**more: Any) -> Any:
    """A logarithmic scale that ends where the values end."""
    return altair().Scale(type="log", nice=False, **more)


def rows_of(values: Sequence[dict[str, Any]]) -> Any:
    """Rows as the data of a chart; in a tuple, which Altair does not copy with each layer."""
    return altair().Data(values=tuple(values))


def check_picture(path: Path) -> None:
    """Find out before any work whether a picture may be written at `path`.

    **Raises:**

    - `InputError`: for an ending of no picture, or a place that cannot be written.
    """
    if path.suffix not in FORMATS:
        raise InputError(f"{path.name} ends in {path.suffix!r}; pictures are {', '.join(FORMATS)}.")
    altair()
    check_place(path)


def joined(charts: Sequence[Any]) -> Any:
    """Charts as one picture, two in a row, each with its own scales."""
    if len(charts) == 1:
        return charts[0]
    both = altair().concat(*charts, columns=2)
    return both.resolve_scale(color="independent", shape="independent", strokeDash="independent")


LEGEND_LIMIT = 320
"""Pixels of a name in a legend, at most; names are as many as there are."""


def styled(chart: Any, legend: str = "right") -> Any:
    """With the fonts and lines of the house.

    **Arguments:**

    - `legend`: where it stands: right, or bottom, in rows of three, where there is little width.
    """
    narrow = {"orient": "bottom", "columns": 3} if legend == "bottom" else {}
    return (
        chart.configure(font="sans-serif", background="white")
        .configure_axis(
            labelFontSize=12,
            labelSeparation=8,
            titleFontSize=13,
            titleFontWeight="normal",
            gridColor="#EEEEEE",
        )
        .configure_legend(
            labelFontSize=12,
            titleFontSize=13,
            titleFontWeight="normal",
            labelLimit=LEGEND_LIMIT,
            symbolLimit=0,
            **narrow,
        )
        .configure_title(fontSize=15, anchor="start", offset=12)
        .configure_header(labelFontSize=12)
        .configure_view(stroke="#DDDDDD")
    )


def as_svg(chart: Any) -> str:
    """A chart as SVG, to be put into a page."""
    import vl_convert

    return vl_convert.vegalite_to_svg(styled(chart).to_dict())


def as_png(chart: Any) -> bytes:
    """A chart as PNG, at twice its size."""
    import vl_convert

    return vl_convert.vegalite_to_png(styled(chart).to_dict(), scale=2)


def save(chart: Any, path: Path) -> None:
    """Write a chart in the format that the path's ending names; HTML needs no network.

    **Raises:**

    - `InputError`: for another ending.
    """
    import vl_convert

    check_picture(path)
    if path.suffix == ".png":
        content = as_png(chart)
    elif path.suffix == ".svg":
        content = as_svg(chart).encode()
    else:
        content = vl_convert.vegalite_to_html(styled(chart).to_dict(), bundle=True).encode()
    write_whole(path, content)
