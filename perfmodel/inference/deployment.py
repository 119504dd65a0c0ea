"""What a row of the serving schema names: a chip, a model, formats and a framework, looked up once."""

import dataclasses
import functools
from collections.abc import Callable, Collection, Hashable
from pathlib import Path
from typing import Any, NamedTuple, ParamSpec

from perfmodel.batching import structure
from perfmodel.errors import InputError
from perfmodel.hardware.chip import Chip, restrict, with_anchor
from perfmodel.inference.operations import wishes_of
from perfmodel.kernels.backends import backends_of
from perfmodel.kernels.kernel_table import served_by
from perfmodel.kernels.registry import rates_of
from perfmodel.library.anchors import Stack, anchor_of, find_table, measured_intervals, stack_of
from perfmodel.library.chip import build, chip_file, origin
from perfmodel.library.files import named, word_of
from perfmodel.library.fitted import FITTED, Origin
from perfmodel.library.fitted_intervals import (
    ServingIntervals,
    all_hosted_models,
    hosted_models,
    load_serving_intervals,
    widened,
)
from perfmodel.library.framework import (
    SharedExpert,
    find_version,
    frameworks,
    slower_by,
    version_of,
)
from perfmodel.library.model import load_model, load_priced, published
from perfmodel.library.schema import ChipFile
from perfmodel.library.serving_ranges import MODELS
from perfmodel.workload.attention import Latent, Recurrent
from perfmodel.workload.feed_forward import Mixture
from perfmodel.workload.model import Transformer, traced
from perfmodel.workload.plan import Plan
from perfmodel.workload.precision import FORMATS, CheckpointFormats, look_up, runnable, taken
from perfmodel.workload.server import ServerOptions

P = ParamSpec("P")


class Deployment(NamedTuple):
    """A chip, a model and formats, which rows share, and what is often asked of them.

    - `stem`: the chip's name in the library, or the path of its file.
    - `intervals`: factors of those of TPOT and TTFT.
    - `form`: what the compiled function depends on.
    - `heads`, `experts`: the most query heads of any layer; the fewest experts, `nan` without any.
    - `domain`: chips that fast links join; `layers`: of the model.
    - `wafer`: whether the chip is a dataflow machine without main memory.
    - `architecture`: of the chip, by which frameworks choose kernels.
    """

    chip: Chip
    plan: Plan
    model: Transformer
    stem: str
    intervals: ServingIntervals
    form: Hashable
    heads: float
    experts: float
    domain: float
    layers: float
    wafer: bool
    architecture: str


def resolve_deployment(
    chip: str,
    model: str,
    precision: str,
    cache: str,
    framework: str,
    calibration: Path,
    framework_version: str = "",
) -> Deployment:
    """Look up what a row names.

    **Raises:**

    - `InputError`: for a name that is not known, or a format that the chip cannot run.
    """
    (stem, file) = chip_file(chip)
    software, version, release = served_by(framework, framework_version)
    shape = load_priced(model)
    if UNQUANTISED_FORMAT not in file.matrix:
        raise InputError(
            f"{stem} multiplies in {named(file.matrix)} alone, but attention and what a checkpoint "
            f"leaves as it was are in {UNQUANTISED_FORMAT}: only its kernels can be predicted, not models."
        )
    formats = formats_of(precision, shape, published(model))
    unquantised, weights = (runnable(word, file.matrix, stem, file.without) for word in formats)
    stored = taken(cache_format(cache, shape.cache), file.without)
    shape = _runnable_parts(shape, file, stem)
    unfused = not find_version(version or software).fuses_all_reduce(not _recurs(shape))
    plan = Plan(
        weights=weights,
        cache=stored,
        unquantised=unquantised,
        framework=software or None,
        framework_version=version,
        release=release,
        fuses_shared_expert=fuses_shared_expert(software, file, shape),
        unfused_all_reduce=unfused,
        server=default_options(version or software, release, file),
        **backends_of(version or software, file.architecture, stored, unfused),
    )
    kinds = rates_of(plan) | _kinds_of_parts(shape) | wishes_of(shape) & set(file.matrix)
    loaded = restrict(build(Path(stem).stem, file, plan, calibration), kinds)
    intervals = serving_intervals(origin(stem, file), plan, shape, calibration)
    stack = stack_of(stem, software, version, str.__str__(shape.name), weights)
    if not release and (measured := find_table(stack, calibration)):
        loaded = with_anchor(loaded, anchor_of(measured))
        intervals = measured_intervals(measured)
    plan = dataclasses.replace(plan, release="")  # is in the chip's parameters, and compiles alike
    model_traced = traced(shape)
    return Deployment(
        loaded,
        plan,
        model_traced,
        stem,
        intervals,
        structure((loaded, plan, model_traced)),
        query_heads(model_traced),
        fewest_experts(model_traced),
        float(loaded.scale_up.size),
        float(shape.layers),
        loaded.execution == "dataflow" and not float(loaded.main.capacity),
        file.architecture,
    )


def default_options(framework: str, release: str, file: ChipFile) -> ServerOptions:
    """Options that a framework takes by itself on a chip; without one, those of a usual scheduler."""
    version = find_version(framework)
    memory = 0.0 if file.main is None else file.main.capacity.si("byte") / 1e9
    budget = version.scheduler.budget(memory, file.architecture)
    default = None if version.memory is None else version.memory.default_of(release)
    return ServerOptions(
        default_fraction=0.0 if default is None else default.value,
        max_num_seqs=budget.max_num_seqs,
        max_num_batched_tokens=budget.max_num_batched_tokens,
        graph_sequences=budget.graph_sequences,
        graph_sequences_wide=budget.graph_sequences_wide,
        graphs=0.0 if default is None or default.graphs is None else default.graphs.si("byte"),
    )


def _runnable_parts(shape: Transformer, file: ChipFile, stem: str) -> Transformer:
    """A model whose parts are in the formats that the chip runs instead of those of its checkpoint."""
    if not isinstance(shape.narrow, CheckpointFormats):
        return shape
    return dataclasses.replace(shape, narrow=shape.narrow.runnable(file.matrix, stem, file.without))


def _kinds_of_parts(shape: Transformer) -> set[str]:
    """Kinds of matrix unit that the parts of a checkpoint are multiplied in."""
    if not isinstance(shape.narrow, CheckpointFormats):
        return set()
    return {look_up(word).matrix for word in shape.narrow.words()}


UNQUANTISED_FORMAT = "bf16"
"""The format of what is not quantised, where a row does not say it."""


def formats_of(precision: str, model: Transformer, formats: Collection[str]) -> tuple[str, str]:
    """Formats of what is not quantised, and of the weights: the two parts of a mix.

    One format leaves the rest plain; where none is given, it is the model's own.
    """
    if not precision.strip():
        return UNQUANTISED_FORMAT, model.native
    words = [word_of(word, [*FORMATS, "fp4"], "precision") for word in precision.split("/")]
    if len(words) > 2:
        raise InputError(
            f"precision is {precision[:40]!r}; allowed are one format, or two as in fp16/int8."
        )
    formats_of_words = [_format_of(word, model, formats) for word in words]
    return (
        formats_of_words[0] if len(formats_of_words) == 2 else UNQUANTISED_FORMAT
    ), formats_of_words[-1]


def _format_of(word: str, model: Transformer, formats: Collection[str]) -> str:
    """What a word means for a model: where its checkpoint in eight bits has a scale for each block,
    fp8 means that one."""
    if word == "fp4":
        return "mxfp4" if model.native == "mxfp4" else "nvfp4"
    return (
        "fp8_block" if word == "fp8" and "fp8_block" in formats and "fp8" not in formats else word
    )


def cache_format(word: str, stated: str = "") -> str:
    """The format of the KV cache; where none is given, the one that the checkpoint states, else as what is
    not quantised."""
    if not word.strip():
        return stated or UNQUANTISED_FORMAT
    return word_of(word, list(FORMATS), "kv_precision")


def fuses_shared_expert(software: str, file: ChipFile, model: Transformer) -> bool:
    """Whether a model's shared expert is one of the routed ones: the smooth form, which names no
    framework, fuses on every launched chip what any framework fuses on one."""
    launched = not software and file.execution == "launched"
    words = frameworks() if launched else (software,)
    fusions = [fusion for word in words if (fusion := find_version(word).fusions.shared_expert)]
    return any(
        _fused(model, fusion)
        for fusion in fusions
        if launched or file.architecture in fusion.architectures
    )


def _fused(model: Transformer, fusion: SharedExpert) -> bool:
    """Whether the model is one whose shared expert is fused."""
    last = model.stacks[-1].layer
    latent = isinstance(last.attention, Latent) and not last.attention.indexes
    inner = last.feed_forward
    if not latent or not isinstance(inner, Mixture):
        return False
    return inner.shares and inner.experts == fusion.routed_experts


def _recurs(model: Transformer) -> bool:
    """Whether some layers of a model are gated delta nets."""
    attentions = [stack.layer.attention for stack in model.stacks]
    return any(
        isinstance(attention, Recurrent) and attention.kind == "gdn" for attention in attentions
    )


def stack_named(deployment: Deployment) -> Stack:
    """Whose measured runs scale what is predicted of a deployment."""
    plan = deployment.plan
    words = (plan.framework or "", plan.framework_version, model_name(deployment), plan.weights)
    return stack_of(deployment.stem, *words)


def serving_intervals(
    of: Origin, plan: Plan, model: Transformer, calibration: Path = FITTED
) -> ServingIntervals:
    """Of a model's service on a chip, where no run of its stack was measured; wider where the framework has
    no fast kernels for the weights.
    """
    grade = _grade(of, model, plan, calibration)
    found = load_serving_intervals(of, plan, families_of(model), grade, calibration)
    slower = slower_by(version_of(plan).slow_weights, plan.weights, of.architecture)
    if slower == 1:
        return found
    return found._replace(tpot=widened(found.tpot, slower), ttft=widened(found.ttft, slower))


def families_of(model: Transformer) -> set[str]:
    """Families of the kernels that take most of a model's time; a state that is priced as Mamba-2's is of a
    family of its own, which nothing is fitted to."""
    families = {"gemm"}
    for layer in (stack.layer for stack in model.stacks):
        if isinstance(layer.attention, Recurrent):
            own = layer.attention.kind == layer.attention.kernel
            families.add("linear_attention" if own else layer.attention.kind)
        elif layer.attention is not None:
            latent = isinstance(layer.attention, Latent)
            families |= (
                {"mla_decode", "mla_prefill"}
                if latent
                else {"attention_decode", "attention_prefill"}
            )
        if isinstance(layer.feed_forward, Mixture):
            families.add("moe")
    return families


def _grade(of: Origin, model: Transformer, plan: Plan, calibration: Path) -> str:
    """Whether the runs that the host is fitted to had a model of this shape, or runs of any framework all of
    its kinds of layers."""
    hosted = map(_measured, hosted_models(of, plan, calibration))
    if _shape(model) in (measured.shape for measured in hosted):
        return MODELS[0]
    every = map(_measured, all_hosted_models(calibration))
    kinds = set[str]().union(*(measured.kinds for measured in every))
    return MODELS[1] if layer_kinds(model) <= kinds else MODELS[2]


class _Measured(NamedTuple):
    """What sets the time of a model that runs had, and its kinds of layers."""

    shape: str
    kinds: set[str]


@functools.cache
def _measured(name: str) -> _Measured:
    """Of a model by name; each is read once."""
    model = load_model(name)
    return _Measured(_shape(model), layer_kinds(model))


def layer_kinds(model: Transformer) -> set[str]:
    """Kinds of attention and of feed-forward layers of a model, whatever their sizes."""
    layers = [stack.layer for stack in model.stacks]
    return {_kind(part) for layer in layers for part in (layer.attention, layer.feed_forward)}


def _kind(part: Any) -> str:
    """The class of a part of a layer, with its choices."""
    if part is None:
        return ""
    choices = {
        f.name: getattr(part, f.name) for f in dataclasses.fields(part) if f.metadata.get("static")
    }
    return f"{type(part).__name__} {choices}"


def _shape(model: Transformer) -> str:
    """All that sets a model's time, without its name and its towers."""
    return repr(dataclasses.replace(model, name="", towers=0))


def model_name(deployment: Deployment) -> str:
    """The model's name, for a sentence."""
    return str.__str__(deployment.model.name)


def query_heads(model: Transformer) -> float:
    """The most query heads of any layer."""
    attentions = [
        stack.layer.attention for stack in model.stacks if stack.layer.attention is not None
    ]
    return max((float(attention.heads) for attention in attentions), default=1.0)


def fewest_experts(model: Transformer) -> float:
    """The fewest experts of any layer that has some; `nan` where none has."""
    counts = [
        float(stack.layer.feed_forward.experts)
        for stack in model.stacks
        if isinstance(stack.layer.feed_forward, Mixture)
    ]
    return min(counts, default=float("nan"))


def _or_error(find: Callable[P, Deployment]) -> Callable[P, Deployment | str]:
    """A function that gives what is wrong in place of raising it."""

    def found(*names: P.args, **more: P.kwargs) -> Deployment | str:
        try:
            return find(*names, **more)
        except InputError as wrong:
            return str(wrong)

    return found


resolve_or_error = functools.cache(_or_error(resolve_deployment))
"""The deployment of a row, or what is wrong with its names: each is looked up once."""
