"""Serving frameworks, version by version: kernel libraries by architecture, fusions, scheduler, host.

A version is called by its word in the column `framework`; today's by the framework's name. What an older one
does not say is as in the version that it is `like`.
"""

import dataclasses
import functools
from collections.abc import Iterator
from typing import Annotated, Any, Literal

import jax.numpy as jnp
from pydantic import Field, field_validator, model_validator

from perfmodel.errors import InputError
from perfmodel.hardware.parameters import Efficiency, parameters
from perfmodel.library.files import read_as, stems
from perfmodel.library.framework_memory import MemoryReserve
from perfmodel.library.schema import Quantity, Share, Sourced, Strict
from perfmodel.units import as_scalar
from perfmodel.workload.plan import Plan

UNMODELLED = (
    "tensorrt-llm",
    "deepspeed",
    "deepspeed-mii",
    "llama.cpp",
    "sambaflow",
    "vendor cloud",
    "tensorrt",
    "tgi",
    "mlperf",
    "jax",
    "optimum-habana",
    "pytorch",
)
"""Spellings of other software; its kernels are not known here: the smooth form is taken."""

ANY_ARCHITECTURE = "any"
"""Stands for all architectures that are not named."""


class Flag(Strict):
    """Whether something is so.

    - `value`: true where it is.
    """

    value: bool
    source: str
    note: str = ""


class Choice(Strict):
    """A kernel library on an architecture, by its name in `perfmodel.kernels.backends`.

    - `library`: the one that is used; `fp8_cache`: the one over a cache in fp8, where it is another.
    """

    library: str
    fp8_cache: str = ""
    source: str
    note: str = ""


Choices = dict[str, Choice]
"""By architecture, or `ANY`."""


class SharedExpert(Strict):
    """Where the shared expert is one of the routed ones, and of how many routed experts a model has then.

    - `architectures`: of chips; `routed_experts`: of the model.
    """

    architectures: list[str]
    routed_experts: int
    source: str
    note: str = ""


class AllReduce(Strict):
    """With which norms an all-reduce is fused: with all, the plain ones, or none.

    - `norms`: with which it is fused.
    - `fits`: the framework whose fitted parameters the unfused one takes.
    """

    norms: Literal["all", "plain", "none"]
    fits: str
    source: str
    note: str = ""


class Fusions(Strict):
    """What is fused. Where nothing is said: no quantisation, no shared expert, all-reduces with all norms,
    and the inputs of a gated delta net in one product.

    - `shared_expert`: where it is one of the routed ones; `all_reduce`: with which norms.
    - `quantisation`: whether norms and activations write fp8 themselves, where the scale is known before.
    - `delta_net_inputs`: whether one product makes queries, keys, values and gates of a gated delta net;
      else four do.
    """

    quantisation: Flag | None = None
    shared_expert: SharedExpert | None = None
    all_reduce: AllReduce | None = None
    delta_net_inputs: Flag | None = None


class Budget(Strict):
    """What a scheduler takes in a step where it is not told, on chips of some memory.

    - `min_memory`: of a chip from which on it is so, in GB; `architectures`: where alone it is, if any are
      named; `except_architectures`: where it is not.
    - `max_num_seqs`: requests; `max_num_batched_tokens`: tokens.
    - `graph_sequences`: of the largest CUDA graph on fewer than four chips; `graph_sequences_wide`: on more.
    """

    min_memory: float = Field(ge=0)
    max_num_seqs: int = Field(ge=1)
    max_num_batched_tokens: int = Field(ge=1)
    architectures: list[str] = []
    graph_sequences: int = Field(default=0, ge=0)
    graph_sequences_wide: int = Field(default=0, ge=0)
    except_architectures: list[str] = []
    source: str
    note: str = ""

    def holds(self, memory: float, architecture: str) -> bool:
        """Whether it is so on a chip with some GB of main memory."""
        named = not self.architectures or architecture in self.architectures
        return memory >= self.min_memory and named and architecture not in self.except_architectures


class Scheduler(Strict):
    """Defaults of the scheduler.

    - `separate_prefill`: whether prompts take a step of their own, and do not ride on decode steps.
    - `ranks_apart`: whether each data rank takes prompts when it has them; else all take them together.
    - `reserved_output`: share of the output that must have capacity in the cache before a request is let in,
      in a steady state; `admitted_output`: the same, of the output still to come of all that are in.
    - `chunked_prefill`: whether prompts are cut to fill a step.
    - `budgets`: the first that holds of a chip is taken: what a server has by itself.
    - `batched_tokens_beyond`: tokens of a step beside the prompt and the sequences that decode, as servers
      are launched for requests of equal length; where nothing is said, as by itself.
    - `schedules_ahead`: whether a step is scheduled while the one before runs.
    """

    separate_prefill: Flag | None = None
    ranks_apart: Flag | None = None
    reserved_output: Share | None = None
    schedules_ahead: Flag | None = None
    batched_tokens_beyond: Quantity | None = None
    admitted_output: Share | None = None
    chunked_prefill: Flag | None = None
    budgets: list[Budget] = []

    def budget(self, memory: float, architecture: str) -> Budget:
        """Of a chip with some GB of main memory."""
        return next((one for one in self.budgets if one.holds(memory, architecture)), NO_BUDGET)


NO_BUDGET = Budget(
    min_memory=0,
    max_num_seqs=1024,
    max_num_batched_tokens=8192,
    source="as vLLM has it on chips of 70 GiB and more",
)
"""Of what names no framework."""


class Layout(Strict):
    """Ways to spread a model that a framework refuses. Where nothing is said: none but those that cannot be.

    - `all_expert_ranks`: experts are spread over all ranks of a stage, or over none.
    - `even_experts`: each rank has as many experts as any other.
    - `whole_attention`: a data rank of attention is one chip.
    - `even_kv_heads`: heads of keys and values are split or copied a whole number of times.
    - `even_columns`: tensor ranks split the columns of feed-forward layers and experts evenly.
    - `expert_blocks`, `dense_blocks`: of experts, and of other matrices, in fp8 with a scale for each block
      of 128, a rank has whole blocks.
    - `one_stage_drafts`: tokens are drafted on one pipeline stage alone.
    """

    all_expert_ranks: Flag | None = None
    even_experts: Flag | None = None
    whole_attention: Flag | None = None
    even_kv_heads: Flag | None = None
    even_columns: Flag | None = None
    expert_blocks: Flag | None = None
    dense_blocks: Flag | None = None
    one_stage_drafts: Flag | None = None

    def forbids(self, name: str) -> bool:
        """Whether a rule holds."""
        return _is(getattr(self, name))


class Platform(Strict):
    """Why a framework is known to run on chips of an architecture."""

    source: str
    note: str = ""


class Format(Strict):
    """What a framework does with a number format on some architectures.

    - `architectures`: of chips, where it is so.
    - `says`: in a sentence.
    - `slower`: how many times as long as with fast kernels a service may take, where measured times tell.
    """

    architectures: list[str]
    says: str
    source: str
    slower: Annotated[float, Field(ge=1)] = 1.0


class Version(Strict):
    """One version.

    - `name`: as people call it; `like`: the version whose facts it shares where it says nothing.
    - `attention`, `gemm`, `moe`, `collective`: kernel libraries, by architecture.
    - `fusions`: what is fused; `scheduler`: its defaults.
    - `unfused_collective`: of all-reduces that are fused with no norm.
    - `own_host`: whether its host is fitted to its own runs; else it is that of its framework.
    - `decode_per_query_head`: whether decode steps read the cache for each query head, not for a group.
    - `parameters`: that differ from the fitted ones, by family and name.
    - `platforms`: architectures that it runs on.
    - `layout`: ways to spread a model that it refuses.
    - `memory`: what it keeps of a chip's memory besides weights and KV cache.
    - `slow_weights`, `slow_cache`: formats for which it has no fast kernel somewhere; `refused_weights`: none
      at all. Formats are those that a chip runs (`perfmodel.workload.precision.runnable`).
    """

    name: str
    like: str = ""
    platforms: dict[str, Platform] = {}
    layout: Layout = Layout()
    memory: MemoryReserve | None = None
    slow_weights: dict[str, Format] = {}
    slow_cache: dict[str, Format] = {}
    refused_weights: dict[str, Format] = {}
    attention: Choices = {}
    gemm: Choices = {}
    moe: Choices = {}
    collective: Choices = {}
    unfused_collective: Choices = {}
    fusions: Fusions = Fusions()
    scheduler: Scheduler = Scheduler()
    decode_per_query_head: Flag | None = None
    own_host: Flag | None = None
    parameters: dict[str, dict[str, Quantity]] = {}

    @field_validator("parameters")
    @classmethod
    def _parameters_are_known(
        cls, given: dict[str, dict[str, Quantity]]
    ) -> dict[str, dict[str, Quantity]]:
        for family, numbers in given.items():
            units = parameter_units(family)
            for name, number in numbers.items():
                if units.get(name) != number.unit:
                    allowed = ", ".join(f"{each} in {unit}" for each, unit in units.items())
                    raise ValueError(
                        f"{family}.{name} in {number.unit} is no parameter; allowed are {allowed}"
                    )
        return given

    @property
    def separates_prefill(self) -> bool:
        """Whether prompts take a step of their own."""
        return _is(self.scheduler.separate_prefill)

    @property
    def chunks_prefill(self) -> bool:
        """Whether prompts are cut to fill a step."""
        return _is(self.scheduler.chunked_prefill, otherwise=True)

    @property
    def admitted_output(self) -> float:
        """Share of the output still to come that must have capacity when a request is let in."""
        found = self.scheduler.admitted_output
        return 0.0 if found is None else found.si("1")

    @property
    def schedules_ranks_apart(self) -> bool:
        """Whether each data rank takes prompts when it has them."""
        return _is(self.scheduler.ranks_apart)

    @property
    def reserved_output(self) -> float:
        """Share of the output that must fit in the KV cache before a request is let in; all if not said."""
        found = self.scheduler.reserved_output
        return 1.0 if found is None else found.si("1")

    @property
    def schedules_ahead(self) -> bool:
        """Whether a step is scheduled while the one before runs."""
        return _is(self.scheduler.schedules_ahead)

    def batched_tokens(self, isl: Any, users: Any, memory: Any) -> Any:
        """Tokens of a step of a data rank, at most, as its server is launched for users in step.

        Without a framework one prompt has capacity.

        **Arguments:**

        - `isl`: tokens of each prompt; `users`: who decode beside; `memory`: of a chip, in bytes.
        """
        beyond = self.scheduler.batched_tokens_beyond
        budgets = [one for one in self.scheduler.budgets if not one.architectures]
        if beyond is not None or not budgets:
            return isl + users + (0.0 if beyond is None else beyond.si("1"))
        tokens = as_scalar(budgets[-1].max_num_batched_tokens)
        for one in reversed(budgets[:-1]):
            tokens = jnp.where(memory >= 1e9 * one.min_memory, one.max_num_batched_tokens, tokens)
        return tokens

    @property
    def fuses_quantisation(self) -> bool:
        """Whether norms and activations write fp8 themselves."""
        return _is(self.fusions.quantisation)

    @property
    def fuses_delta_net_inputs(self) -> bool:
        """Whether one product makes the inputs of a gated delta net."""
        return _is(self.fusions.delta_net_inputs, otherwise=True)

    @property
    def decodes_per_query_head(self) -> bool:
        """Whether decode steps read the cache for each query head."""
        return _is(self.decode_per_query_head)

    def fuses_all_reduce(self, plain_norms: bool) -> bool:
        """Whether an all-reduce is fused with a model's norms; `plain_norms`: none adds 1 to its weights."""
        found = self.fusions.all_reduce
        return found is None or found.norms == "all" or (found.norms == "plain" and plain_norms)

    def section(self, family: str) -> dict[str, float]:
        """The parameters of a family that differ, as files of fitted parameters have them."""
        return {
            name if number.unit == "1" else f"{name}_{number.unit}": number.value
            for name, number in self.parameters.get(family, {}).items()
        }


UNREAD = ("unquantised", "board")
"""Families whose parameters no framework changes: products in another format, and the power of boards."""


@functools.cache
def parameter_units(family: str) -> dict[str, str]:
    """Parameters of a family by name, with the unit in which files have them; `mesh`: of a whole chip.

    **Raises:**

    - `ValueError`: for another family.
    """
    kinds: dict[str, type] = {"mesh": Efficiency} | {
        field.name: field.type
        for field in dataclasses.fields(Efficiency)
        if isinstance(field.type, type)
        and dataclasses.is_dataclass(field.type)
        and field.name not in UNREAD
    }
    if family not in kinds:
        raise ValueError(
            f"there are no parameters of {family}; allowed are those of {', '.join(kinds)}"
        )
    return {f.name: f.metadata["unit"] for f in parameters(kinds[family])}


def _is(flag: Flag | None, otherwise: bool = False) -> bool:
    return otherwise if flag is None else flag.value


NO_FRAMEWORK = Version(name="the smooth form")


class Releases(Strict):
    """Releases whose kernels were measured, oldest first; the last is the newest.

    - `names`: oldest first; the last is the newest.
    """

    names: list[str]
    source: str


class FrameworkFile(Sourced):
    """A framework, its measured releases, and its versions by their words; today's is the file's name.

    - `releases`: whose kernels were measured.
    - `version`: facts of each version, by its word.
    - `default_on`: architectures whose chips run it where no framework is named.
    """

    name: str
    releases: Releases | None = None
    default_on: list[str] = []
    version: dict[str, Version]

    @model_validator(mode="after")
    def _versions_are_like_others(self) -> "FrameworkFile":
        for word, one in self.version.items():
            if one.like not in ("", *self.version) or one.like == word:
                raise ValueError(f"{word} is like {one.like!r}, which is no other version")
        return self


@functools.cache
def framework_files() -> dict[str, FrameworkFile]:
    """The library's frameworks, by name."""
    return {stem: read_as(FrameworkFile, path) for stem, path in stems("frameworks").items()}


@functools.cache
def frameworks() -> tuple[str, ...]:
    """Names of all frameworks, which are the words of today's versions."""
    return tuple(framework_files())


@functools.cache
def older_versions() -> dict[str, str]:
    """Words of all other versions, and the framework of each."""
    return {
        word: stem
        for stem, file in framework_files().items()
        for word in file.version
        if word != stem
    }


def releases_of(framework: str) -> list[str]:
    """Measured releases of a framework, oldest first; none of what is no framework."""
    file = framework_files().get(framework)
    return file.releases.names if file is not None and file.releases is not None else []


def release_of(framework: str, cell: str) -> str:
    """The release that a cell of `framework_version` means; empty: the newest.

    **Raises:**

    - `InputError`: for a release that was not measured, or without a framework.
    """
    word, known = cell.strip(), releases_of(framework)
    if not word or word in known:
        return word
    if not known:
        names = ", ".join(frameworks())
        raise InputError(
            f"framework_version is {word[:40]!r}, which needs a framework: give {names}, or leave it empty."
        )
    raise InputError(
        f"framework_version is {word[:40]!r}; known of {framework} are {', '.join(known)}."
    )


@functools.cache
def find_version(word: str) -> Version:
    """A version by its word, with what it shares; without a word, no framework's."""
    if not word:
        return NO_FRAMEWORK
    own = framework_files()[older_versions().get(word, word)].version[word]
    if not own.like:
        return own
    base = find_version(own.like)
    shared = {name: _joined(getattr(base, name), getattr(own, name)) for name in INHERITED_FIELDS}
    return own.model_copy(update=shared)


INHERITED_FIELDS = tuple(
    name for name in Version.model_fields if name not in ("name", "like", "parameters", "own_host")
)
"""What a version shares with the one that it is like."""


def _joined(base: Any, own: Any) -> Any:
    """What a version says, over what the one that it is like does."""
    if isinstance(own, dict):
        return base | own
    if not isinstance(own, Fusions | Scheduler | Layout):
        return own or base
    stated = {name: one for name in type(own).model_fields if (one := getattr(own, name))}
    return base.model_copy(update=stated)


def host_name(framework: str, version: str) -> str:
    """Whose host a framework, or its older `version`, has, as files of fitted parameters call it."""
    return version if version and _is(find_version(version).own_host) else framework


def host_names() -> tuple[str, ...]:
    """Frameworks, and versions with hosts of their own."""
    return tuple(dict.fromkeys(host_name(*pair) for pair in _named()))


def _named() -> Iterator[tuple[str, str]]:
    yield from ((name, "") for name in frameworks())
    yield from ((framework, word) for word, framework in older_versions().items())


def version_of(plan: Plan) -> Version:
    """The version of the framework that a plan is served by."""
    return find_version(plan.framework_version or plan.framework or "")


@functools.cache
def default_framework(architecture: str) -> str:
    """What chips of an architecture run where no framework is named; empty: the smooth form."""
    found = (name for name, file in framework_files().items() if architecture in file.default_on)
    return next(found, "")


def software_on(plan: Plan, architecture: str) -> Version:
    """The version whose parameters a plan's chip has: of its framework, else of its architecture."""
    return version_of(plan) if plan.framework else find_version(default_framework(architecture))


def library_of(choices: Choices, architecture: str, cache: str = "") -> str:
    """The kernel library of an architecture, for a format of the cache; empty where none is known."""
    found = choices.get(architecture, choices.get(ANY_ARCHITECTURE))
    if found is None:
        return ""
    return (found.fp8_cache if cache == "fp8" else "") or found.library


def slower_by(formats: dict[str, Format], word: str, architecture: str) -> float:
    """How many times as long a service in a number format may take on an architecture."""
    found = formats.get(word)
    return found.slower if found is not None and architecture in found.architectures else 1.0


def said_of(formats: dict[str, Format], word: str, architecture: str) -> str:
    """What is said of a number format on an architecture; empty where nothing is."""
    found = formats.get(word)
    return found.says if found is not None and architecture in found.architectures else ""
