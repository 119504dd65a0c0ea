"""Parameters on a chip with another clock, and of products in another format."""

from typing import Any

import numpy as np

from perfmodel.hardware.parameters import parameters, rescaled
from perfmodel.library.chip import chip_files, origin

PRIOR_CHIPS = ("h100-sxm", "a100-sxm-80gb")
"""Chips that the prior was made from: for them it does not count. Its clock is their geometric mean."""


def rescale_to_clock(fitted: Any, ratio: float, rate: float = 1.0) -> Any:
    """The parameters of a family on a chip whose clock is `ratio` times as high, within their bounds.

    What cores do takes cycles: to start kernels and blocks, to reduce, to append. In cycles split-K's
    reduction in bf16 takes 3,400 to 5,600 on A100, H100, B200 and L40S, whose clocks lie between 1.4 and
    2.5 GHz, and TensorRT-LLM's start of a prompt in bf16 20,000 to 25,000. What main memory and a power limit
    take does not follow the clock.

    The energy of a product follows the square of the voltage, and that the clock: near the highest clock, by
    the alpha-power law (Sakurai and Newton, IEEE JSSC 25, 1990) with an exponent of 1.3 and a threshold of
    0.35 V, d ln V / d ln f is 0.7 at 0.75 V and 1.0 at 1 V. At 1.8 GHz `energy_factor` in bf16 is 2.1
    to 3.1 in the fits of TensorRT-LLM, or of vLLM where it has none, on A100, H100, B200, L40S and B60; as
    fitted it is 1.7 to 5.9.

    A tile's pipeline fills in a time, in which narrower formats make more steps of k: `prologue` is 213 in
    bf16, 745 in fp8 and 1,083 in mxfp4 on MI355X, 119 in bf16 and 605 to 810 in NVFP4 on B200.

    **Arguments:**

    - `rate`: matrix rate of the format of products over that which the parameters are of.
    """
    kind = type(fitted)
    return kind(
        **{f.name: rescaled(f, getattr(fitted, f.name), ratio, rate) for f in parameters(kind)}
    )


def clock_of(chip: str) -> float:
    """Of its datasheet, in 1/s; 0 where it has none, as nothing then follows it."""
    return origin(chip, chip_files()[chip]).clock


def prior_clock() -> float:
    """Clock at which the prior holds, in 1/s."""
    return float(np.sqrt(np.prod([clock_of(chip) for chip in PRIOR_CHIPS])))
