"""Forms: how the layers of an architecture are read, and what lies outside them."""

from collections.abc import Callable
from typing import NamedTuple

from perfmodel.workload.huggingface import decoder, dense, hybrid, latent, mixtures, states
from perfmodel.workload.huggingface.architecture import Architecture
from perfmodel.workload.huggingface.fields import Fields
from perfmodel.workload.model import Layer


class Form(NamedTuple):
    """How to read an architecture.

    - `layers`: its layers, one after the other.
    - `outside`: parameters outside the layers that are in no product.
    - `pieces`: layers here for each of the file's.
    - `unpriced`: why a file's time is not predicted, where that is its own and not its architecture's.
    """

    layers: Callable[[Fields, Architecture], list[Layer]]
    outside: Callable[[Fields, Architecture], int] = decoder.outside
    pieces: int = 1
    unpriced: Callable[[Fields], str] = lambda fields: ""


def _own(
    layers: Callable[[Fields], list[Layer]], outside: Callable[[Fields], int] | None = None
) -> Form:
    """A form whose readers need the file alone."""
    return Form(
        lambda fields, how: layers(fields),
        decoder.outside if outside is None else lambda fields, how: outside(fields),
    )


FORMS = {
    "decoder": Form(decoder.decoder),
    "opt": Form(decoder.decoder, dense.opt_outside, unpriced=dense.narrow_embedding),
    "openelm": _own(dense.openelm),
    "jetmoe": _own(mixtures.jetmoe)._replace(pieces=2),
    "decilm": _own(dense.decilm),
    "falcon": _own(dense.falcon),
    "gemma3n": _own(dense.gemma3n, dense.gemma3n_outside),
    "gemma4": _own(dense.gemma4, dense.per_layer_outside),
    "mllama": _own(dense.mllama, dense.mllama_outside),
    "mimo_v2": _own(mixtures.mimo_v2),
    "minimax_m3": _own(mixtures.minimax_m3),
    "step3": _own(mixtures.step3),
    "step3p5": _own(mixtures.step3p5),
    "llama4": _own(mixtures.llama4),
    "latent": _own(latent.deepseek),
    "deepseek_v32": _own(latent.deepseek_v32),
    "deepseek_v4": _own(latent.deepseek_v4, latent.v4_outside),
    "glm_dsa": _own(latent.glm_dsa),
    "kimi_linear": _own(hybrid.kimi_linear, hybrid.kimi_outside),
    "nemotron_h": _own(hybrid.nemotron_h),
    "qwen_next": _own(hybrid.qwen_next),
    "lfm2": Form(hybrid.lfm2),
    "zamba2": _own(hybrid.zamba2, hybrid.zamba2_outside),
    "rwkv4": _own(states.rwkv4),
}
"""Forms by name; `nested` means that the text part of a file says its own."""

NESTED = "nested"
