"""Towers of images and of sound beside a language model: their parameters, with what joins them to it."""

import functools
import tomllib
from typing import Any, NamedTuple

from perfmodel.workload.huggingface.architecture import ARCHITECTURES, Switch, Table
from perfmodel.workload.huggingface.fields import Fields
from perfmodel.workload.huggingface.read import text_part

TOWERS = ARCHITECTURES.with_name("towers.toml")
"""Facts of the towers, by their `model_type`, and of what joins them, by the architecture."""

CONVOLUTION = 3
"""Taps of the two convolutions before an encoder of sound (Whisper, arXiv 2212.04356)."""


class Tower(Table):
    """A tower.

    - `like`: another one, of which this has all that it does not say itself; `names`, `defaults`: of its
      fields.
    - `biases`: of all products; else `qkv_bias`, `o_bias`, `mlp_bias`, `key_bias`; `patch_bias`: of the
      first one.
    - `norms`: outside the layers; `norm_bias`: whether norms have biases; `layer_scales`: vectors in a layer.
    - `class_token`: one token more; `positions`: field of their number, `image` for one a patch, empty
      for none.
    - `temporal`: patches span several pictures; `merger`: several places are merged (Qwen), `deepstack`:
      field of the layers that are merged too; `head`: attention that pools; `adapter`: of Llama 4.
    - `tiles`: an image is cut into tiles, which gated layers behind the others see together (Llama 3.2).
    """

    like: str = ""
    names: dict[str, str] = {}
    defaults: dict[str, Any] = {}
    audio: bool = False
    biases: bool = False
    qkv_bias: Switch = False
    o_bias: Switch = False
    mlp_bias: Switch = False
    key_bias: bool = True
    patch_bias: bool = False
    norms: int = 0
    norm_bias: bool = False
    layer_scales: int = 0
    wide_norms: Switch = False
    class_token: bool = False
    gated: bool = False
    ratio: str = ""
    positions: str = "image"
    temporal: bool = False
    merger: bool = False
    merger_norm: str = ""
    deepstack: str = ""
    head: Switch = False
    adapter: bool = False
    tiles: bool = False
    note: str = ""


class Joint(Table):
    """What joins a tower to the stream: see `library/towers.toml`."""

    kind: str
    bias: Switch = False
    norm: bool = False
    factor: str = ""
    default: int = 1


class Towers(NamedTuple):
    """Parameters of the towers; none where they cannot be counted, zero where there is none."""

    vision: int | None
    audio: int | None


@functools.cache
def towers() -> tuple[dict[str, Tower], dict[str, Joint]]:
    """Every tower that is known, and every joint."""
    tables = tomllib.loads(TOWERS.read_text(encoding="utf-8"))
    known = {
        name: Tower.model_validate(_whole(name, tables["towers"])) for name in tables["towers"]
    }
    joints = {name: Joint.model_validate(table) for name, table in tables["joints"].items()}
    return known, joints


def _whole(name: str, tables: dict[str, Any]) -> dict[str, Any]:
    own = tables[name]
    return _whole(own["like"], tables) | own if "like" in own else own


SEVERAL = (
    "ForConditionalGeneration", "ChatModel", "UltravoxModel", "Phi4MMForCausalLM",
    "Phi4MultimodalForCausalLM", "MiniCPMV", "MiniCPMO", "MolmoForCausalLM", "OCRForCausalLM",
)  # fmt: skip
"""Ends of architectures of more than text; a file of one without a tower's table says too little to
count it."""


OTHERWISE = ("vit_config", "visual_vocab_size", "mm_vision_tower", "vision_tower", "img_processor")
"""Fields of makers' own code that say that there is a tower, and not all of what it is."""


def tower_parameters(config: dict[str, Any], name: str = "config") -> Towers:
    """Parameters of the towers of a config.json."""
    fields = Fields(config, name)
    for key in ("thinker_config",):
        fields = fields.part(key) if isinstance(fields.table.get(key), dict) else fields
    listed = config.get("architectures")
    word = str(listed[0]) if isinstance(listed, list) and listed else ""
    several = word.endswith(SEVERAL) or any(fields.has(key) for key in OTHERWISE)
    vision = _count(fields, "vision_config", word, several)
    audio = _count(fields, "audio_config", word, False)
    both = several and not vision and not audio and audio is not None and vision is not None
    return Towers(None, None) if both else Towers(vision, audio)


def _count(fields: Fields, key: str, word: str, several: bool) -> int | None:
    """Of one tower with its joint; none where a field is missing, or where the tower is not known."""
    if not isinstance(fields.table.get(key), dict):
        other = isinstance(fields.table.get("audio_config"), dict)
        return None if several and not other else 0
    known, joints = towers()
    part = fields.part(key)
    tower = known.get(str(part.table.get("model_type")))
    joint = joints.get(word)
    if tower is None or not (joint or tower.merger):
        return None
    try:
        # A part of a file is what differs from the defaults of its class.
        model = Fields(tower.defaults | part.table, part.name).renamed(tower.names)
        size = _tower(model, tower)
        return size + (_joint(fields, model, joint) if joint else 0)
    except ValueError:
        return None


def _tower(model: Fields, tower: Tower) -> int:
    hidden = model.size("hidden_size")
    layers = model.size("num_hidden_layers") * _layer(model, tower, hidden)
    norm = hidden * (2 if tower.norm_bias else 1)
    count = (
        layers
        + tower.norms * norm
        + _first(model, tower, hidden)
        + _positions(model, tower, hidden)
    )
    if model.switch(tower.head):
        count += _layer(model, tower, hidden) - norm + hidden
    count += _tiled(model, tower, hidden) if tower.tiles else 0
    return count + _merger(model, tower, hidden) + _adapter(model, tower)


def _tiled(model: Fields, tower: Tower, hidden: int) -> int:
    """Llama 3.2: gated layers over all tiles, and a table of positions for each shape of an image.

    The tables have a row for each shape in tiles and one for none: of a vector for each tile, before
    and after the first layers, and of one for each place of each tile. Each of the three has a gate, as have
    the halves of the gated layers (`modeling_mllama.py` of transformers).
    """
    layers = model.size("num_global_layers") * (_layer(model, tower, hidden) + 2)
    shapes = len(model.items("supported_aspect_ratios")) + 1
    vectors = shapes * model.size("max_num_tiles") * hidden
    return layers + 2 * vectors + vectors * _places(model, tower) + 3


def _layer(model: Fields, tower: Tower, hidden: int) -> int:
    inter = model.size(tower.ratio) * hidden if tower.ratio else model.size("intermediate_size")
    ups = 2 if tower.gated else 1
    count = 4 * hidden * hidden + (ups + 1) * hidden * inter
    count += 2 * hidden * (2 if tower.norm_bias else 1) + tower.layer_scales * hidden
    count += 2 * hidden * model.switch(tower.wide_norms)
    qkv = hidden * (3 if tower.key_bias else 2)
    count += qkv * (tower.biases or model.switch(tower.qkv_bias))
    count += hidden * (tower.biases or model.switch(tower.o_bias))
    return count + (ups * inter + hidden) * (tower.biases or model.switch(tower.mlp_bias))


def _first(model: Fields, tower: Tower, hidden: int) -> int:
    """Patches or sound to the tower's stream."""
    if tower.audio:
        mels = model.size("num_mel_bins")
        return CONVOLUTION * hidden * (mels + hidden) + 2 * hidden
    patch = _square(model, "patch_size") * model.size("num_channels", default=3)
    patch *= model.size("temporal_patch_size", default=1) if tower.temporal else 1
    return hidden * (patch + tower.patch_bias + tower.class_token)


def _square(model: Fields, key: str) -> int:
    """A side squared; some files write both sides."""
    if isinstance(model.table.get(key), list):
        sides = model.numbers(key, 2, least=1)
        return sides[0] * sides[1]
    return model.size(key) ** 2


def _positions(model: Fields, tower: Tower, hidden: int) -> int:
    if not tower.positions:
        return 0
    if tower.positions != "image":
        return model.size(tower.positions) * hidden
    return _places(model, tower) * hidden


def _places(model: Fields, tower: Tower) -> int:
    """Patches of an image, and the token of its class."""
    return _square(model, "image_size") // _square(model, "patch_size") + tower.class_token


def _merger(model: Fields, tower: Tower, hidden: int) -> int:
    """Places that are merged, through two products, to the stream; also those of some layers on the way."""
    if not tower.merger:
        return 0
    wide = hidden * model.size("spatial_merge_size", default=2) ** 2
    out = model.size("out_hidden_size")
    products = wide * wide + wide * out + wide + out
    norm = 2 if tower.norm_bias else 1
    merged = (
        len(model.numbers(tower.deepstack)) if tower.deepstack and model.has(tower.deepstack) else 0
    )
    return products + norm * hidden + merged * (products + 2 * wide)


def _adapter(model: Fields, tower: Tower) -> int:
    if not tower.adapter:
        return 0
    inner = model.size("projector_input_dim")
    return model.size("intermediate_size") * inner + inner * model.size("projector_output_dim")


def _joint(fields: Fields, model: Fields, joint: Joint) -> int:
    hidden, stream = model.size("hidden_size"), text_part(fields).size("hidden_size")
    bias = fields.switch(joint.bias)
    if joint.kind == "llama4":
        return (model.size("vision_output_dim") + bias) * stream
    if joint.kind == "voxtral":
        return model.size("intermediate_size") * stream + stream * stream
    if joint.kind == "resampler":
        fields.require(False, "drop_vision_last_layer")
        return _resampler(fields.size("query_num"), hidden, stream)
    factor = fields.size(joint.factor, default=joint.default) if joint.factor else joint.default
    wide = hidden * factor * factor
    if joint.kind in ("linear", "shuffle"):
        return (wide + bias) * stream + joint.norm * hidden
    two = (wide + bias) * stream + (stream + bias) * stream
    if joint.kind == "two":
        return two
    if joint.kind == "shuffle_two":
        return two + 2 * wide
    merge = fields.size("spatial_merge_size", default=2)
    return two + hidden + merge * merge * hidden * hidden


def _resampler(queries: int, hidden: int, stream: int) -> int:
    """Queries, the way in of keys and values, attention with biases, three norms with biases, the way out."""
    attention = 4 * (stream * stream + stream)
    return queries * stream + hidden * stream + attention + 3 * 2 * stream + stream * stream
