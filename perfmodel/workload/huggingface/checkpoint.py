"""Formats of a checkpoint layer by layer, from the lists of its file."""

from collections import defaultdict
from collections.abc import Callable, Sequence
from typing import Any

from perfmodel.workload.huggingface.fields import Fields
from perfmodel.workload.huggingface.formats import (
    ALGORITHMS,
    MIXED,
    Weights,
    group_format,
    left_out,
    main_format,
    narrow,
    quantised,
    unquantised,
    weights,
)
from perfmodel.workload.huggingface.modules import Matrix, Names, bare, matrices
from perfmodel.workload.model import Layer
from perfmodel.workload.precision import FORMATS, CheckpointFormats, Scope, Share

Assigned = Callable[[Sequence[str]], Weights]
"""The format of a matrix, from the names that it may have."""


def read_formats(
    config: Fields, model: Fields, layers: list[Layer], experts: Sequence[str] = ()
) -> tuple[str, Scope | CheckpointFormats]:
    """The format of most of the weights, and which parts are in it or what each part is in.

    **Arguments:**

    - `config`: the whole file; `model`: the language model's part of it; `layers`: as they stand.
    - `experts`: what the family calls its experts, where it is not as usual.
    """
    plain = unquantised(config, model)
    fields = quantised(config, model)
    if fields is None:
        return plain, "all"
    if _by_experts_alone(fields, model):
        return main_format(fields, model).word, narrow(fields)
    assigned = _assigned(fields, model, plain)
    count = model.size("num_hidden_layers", default=len(layers))
    found = _shares(layers, min(count, len(layers)), model.size("hidden_size"), assigned, experts)
    scope = narrow(fields)
    head, embedding = (
        _outside(fields, assigned, name, plain) for name in ("lm_head", "embed_tokens")
    )
    native = _native(found, plain)
    attended, dense, routed = found
    formats = CheckpointFormats(native, attended, dense, routed, head, embedding, scope)
    return native, _simple(formats, plain)


def _by_experts_alone(fields: Fields, model: Fields) -> bool:
    """Families whose file says less than their card: gpt-oss, and DeepSeek-V4 with experts in fp4."""
    mixed = fields.text("moe_quant_algo", "quant_algo", default="")
    by_file = fields.text("quant_method", default="") == "mxfp4"
    return by_file or (not mixed and model.text("expert_dtype", default="") == "fp4")


def _assigned(fields: Fields, model: Fields, plain: str) -> Assigned:
    """What the file says of each matrix."""
    rest = weights(plain)
    ignored = Names(left_out(fields))
    if fields.text("quant_algo", default="") == MIXED:
        return _listed(fields, model, ignored, rest)
    if fields.text("quant_method", default="") == "compressed-tensors" or fields.has(
        "config_groups"
    ):
        return _grouped(fields, model, ignored, rest)
    overrides = _overrides(fields, model, rest)
    main = main_format(fields, model)

    def assigned(names: Sequence[str]) -> Weights:
        found = next((one for listed, one in overrides if listed.any(names)), main)
        return rest if ignored.any(names) else found

    return assigned


def _listed(fields: Fields, model: Fields, ignored: Names, rest: Weights) -> Assigned:
    """A mix: each layer with its own word; with `moe_quant_algo`, what is not listed is as
    `quant_method` says."""
    layers = fields.part("quantized_layers")
    by_word: dict[str, list[str]] = defaultdict(list)
    for name in layers.table:
        by_word[layers.part(name).text("quant_algo")].append(name)
    if not by_word:
        raise layers.fault(
            "no layer is listed, so the format is unknown; list one with its quant_algo"
        )
    lists = [
        (Names(names), weights(layers.known("quant_algo", word, ALGORITHMS)))
        for word, names in sorted(by_word.items())
    ]
    other = rest
    if fields.has("moe_quant_algo") and fields.text("quant_method", default="") == "fp8":
        other = weights("fp8_block" if fields.has("weight_block_size") else "fp8")
        ignored = Names([])

    def assigned(names: Sequence[str]) -> Weights:
        found = next((one for listed, one in lists if listed.any(names)), other)
        return rest if ignored.any(names) else found

    return assigned


LINEAR = {"Linear", "Embedding"}
"""Targets that mean every product."""


def _grouped(fields: Fields, model: Fields, ignored: Names, rest: Weights) -> Assigned:
    """Groups of compressed-tensors, each with its targets."""
    groups = fields.part("config_groups")
    if not groups.table:
        main_format(fields, model)
    algorithm = fields.text("quant_algo", default="")
    named = weights(fields.known("quant_algo", algorithm, ALGORITHMS)) if algorithm else None
    lists: list[tuple[Names | None, Weights]] = []
    for name in groups.table:
        group = groups.part(name)
        targets = (
            [str(one) for one in group.items("targets", most=1_000_000)]
            if group.has("targets")
            else []
        )
        every = not targets or bool(set(targets) & LINEAR)
        lists.append((None if every else Names(targets), named or group_format(group)))

    def assigned(names: Sequence[str]) -> Weights:
        if ignored.any(names):
            return rest
        return next((one for listed, one in lists if listed is None or listed.any(names)), rest)

    return assigned


ENDS = ("lm_head", "embed_tokens")
"""The output head and the embedding, which are in no layer."""


def _overrides(fields: Fields, model: Fields, rest: Weights) -> list[tuple[Names, Weights]]:
    """Layers that MLX and GPTQ list with settings of their own; false and `-:` leave them as they were."""
    found: list[tuple[Names, Weights]] = []
    for name, value in fields.table.items():
        layer = "." in name or name in ENDS
        if layer and value is False:
            found.append((Names([name]), rest))
        elif layer and isinstance(value, dict):
            found.append(
                (Names([name]), main_format(Fields(fields.table | value, fields.name), model))
            )
    for name, value in fields.part("dynamic").table.items():
        pattern = Names([f"re:{name[2:]}"]) if name[:2] in ("-:", "+:") else Names([f"re:{name}"])
        own = rest
        if not name.startswith("-:"):
            if not isinstance(value, dict):
                raise fields.fault(
                    f"dynamic: {name[:40]} must be a table in braces; correct it in the file"
                )
            own = main_format(Fields(fields.table | value, fields.name), model)
        found.append((pattern, own))
    return found


def _shares(
    layers: list[Layer], count: int, hidden: Any, assigned: Assigned, experts: Sequence[str]
) -> list[tuple[Share, ...]]:
    """Shares of each format in attention, in feed-forward layers and in experts, over all layers."""
    counts: dict[str, dict[Weights, float]] = defaultdict(lambda: defaultdict(float))
    for position, layer in enumerate(layers):
        # Where a layer is read as several, those count as one.
        index = position * count // len(layers)
        for matrix in matrices(layer, index, hidden, experts):
            _add(counts[matrix.part], matrix, assigned)
    return [_of(counts[part]) for part in ("attention", "feed_forward", "experts")]


def _add(counts: dict[Weights, float], matrix: Matrix, assigned: Assigned) -> None:
    counts[assigned(matrix.names)] += matrix.count


def _of(counts: dict[Weights, float]) -> tuple[Share, ...]:
    total = sum(counts.values())
    if not total:
        return ()
    return tuple(
        Share(one.word, one.size, count / total) for one, count in sorted(counts.items()) if count
    )


def _outside(fields: Fields, assigned: Assigned, name: str, plain: str) -> Share:
    """The output head or the embedding: as they were, but where the file lists them, in MLX, and where
    GPTQ and torchao say so."""
    ends = not fields.has("quant_method") and fields.has("bits")
    ends |= fields.flag("include_input_output_embeddings")
    ends |= name == "lm_head" and fields.table.get("lm_head") is True
    listed = fields.part("quantized_layers").table | dict.fromkeys(_targets(fields), True)
    named = any(name in bare(key).split(".") for key in listed)
    one = assigned([name]) if ends or named else weights(plain)
    return Share(one.word, one.size, 1.0)


def _targets(fields: Fields) -> list[str]:
    groups = fields.part("config_groups")
    found: list[str] = []
    for name in groups.table:
        group = groups.part(name)
        if group.has("targets"):
            found += [str(one) for one in group.items("targets", most=1_000_000)]
    return found


def _native(found: list[tuple[Share, ...]], plain: str) -> str:
    """The format of most of the weights of experts, else of feed-forward layers, else of attention, that is
    narrower than what is not quantised."""
    for shares in (found[2], found[1], found[0]):
        narrow_ones = [share for share in shares if share.size < FORMATS[plain].weight]
        if narrow_ones:
            return max(narrow_ones, key=lambda share: share.share).word
    return plain


def _simple(formats: CheckpointFormats, plain: str) -> Scope | CheckpointFormats:
    """`all` where every matrix is in one format of its usual size and the ends are as they were."""
    usual = Share(formats.native, FORMATS[formats.native].weight, 1.0)
    parts = [part for part in formats[1:4] if part]
    ends = {formats.head.word, formats.embedding.word}
    alike = all(part == (usual,) for part in parts) and ends == {plain}
    return "all" if alike else formats
