"""Checkpoints: the Hugging Face id under which a model's weights are published in a number format."""

import functools
import re
from collections.abc import Collection
from typing import NamedTuple

from perfmodel.library.files import fold
from perfmodel.library.model import ModelFile, ends, load_model, model_files, model_names

HUB_ID = re.compile(r"[\w.-]+/[\w.-]+")

FORMAT_WORDS = re.compile(r"-(bf16|fp8|nvfp4|mxfp4|mxfp8)(-.*)?$", re.I)
"""End of an id that says the format of its weights."""


class Checkpoint(NamedTuple):
    """Published weights.

    - `variant`: what was trained, whatever the format: the base model, or one for instructions.
    - `maker`: the organisation that quantised them; empty where they are as the model was trained.
    """

    id: str
    weights: str
    variant: str
    maker: str


def checkpoint(name: str, weights: str, without: Collection[str] = ()) -> str:
    """The Hugging Face id of a model's weights in a format, as published; empty where none is known here.

    A name that is an id itself says which variant is meant. The name of the model alone means the variant
    that is published in most formats, so that all formats are of one variant where they can be.

    **Arguments:**

    - `without`: organisations whose quantised weights are left out.
    """
    stem = model_names().get(fold(name), "")
    found = [
        one
        for one in _published(stem)
        if _in_one_format(one.weights, weights) and one.maker not in without
    ]
    asked, meant = _variant(stem, name)
    of_variant = [one for one in found if one.variant == meant]
    usable = of_variant or ([] if asked else found)
    return max(usable, key=lambda one: fold(name) in ends(one.id)).id if usable else ""


def _variant(stem: str, name: str) -> tuple[bool, str]:
    """Whether a name is that of one variant, and the variant that it means."""
    known = _published(stem)
    named = [one.variant for one in known if fold(name) in ends(one.id)]
    if named and fold(name) != fold(stem):
        return True, named[0]
    formats = {
        one.variant: {each.weights for each in known if each.variant == one.variant}
        for one in known
    }
    return False, max(formats, key=lambda one: len(formats[one]), default="")


@functools.cache
def _published(stem: str) -> tuple[Checkpoint, ...]:
    """All checkpoints of a model of the library that are known here."""
    file = model_files().get(stem)
    return () if file is None else tuple(one for one in _listed(file) if HUB_ID.fullmatch(one.id))


def _listed(file: ModelFile) -> list[Checkpoint]:
    native = load_model(file.name).native
    trained = [Checkpoint(one, native, _trained(one), "") for one in (file.name, *file.aliases)]
    quantised = [
        Checkpoint(one, weights, _trained(one), one.split("/")[0].lower())
        for one, weights in file.variants.items()
    ]
    return trained + quantised


def _trained(name: str) -> str:
    """The variant in an id: without its organisation and format, and without Meta's own prefix."""
    return fold(FORMAT_WORDS.sub("", name.split("/")[-1])).removeprefix("meta")


def _in_one_format(one: str, other: str) -> bool:
    """Whether formats are the same to a checkpoint: either of 16 bits is read as the other."""
    return one == other or {one, other} == {"bf16", "fp16"}
