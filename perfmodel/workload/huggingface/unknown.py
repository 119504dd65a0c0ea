"""An architecture that is not known, read as a form: what is assumed of it, and which form its fields
look like."""

from collections.abc import Collection

from perfmodel.workload.huggingface.architecture import Architecture, Experts, architectures
from perfmodel.workload.huggingface.fields import Fields
from perfmodel.workload.huggingface.unread import other_names

GENERIC: dict[str, Architecture] = {
    "dense": Architecture(names=other_names(), windows="all", mlp_bias="mlp_bias"),
    "mixture": Architecture(
        names=other_names(),
        windows="all",
        experts=Experts(
            inter=["moe_intermediate_size", "intermediate_size"], layers="first", shared="count"
        ),
    ),
    "latent": Architecture(form="latent"),
}
"""Forms that an architecture may be read as by name: Llama's; with experts; with DeepSeek's latent
attention."""

COMMON = [
    "a norm before attention and one before the feed-forward layer, without biases",
    "gated feed-forward layers",
    "biases in attention where attention_bias says so",
]

ASSUMED: dict[str, list[str]] = {
    "dense": COMMON,
    "mixture": [
        *COMMON,
        "experts in all layers but the first ones that first_k_dense_replace counts",
    ],
    "latent": ["latent attention and experts as DeepSeek-V3 has them"],
}

LATENT, EXPERTS = ("kv_lora_rank",), Experts().experts
STATES = (
    "mamba", "ssm", "rwkv", "conv", "linear", "lru", "recurrent", "hybrid", "delta", "ut_steps", "loop",
    "encoder", "decoder", "t5", "ouro", "bert",
)  # fmt: skip
"""Words in the names of fields, or of an architecture, that none of the forms reads."""

SIZES = ("hidden_size", "num_hidden_layers", "num_attention_heads", "vocab_size")


def suggested(text: Fields, name: str) -> str:
    """The form that the fields of a file, and the name of its architecture, look like; empty where it is none
    of those that can be named."""
    names = {other_names().get(key, key) for key, value in text.table.items() if value}
    strange = any(_in(word, {*names, name.lower()}) for word in STATES)
    if not names >= set(SIZES) or strange:
        return ""
    if names & set(LATENT):
        return "latent"
    return "mixture" if names & set(EXPERTS) else "dense"


def _in(word: str, names: Collection[str]) -> bool:
    return any(word in name for name in names)


def generic(config: Fields, text: Fields, name: str, form: str) -> tuple[Architecture, list[str]]:
    """How to read an architecture as a form of `GENERIC`, or as a known one; and what that assumes.

    **Raises:**

    - `ValueError`: for a form that there is not.
    """
    if form == "mixture" and not any(text.has(key) for key in EXPERTS):
        raise config.fault(
            f"--as is mixture, but there is none of {', '.join(EXPERTS)}; give another form"
        )
    if form in GENERIC:
        said = [f"read as {form}: {', '.join(ASSUMED[form])}"]
        return GENERIC[form], said
    if form in architectures():
        return architectures()[form], [f"read as {form}"]
    raise config.fault(
        f"--as is {form[:40]!r}; allowed are {', '.join(GENERIC)}, or a known architecture such as "
        f"LlamaForCausalLM"
    )
