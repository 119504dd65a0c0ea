"""Every kind of layer of the library's models, as one model of them all."""

import functools
from collections.abc import Hashable

import jax

from perfmodel.library.model import load_model, model_files
from perfmodel.workload.model import Layer, Stack, Transformer, traced

HIDDEN, WORDS = 4096, 32000
"""Of the model of all layers."""


@functools.cache
def layers() -> dict[Layer, str]:
    """Every layer of every model, and one that has it."""
    found: dict[Layer, str] = {}
    for name in sorted(model_files()):
        for stack in load_model(name).stacks:
            found.setdefault(stack.layer, name)
    return found


def kind(layer: Layer) -> Hashable:
    """What a layer's kernels depend on beside numbers; a window is another kind of attention."""
    form = jax.tree.structure(layer)
    windowed = getattr(layer.attention, "window", 0.0) < float("inf")
    pooled = getattr(layer.attention, "ratio", 0.0) < float("inf")
    return form, windowed, pooled


def kinds() -> list[Layer]:
    """The first layer of each kind."""
    return list({kind(layer): layer for layer in reversed(layers())}.values())


def model_of(chosen: list[Layer]) -> Transformer:
    """One of each layer."""
    return traced(Transformer(HIDDEN, WORDS, tuple(Stack(layer, 1) for layer in chosen)))
