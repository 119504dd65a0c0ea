"""A differentiable, calibrated performance model of LLM inference that designs hardware.

    import perfmodel as pm

    plan = pm.Plan(tp=8, weights="fp8", cache="fp8")
    chip = pm.load_chip("h100-sxm", plan)
    model = pm.traced(pm.load_model("llama-3.1-70b"))
    step = pm.to_run_once(pm.decode_step)  # compiled in a second; jax.jit for many calls
    cost = step(chip, plan, model, pm.as_scalar(32), pm.as_scalar(4096))

Each name is imported when it is first used, so that `import perfmodel` costs nothing.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from perfmodel.breakdown import Breakdown as Breakdown
    from perfmodel.design.variables import turn as turn
    from perfmodel.errors import InputError as InputError
    from perfmodel.hardware.chip import Chip as Chip
    from perfmodel.inference.closed_loop import Waits as Waits
    from perfmodel.inference.closed_loop import closed_loop as closed_loop
    from perfmodel.inference.recommend import recommend as recommend
    from perfmodel.inference.recommendation import Recommendation as Recommendation
    from perfmodel.inference.service import Service as Service
    from perfmodel.inference.service import serve as serve
    from perfmodel.inference.step import Cost as Cost
    from perfmodel.inference.step import decode_step as decode_step
    from perfmodel.inference.step import prefill as prefill
    from perfmodel.inference.step_predictor import StepPredictor as StepPredictor
    from perfmodel.kernels.kernel import AbstractKernel as AbstractKernel
    from perfmodel.kernels.kernel import column as column
    from perfmodel.kernels.registry import add_kernel as add_kernel
    from perfmodel.library.chip import load_chip as load_chip
    from perfmodel.library.model import load_model as load_model
    from perfmodel.results import as_dict as as_dict
    from perfmodel.results import as_json as as_json
    from perfmodel.results import as_rows as as_rows
    from perfmodel.roofline import Work as Work
    from perfmodel.roofline import price as price
    from perfmodel.units import as_scalar as as_scalar
    from perfmodel.workload.model import Transformer as Transformer
    from perfmodel.workload.model import traced as traced
    from perfmodel.workload.plan import Plan as Plan
    from perfmodel.workload.request import Request as Request
    from perfmodel.xla import to_run_once as to_run_once

_PLACES = {
    "AbstractKernel": "kernels.kernel",
    "Breakdown": "breakdown",
    "Chip": "hardware.chip",
    "Cost": "inference.step",
    "InputError": "errors",
    "Plan": "workload.plan",
    "Recommendation": "inference.recommendation",
    "Service": "inference.service",
    "Request": "workload.request",
    "StepPredictor": "inference.step_predictor",
    "Transformer": "workload.model",
    "Waits": "inference.closed_loop",
    "Work": "roofline",
    "add_kernel": "kernels.registry",
    "as_dict": "results",
    "as_json": "results",
    "as_rows": "results",
    "as_scalar": "units",
    "closed_loop": "inference.closed_loop",
    "column": "kernels.kernel",
    "decode_step": "inference.step",
    "load_chip": "library.chip",
    "load_model": "library.model",
    "prefill": "inference.step",
    "price": "roofline",
    "recommend": "inference.recommend",
    "serve": "inference.service",
    "to_run_once": "xla",
    "traced": "workload.model",
    "turn": "design.variables",
}

__all__ = list(_PLACES)  # pyright: ignore[reportUnsupportedDunderAll]


def __getattr__(name: str) -> Any:
    if name not in _PLACES:
        raise AttributeError(f"perfmodel has no {name!r}; it has {', '.join(_PLACES)}.")
    return getattr(importlib.import_module(f"perfmodel.{_PLACES[name]}"), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *_PLACES])
