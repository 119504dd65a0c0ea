"""Columns of the serving schema as people read of them: what each means, with an example.

Nothing is imported here, so that help is instant.
"""

from typing import NamedTuple


class ServingColumn(NamedTuple):
    """A column that `predict serving` reads.

    - `panel`: the part of the help in which it stands.
    - `meaning`: in a few words.
    - `example`: a cell; a column whose example is a number holds numbers.
    """

    panel: str
    meaning: str
    example: str


def _columns(panel: str, *columns: tuple[str, str, str]) -> dict[str, ServingColumn]:
    return {name: ServingColumn(panel, *words) for name, *words in columns}


def _of_pool(pool: str, chips: str) -> dict[str, ServingColumn]:
    return _columns(
        "Pools: mode disaggregated",
        (f"{pool}_chip", f"chip of the workers for {chips}", "h100-sxm"),
        (f"{pool}_workers", f"workers for {chips}", "2"),
        (f"{pool}_tp", "tensor ranks of each", "4"),
        (f"{pool}_pp", "pipeline stages of each", "1"),
        (f"{pool}_ep", "expert ranks of each", "8"),
        (f"{pool}_dp", "data ranks of each", "1"),
    )


SERVING_COLUMNS: dict[str, ServingColumn] = (
    _columns(
        "Chips and model",
        ("chip", "name of a chip, or its file", "h100-sxm"),
        ("n_chips", "chips in all", "8"),
        ("model", "name of a model", "llama-3.3-70b"),
        ("precision", "format of the weights; the model's own if not given", "fp8"),
        ("kv_precision", "format of the KV cache", "fp8"),
        ("framework", "software that serves; none is the best known schedule", "vllm"),
        ("framework_version", "a measured release of it; the newest if not given", "0.19.0"),
        ("tp", "tensor ranks", "8"),
        ("pp", "pipeline stages", "1"),
        ("ep", "expert ranks", "8"),
        ("dp", "data ranks of attention", "1"),
        ("replicas", "copies of the model, each with users of its own", "2"),
    )
    | _columns(
        "Traffic",
        ("mode", "serving, offline, static_batch, single_stream, disaggregated", "serving"),
        ("isl", "tokens of a prompt", "8192"),
        ("osl", "tokens of an answer", "1024"),
        ("concurrency", "users with one request open each", "64"),
        ("requests_per_s", "requests that come at a rate, in place of users", "2.5"),
        ("length_ratio", "mean over nominal length", "0.9"),
        ("length_spread", "half of the range of lengths over their mean; 0: all equal", "0.1"),
        ("requests_per_user", "requests one after the other of each user", "10"),
        ("burst", "whether all users begin at once", "true"),
        ("prefix_tokens", "tokens of a prompt that are in the cache", "2048"),
        ("max_num_batched_tokens", "tokens of a step, at most", "8192"),
        ("read_interval", "decode steps from one reading of requests to the next", "30"),
        ("max_num_seqs", "sequences at once on each data rank, at most; others wait", "256"),
        (
            "memory_fraction",
            "share of memory that the server may use; its default if not given",
            "0.9",
        ),
        ("speculative_tokens", "tokens guessed in a step", "3"),
        ("acceptance", "share of guesses that hold", "0.85"),
    )
    | _columns(
        "Cost",
        ("usd_per_chip_hour", "a quote, in place of all other costs", "2.5"),
        ("cost_basis", "owner, rental, marginal or quote; owner if not given", "rental"),
    )
    | _of_pool("prefill", "prompts")
    | _of_pool("decode", "decode steps")
    | _columns(
        "Attention and feed-forward layers on different chips",
        ("ffn_chip", "chip of the feed-forward layers", "h200-sxm"),
        ("ffn_tp", "their tensor ranks", "8"),
        ("ffn_pp", "their pipeline stages", "1"),
        ("ffn_ep", "their expert ranks", "8"),
        ("ffn_dp", "their data ranks", "1"),
        ("link_gb_per_s", "GB/s of a chip between them", "50"),
        ("link_us", "us of a message between them", "5"),
    )
    | _columns(
        "A cache that does not fit in SRAM",
        ("kv_overflow", "chips, edge or pool", "pool"),
        ("kv_pool_chip", "chip whose memory holds it", "h100-sxm"),
        ("kv_pool_chips", "how many of them", "8"),
    )
    | _columns(
        "A large model that goes on",
        ("large_model", "its name", "llama-3.1-405b"),
        ("large_share", "share of an answer that it writes", "0.3"),
        ("large_chip", "its chip; that of the small model if not given", "h200-sxm"),
        ("large_n_chips", "its chips", "8"),
        ("large_precision", "format of its weights", "fp8"),
        ("large_kv_precision", "format of its KV cache", "fp8"),
        ("large_framework", "software that serves it", "vllm"),
        ("large_tp", "its tensor ranks", "8"),
        ("large_pp", "its pipeline stages", "1"),
        ("large_ep", "its expert ranks", "1"),
        ("large_dp", "its data ranks", "1"),
    )
)
"""By name, in the order in which help lists them."""


def holds_numbers(name: str) -> bool:
    """Whether a column that is read holds numbers."""
    example = SERVING_COLUMNS[name].example
    return example.replace(".", "", 1).isdigit()


TRAFFIC = ("isl", "osl", "concurrency", "requests_per_s", "length_ratio")
"""Columns of requests that are simulated, where no trace is given."""
