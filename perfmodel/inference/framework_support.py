"""Which chips a serving framework runs on, and which ways to spread a model it refuses there.

The rules, and where each is from, are facts of the frameworks (`perfmodel/library/frameworks/NAME.toml`,
tables `platforms`, `layout`, `slow_weights`, `slow_cache` and `refused_weights`). Without a framework only
what cannot be is refused.
"""

import functools
import itertools
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

from perfmodel.errors import InputError
from perfmodel.inference.candidates import Parallelism
from perfmodel.inference.deployment import Deployment, model_name
from perfmodel.kernels.kernel_table import software_of
from perfmodel.library.chip import chip_file
from perfmodel.library.framework import (
    Version,
    find_version,
    framework_files,
    frameworks,
    older_versions,
    said_of,
    version_of,
)
from perfmodel.library.model import published
from perfmodel.workload.attention import Compressed, Counted, Grouped, Latent, Recurrent
from perfmodel.workload.feed_forward import Mixture
from perfmodel.workload.precision import taken

SCALE_BLOCK = 128
"""Rows and columns that share a scale in fp8 (DeepSeek-V3 Technical Report, arXiv 2412.19437, 3.3.2)."""


@functools.cache
def serving_frameworks(architecture: str) -> tuple[str, ...]:
    """Frameworks that serve on chips of an architecture; none where only the smooth form is known."""
    return tuple(name for name in frameworks() if architecture in find_version(name).platforms)


def check_serves(word: str) -> None:
    """Find out whether the kernels of a framework are known here, and whether it serves models.

    **Raises:**

    - `InputError`: with those that are and do, also older versions.
    """
    software, version = software_of(word)
    if not find_version(version or software).platforms:
        words = (*frameworks(), *older_versions())
        serving = ", ".join(each for each in words if find_version(each).platforms)
        raise InputError(
            f"{word} is no framework whose serving is known here; give {serving}, or leave framework empty."
        )


def slow_kernels(deployment: Deployment) -> str:
    """What to know of weights or a cache without fast kernels of the framework on the chip, or in a format
    that the chip does not take; else empty.
    """
    version, architecture = version_of(deployment.plan), deployment.architecture
    found = (
        _replaced_formats(deployment.stem),
        said_of(version.slow_weights, deployment.plan.weights, architecture),
        said_of(version.slow_cache, deployment.plan.cache, architecture),
    )
    return " ".join(filter(None, found))


@functools.cache
def _replaced_formats(chip: str) -> str:
    """What is said of formats that a chip does not take and runs as others of their width."""
    stem, file = chip_file(chip)
    return " ".join(
        f"{Path(stem).stem} has no {word} units: what a checkpoint has in {word} runs as "
        f"{taken(word, file.without)} here."
        for word in file.without
    )


def refusal(deployment: Deployment, parallelism: Parallelism, speculates: bool = False) -> str:
    """Why the deployment's framework does not run a model spread so; empty where it does.

    **Arguments:**

    - `speculates`: whether tokens are drafted.

    **Returns:**

    One sentence with what was asked and what is allowed.
    """
    version, sizes = version_of(deployment.plan), sizes_of(deployment)
    asked = Asked(deployment, parallelism, version, sizes)
    drafts = speculates and parallelism.pp > 1 and version.layout.forbids("one_stage_drafts")
    words = said_of(version.refused_weights, deployment.plan.weights, deployment.architecture)
    reasons = (
        unsupported_chip(deployment),
        *(_stages(asked), _heads(asked), _expert_ranks(asked)),
        *(words, _framework_ranks(asked), _kv_heads(asked), _columns(asked)),
        f"pp is {parallelism.pp:.0f}, but {asked.framework} drafts tokens with pp 1 alone."
        if drafts
        else "",
    )
    return next(filter(None, reasons), "")


class Sizes(NamedTuple):
    """What the rules read of a model, in plain numbers, each once.

    - `heads`, `kv_heads`: of any layer; `attended`: rows of the projection after attention.
    - `experts`: of any layer; `expert_columns`, `columns`: of experts, and of what every token goes through.
    """

    heads: tuple[float, ...]
    kv_heads: tuple[float, ...]
    attended: tuple[float, ...]
    experts: tuple[float, ...]
    expert_columns: tuple[float, ...]
    columns: tuple[float, ...]


class Asked(NamedTuple):
    """A deployment, a way to spread its model, and what the rules read."""

    deployment: Deployment
    parallelism: Parallelism
    version: Version
    sizes: Sizes

    @property
    def framework(self) -> str:
        """The framework's name, for a sentence."""
        return framework_files()[self.deployment.plan.framework or ""].name

    @property
    def ranks(self) -> float:
        """Chips of a pipeline stage, over which experts are spread."""
        return self.parallelism.tp * self.parallelism.dp


def sizes_of(deployment: Deployment) -> Sizes:
    """What the rules read of a deployment's model."""
    layers = [stack.layer for stack in deployment.model.stacks]
    attentions = [layer.attention for layer in layers if layer.attention is not None]
    inner = [layer.feed_forward for layer in layers if layer.feed_forward is not None]
    mixtures = [one for one in inner if isinstance(one, Mixture)]
    return Sizes(
        _plain(attention.heads for attention in attentions),
        _plain(one.kv_heads for one in attentions if isinstance(one, Grouped)),
        _plain(map(_attended, attentions)),
        _plain(one.experts for one in mixtures),
        _plain(one.inter for one in mixtures),
        _plain(one.shared if isinstance(one, Mixture) else one.inter for one in inner),
    )


def _plain(numbers: Iterable[Any]) -> tuple[float, ...]:
    return tuple(sorted({float(number) for number in numbers} - {0.0}))


def _attended(attention: Grouped | Latent | Compressed | Recurrent | Counted) -> float:
    """Rows of the projection after attention, which tensor ranks split."""
    if isinstance(attention, Counted):
        return float(attention.heads)
    if isinstance(attention, Compressed):
        return float(attention.groups) * float(attention.group_rank)
    return float(attention.heads) * float(attention.value)


def unsupported_chip(deployment: Deployment) -> str:
    """What is said of a chip that the framework does not list, with those that do; else empty."""
    plan = deployment.plan
    return _unsupported(plan.framework_version or plan.framework or "", deployment.stem)


def unsupported_pairs(chips: Iterable[str], frameworks: Iterable[str]) -> list[str]:
    """What is said of each chip with each framework that does not run on it, once; names that are not known
    are passed over."""
    pairs = itertools.product(dict.fromkeys(chips), dict.fromkeys(frameworks))
    return list(filter(None, dict.fromkeys(itertools.starmap(_unsupported_or_unknown, pairs))))


def _unsupported_or_unknown(chip: str, framework: str) -> str:
    try:
        name, version = software_of(framework)
        return _unsupported(version or name, chip)
    except InputError:
        return ""


def _unsupported(word: str, chip: str) -> str:
    stem, file = chip_file(chip)
    architecture, platforms = file.architecture, find_version(word).platforms
    if not platforms or architecture in platforms:
        return ""
    name = framework_files()[older_versions().get(word, word)].name
    others = ", ".join(serving_frameworks(architecture))
    return f"{name} does not run on {Path(stem).stem}; " + (
        f"of the frameworks known these do: {others}."
        if others
        else "of the frameworks known none does: leave it empty for the best schedule that the chip allows."
    )


def _stages(asked: Asked) -> str:
    pp, layers = asked.parallelism.pp, asked.deployment.layers
    if pp <= layers:
        return ""
    return (
        f"pp is {pp:.0f}, but may not be more than the {layers:.0f} layers "
        f"of {model_name(asked.deployment)}."
    )


def _heads(asked: Asked) -> str:
    tp = asked.parallelism.tp
    uneven = [heads for heads in asked.sizes.heads if heads % tp]
    if not uneven:
        return ""
    return f"tp is {tp:.0f}, but must divide the {uneven[0]:.0f} heads of {model_name(asked.deployment)}."


def _expert_ranks(asked: Asked) -> str:
    """Experts lie on ranks of a stage, one at least on each."""
    ep, experts = asked.parallelism.ep, asked.sizes.experts
    if ep == 1:
        return ""
    if not experts:
        return f"ep is {ep:.0f}, but {model_name(asked.deployment)} has no experts; allowed is 1."
    most = min(asked.ranks, experts[0])
    what = "ranks (tp x dp)" if most == asked.ranks else "experts"
    return f"ep is {ep:.0f}, but may not be more than the {most:.0f} {what}." if ep > most else ""


def _framework_ranks(asked: Asked) -> str:
    """What a framework takes as ranks of experts and of attention."""
    (tp, _, ep, dp, _), layout = asked.parallelism, asked.version.layout
    if not asked.deployment.plan.framework:
        return ""
    if layout.forbids("whole_attention") and dp > 1 < tp:
        return (
            f"tp is {tp:.0f} and dp is {dp:.0f}, but with attention DP {asked.framework} keeps all heads "
            "on each rank: allowed are tp 1 with any dp, or dp 1."
        )
    if layout.forbids("all_expert_ranks") and ep not in (1, asked.ranks):
        return f"ep is {ep:.0f}, but {asked.framework} takes 1 or all {asked.ranks:.0f} ranks (tp x dp)."
    if asked.ranks % ep:
        return f"ep is {ep:.0f}, but must divide the {asked.ranks:.0f} ranks (tp x dp)."
    uneven = [experts for experts in asked.sizes.experts if experts % ep]
    if uneven and layout.forbids("even_experts"):
        return (
            f"ep is {ep:.0f}, but in {asked.framework} it must divide the {uneven[0]:.0f} experts."
        )
    return ""


def _kv_heads(asked: Asked) -> str:
    tp = asked.parallelism.tp
    uneven = [heads for heads in asked.sizes.kv_heads if heads % tp and tp % heads]
    if not uneven or not asked.version.layout.forbids("even_kv_heads"):
        return ""
    return (
        f"tp is {tp:.0f}, but in {asked.framework} it must divide the {uneven[0]:.0f} heads of keys and "
        "values, or they it."
    )


def _columns(asked: Asked) -> str:
    """Columns of a rank: whole ones, and whole blocks where weights have a scale for each."""
    (tp, _, ep, _, _), sizes = asked.parallelism, asked.sizes
    expert = _uneven(asked, "experts", sizes.expert_columns, asked.ranks / ep, "expert_blocks")
    dense = (*sizes.columns, *(sizes.attended if _in_blocks(asked.deployment) else ()))
    return expert or _uneven(asked, "matrices", dense, tp, "dense_blocks")


def _uneven(asked: Asked, what: str, columns: Iterable[float], ranks: float, rule: str) -> str:
    """What is said of columns that `ranks` cannot share; one rank has all, as they are."""
    layout = asked.version.layout
    blocks = layout.forbids(rule) and _in_blocks(asked.deployment)
    grain = SCALE_BLOCK if blocks else float(layout.forbids("even_columns"))
    uneven = [each for each in columns if grain and ranks > 1 and each / ranks % grain]
    if not uneven:
        return ""
    whole = (
        f"a multiple of {SCALE_BLOCK}, for fp8 with a scale for each block"
        if blocks
        else "a whole number"
    )
    return (
        f"{what} of {uneven[0]:.0f} columns over {ranks:.0f} tensor ranks have {uneven[0] / ranks:g} each; "
        f"{asked.framework} takes {whole}."
    )


def _in_blocks(deployment: Deployment) -> bool:
    """Whether weights are in fp8 with a scale for each block, also where a chip unpacks them."""
    if deployment.plan.weights != "w8a16":
        return deployment.plan.weights == "fp8_block"
    formats = _published(model_name(deployment))
    return "fp8_block" in formats and "fp8" not in formats


_published = functools.cache(published)
