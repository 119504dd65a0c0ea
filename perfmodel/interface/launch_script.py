"""Shell scripts that start servers as a row of the serving schema describes them.

The options are those of `perfmodel/library/launch_options.toml`, each documented. A row whose framework or
chip has no known command gets a script that says so.
"""

from collections.abc import Sequence

from perfmodel.inference.framework_support import serving_frameworks
from perfmodel.inference.pools import CHIP_COLUMNS, POOLS
from perfmodel.inference.serving_row import DISAGGREGATED, mode_of
from perfmodel.interface.launch_commands import (
    HTTP_PORT,
    NIXL_PORTS,
    ROUTERS,
    SERVERS,
    WORKER_PORTS,
    port_of,
)
from perfmodel.interface.launch_server import (
    MAX_STEP_TOKENS,
    Row,
    Server,
    framework_of_row,
    model_line,
    quantised_online,
    server_of,
    word,
)
from perfmodel.library.chip import chip_file
from perfmodel.library.framework import find_version, framework_files
from perfmodel.library.launch_options import FOLLOWS_CHECKPOINT, cache_word, launch_options
from perfmodel.workload.plan import REPLICA_RANKS


def launch_name(row: Row) -> str:
    """A name for the file of a row's script; its `rank`, where the row has one, stands first."""
    chips = dict.fromkeys(chip_file(chip)[0] for name in CHIP_COLUMNS if (chip := word(row, name)))
    rank = word(row, "rank")
    parts = (
        *((f"{int(float(rank)):02d}",) if rank else ()),
        framework_of_row(row) or "none",
        *(stem.split("/")[-1].removesuffix(".toml") for stem in chips),
        *((DISAGGREGATED,) if mode_of(word(row, "mode")) == DISAGGREGATED else ()),
    )
    return "-".join(parts) + ".sh"


def launch_script(row: Row) -> str:
    """A shell script that starts the servers of a row.

    **Raises:**

    - `InputError`: for a chip, a model or a format that is not known.
    """
    reason = _unknown(row)
    if reason:
        lines = [f"# {reason}", *_ranks(row), "exit 1"]
    elif mode_of(word(row, "mode")) == DISAGGREGATED:
        lines = _disaggregated(row, framework_of_row(row))
    else:
        lines = _together(row, framework_of_row(row))
    return "\n".join(("#!/usr/bin/env bash", *_title(row), *lines)) + "\n"


def _unknown(row: Row) -> str:
    """Why no command is known that would start what a row describes; empty where one is."""
    if word(row, "ffn_chip"):
        return (
            "No framework here has options that put attention and feed-forward on different chips."
        )
    framework = framework_of_row(row)
    if not framework:
        named = word(row, "framework")
        return f"No command of {named} is known here." if named else "The row names no framework."
    for name in CHIP_COLUMNS:
        chip = word(row, name)
        if chip and framework not in serving_frameworks(chip_file(chip)[1].architecture):
            return f"{framework_files()[framework].name} does not run on {chip}."
    return ""


def _title(row: Row) -> list[str]:
    """What a script starts, in comments."""
    names = ("model", "precision", "kv_precision", *CHIP_COLUMNS, "n_chips")
    load = ("isl", "osl", "concurrency", "speculative_tokens")
    return [*_said(row, names), *_said(row, load)]


def _said(row: Row, names: Sequence[str]) -> list[str]:
    """Cells of a row that are there, as one comment."""
    cells = [f"{name} {value}" for name in names if (value := word(row, name))]
    return [f"# {', '.join(cells)}."] if cells else []


def _ranks(row: Row) -> list[str]:
    """How a row spreads the model, where no command says it."""
    sides = ("", *(f"{side}_" for side in (*POOLS, "ffn")))
    return [
        line
        for side in sides
        for line in _said(row, [f"{side}{name}" for name in ("workers", *REPLICA_RANKS)])
    ] + _said(row, ["replicas"])


def _together(row: Row, framework: str) -> list[str]:
    """The script of servers that do everything."""
    server = server_of(row)
    begin = [*_begin(framework), *_weights(server, framework)]
    if server.copies == 1:
        return [*begin, *_hosts(server, framework), *SERVERS[framework](server, str(HTTP_PORT))]
    return [*begin, *_copies(server, framework), *_balancer(server, framework)]


def _begin(framework: str) -> list[str]:
    """What every script with a command begins with."""
    return [f"# Options as documented for {launch_options().documented[framework]}.", "set -eu"]


def _weights(server: Server, framework: str) -> list[str]:
    """Which weights a server loads, and what to know of its options."""
    return [model_line(server, framework), *_notes(server, framework)]


def _notes(server: Server, framework: str) -> list[str]:
    """What a reader should know of the options, as comments."""
    cut = server.role != "decode" and server.prompt > MAX_STEP_TOKENS
    plugin = find_version(framework).platforms[server.architecture].note
    made = quantised_online(server, framework)
    notes = (
        f"{framework_files()[framework].name} on this chip: {plugin}." if plugin else "",
        f"Weights are quantised to {server.weights} as they are loaded." if made else "",
        f"Prompts are cut into pieces of at most {MAX_STEP_TOKENS} tokens." if cut else "",
        "Tokens are drafted by layers of the model itself (MTP)." if server.drafts else "",
        _cache_note(server, framework),
    )
    return [f"# {note}" for note in notes if note]


def _cache_note(server: Server, framework: str) -> str:
    """What the option for the KV cache leaves open."""
    found = cache_word(framework, server.cache)
    if not found:
        return f"No option is known for a KV cache in {server.cache}."
    if found != FOLLOWS_CHECKPOINT or server.weights in ("bf16", "fp16"):
        return ""
    return (
        f"The prediction is for a KV cache in {server.cache}, for which there is no option: {found} takes "
        "the format that the checkpoint says (kv_cache_quant_algo), or the model's where it says none."
    )


def _hosts(server: Server, framework: str) -> list[str]:
    """Variables of a server on several hosts, on each of which the script is run."""
    if server.hosts == 1 or framework == "trtllm":
        return []
    last = server.hosts - 1
    return [
        f"# {server.chips} chips on {server.hosts} hosts of {server.node}: run this on each of them.",
        f'NODE_RANK="${{NODE_RANK:?0 on the first host, up to {last} on the others}}"',
        'MASTER_ADDR="${MASTER_ADDR:?address of the first host}"',
        *(
            ['HEADLESS=""', 'if [ "${NODE_RANK}" -gt 0 ]; then HEADLESS="--headless"; fi']
            if framework == "vllm"
            else []
        ),
    ]


def _copies(server: Server, framework: str) -> list[str]:
    """Independent copies of a server: several on a host, or each on hosts of its own."""
    if server.hosts > 1:
        said = f"# {server.copies} copies, each on hosts of its own: run this once for each."
        return [said, *_hosts(server, framework), *SERVERS[framework](server, str(HTTP_PORT))]
    here = min(server.copies, server.node // server.chips)
    first, last = f"copy * {server.chips}", f"copy * {server.chips} + {server.chips - 1}"
    visible = (
        "HIP_VISIBLE_DEVICES" if server.architecture.startswith("cdna") else "CUDA_VISIBLE_DEVICES"
    )
    return [
        f"# {server.copies} copies of {server.chips} chips, {here} on a host of {server.node}: run this on "
        "each host.",
        f"for copy in $(seq 0 {here - 1}); do",
        f'export {visible}="$(seq -s, $(({first})) $(({last})))"',
        *_in_background(SERVERS[framework](server, port_of(HTTP_PORT, "copy"))),
        "done",
    ]


def _in_background(lines: list[str]) -> list[str]:
    return [*lines[:-1], f"{lines[-1]} &"]


def _balancer(server: Server, framework: str) -> list[str]:
    """What stands before the copies."""
    router = f"python -m sglang_router.launch_router --worker-urls http://HOST:{HTTP_PORT} ..."
    before = (
        f"SGLang's router: {router}" if framework == "sglang" else "a load balancer of your own"
    )
    return [
        *(["wait"] if server.hosts == 1 else []),
        f"# Before the {server.copies} copies stands {before}",
    ]


def _disaggregated(row: Row, framework: str) -> list[str]:
    """The script of prefill and decode workers, and of the router before them."""
    prefill, decode = (server_of(row, pool) for pool in POOLS)
    return [
        *_begin(framework),
        f"# ROLE=prefill for each of {prefill.copies} workers, ROLE=decode for each of {decode.copies}, and "
        "ROLE=router once;",
        "# WORKER counts those of a role from 0. Where workers share a host, set its visible devices.",
        'WORKER="${WORKER:-0}"',
        *(line for server in (prefill, decode) for line in _host_names(server)),
        'case "${ROLE:?prefill, decode or router}" in',
        *_role(prefill, framework),
        *_role(decode, framework),
        "router)",
        *ROUTERS[framework](prefill, decode),
        ";;",
        "esac",
    ]


def _host_names(server: Server) -> list[str]:
    """Names of the first host of each worker, which the router calls."""
    names = " ".join(f"{server.role}-{worker}" for worker in range(server.copies))
    variable = f"{server.role.upper()}_HOSTS"
    return [f'{variable}="${{{variable}:-{names}}}"']


def _role(server: Server, framework: str) -> list[str]:
    port = port_of(WORKER_PORTS[server.role], "WORKER")
    nixl = f"$(({NIXL_PORTS[server.role]} + WORKER * {server.dp}))"
    channel = [
        'export VLLM_NIXL_SIDE_CHANNEL_HOST="$(hostname -i)"',
        f"export VLLM_NIXL_SIDE_CHANNEL_PORT={nixl}",
    ]
    return [
        f"{server.role})",
        *_weights(server, framework),
        *_hosts(server, framework),
        *(channel if framework == "vllm" else []),
        *SERVERS[framework](server, port),
        ";;",
    ]
