"""Shapes of feed-forward layers: dense, or a mixture of experts."""

import equinox as eqx

from perfmodel.workload.sizes import Number, size_or


class Dense(eqx.Module):
    """Feed-forward layer: `inter` columns up, gated or not, and back down."""

    inter: Number
    gated: bool = eqx.field(static=True, default=True)

    def parameters(self, hidden: Number) -> Number:
        """Weights of the layer."""
        return (3 if self.gated else 2) * hidden * self.inter


class Mixture(eqx.Module):
    """Mixture of experts.

    - `experts`, `active`: routed experts, and those that a token goes through.
    - `inter`: columns of a routed expert; `shared`: of all that every token goes through
      beside them: shared experts, or a dense layer in parallel (Gemma 4).
    - `width`: rows of a routed expert, where it is not the model's hidden size; else 0.
    - `bias`: parameters of a routed expert that are in no matrix product.
    - `shares`: whether there is anything that every token goes through.
    """

    experts: Number
    active: Number
    inter: Number
    shared: Number = 0
    width: Number = 0
    bias: Number = 0
    gated: bool = eqx.field(static=True, default=True)
    shares: bool = eqx.field(static=True, init=False)

    def __post_init__(self):
        self.shares = self.shared > 0

    def parameters(self, hidden: Number, active: bool = False) -> Number:
        """Weights of the layer with its router: all of them, or those one token uses."""
        return sum(self.parts(hidden, active))

    def parts(self, hidden: Number, active: bool = False) -> tuple[Number, Number, Number]:
        """Weights of the router, of what every token goes through, and of the routed experts."""
        sides = 3 if self.gated else 2
        expert = sides * size_or(self.width, hidden) * self.inter + self.bias
        routed = (self.active if active else self.experts) * expert
        bottleneck = 2 * hidden * self.width
        return hidden * self.experts, sides * hidden * self.shared + bottleneck, routed
