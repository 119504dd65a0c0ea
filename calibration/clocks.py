"""What a chip's fitted parameters become on a chip with another clock.

What cores do takes cycles: to start kernels and blocks, to reduce, to append. In cycles split-K's reduction
in bf16 takes 3,400 to 5,600 on A100, H100, B200 and L40S, whose clocks lie between 1.4 and 2.5 GHz, and
TensorRT-LLM's start of a prompt in bf16 20,000 to 25,000. What main memory and a power limit take does not
follow the clock.

The energy of a product follows the square of the voltage, and that the clock: near the highest clock, by the
alpha-power law (Sakurai and Newton, IEEE JSSC 25, 1990) with an exponent of 1.3 and a threshold of 0.35 V,
d ln V / d ln f is 0.7 at 0.75 V and 1.0 at 1 V. At 1.8 GHz `energy_factor` in bf16 is 2.1 to 3.1 in the fits
of TensorRT-LLM, or of vLLM where it has none, on A100, H100, B200, L40S and B60; as fitted it is 1.7 to 5.9.
"""

from dataclasses import Field
from typing import Any

import jax.numpy as jnp

from perfmodel.hardware.parameters import parameters


def at_clock(fitted: Any, ratio: float) -> Any:
    """The parameters of a family on a chip whose clock is `ratio` times as high, within their bounds."""
    kind = type(fitted)
    return kind(**{f.name: _at(f, getattr(fitted, f.name), ratio) for f in parameters(kind)})


def _at(field: Field, value: Any, ratio: float) -> Any:
    ends = field.metadata["low"], field.metadata["high"]
    return jnp.clip(value * ratio ** field.metadata["clock"], *ends)
