"""Commands of vLLM, SGLang and TensorRT-LLM that start one server, or the router before several."""

from collections.abc import Sequence

from perfmodel.interface.launch_server import Server, quantised_online
from perfmodel.library.launch_options import cache_word

HTTP_PORT = 8000
"""Of what clients talk to."""

PORT_STEP = 100
"""Between servers on a host: with attention DP SGLang takes further ports, 233 to 246 above its own
(`ZMQ_TCP_PORT_DELTA`, `DP_ATTENTION_HANDSHAKE_PORT_DELTA` and `PortArgs`, server_args.py)."""

WORKER_PORTS = {"prefill": 8100, "decode": 8150}
"""Of the first worker; the next is `PORT_STEP` above."""

RENDEZVOUS_PORT = 29501
"""On which the hosts of one server find each other: vLLM's default (`master_port`)."""

NIXL_PORTS = {"prefill": 5600, "decode": 5700}
"""On which the first data rank of the first worker agrees to transfer a KV cache: vLLM's default
(`VLLM_NIXL_SIDE_CHANNEL_PORT`), and another for decode workers on the same host."""

BOOTSTRAP_PORT = 8998
"""The same in SGLang (`disaggregation_bootstrap_port`); the next prefill worker's is `PORT_STEP` above."""


def port_of(first: int, server: str) -> str:
    """The port of a server on a host, which a shell variable counts from 0."""
    return f"$(({first} + {server} * {PORT_STEP}))"


def command(program: str, *options: str) -> list[str]:
    """The lines of a command, an option on each; empty ones are left out."""
    words = [program, *(f"  {option}" for option in options if option)]
    return [f"{line} \\" for line in words[:-1]] + words[-1:]


def given(option: str, value: str) -> str:
    """An option where it has a value."""
    return f"{option} {value}" if value else ""


def _share(server: Server) -> str:
    """The share of memory that a server is given; empty where it finds it by itself."""
    return f"{server.memory:g}" if server.memory else ""


def vllm(server: Server, port: str) -> list[str]:
    """`vllm serve`. A data rank has its own limits of sequences and tokens."""
    drafts = f'\'{{"method": "mtp", "num_speculative_tokens": {server.drafts}}}\''
    transfer = '\'{"kv_connector": "NixlConnector", "kv_role": "kv_both"}\''
    return command(
        'vllm serve "${MODEL}"',
        *("--host 0.0.0.0", f"--port {port}"),
        f"--tensor-parallel-size {server.tp}",
        f"--pipeline-parallel-size {server.pp}",
        f"--data-parallel-size {server.dp}",
        "--enable-expert-parallel" if server.ep > 1 else "",
        *_vllm_hosts(server),
        f"--max-num-seqs {server.sequences}",
        f"--max-num-batched-tokens {server.step_tokens}",
        f"--max-model-len {server.length}",
        given("--gpu-memory-utilization", _share(server)),
        *_formats(server, "vllm"),
        given("--speculative-config", drafts if server.drafts else ""),
        given("--kv-transfer-config", transfer if server.role else ""),
    )


def _vllm_hosts(server: Server) -> Sequence[str]:
    """Options of a server on several hosts: whole data ranks on each, or one model over all."""
    if server.hosts == 1:
        return ()
    if server.dp == 1 or server.tp * server.pp > server.node:
        ranks = (
            f"--nnodes {server.hosts}",
            "--node-rank ${NODE_RANK}",
            "--master-addr ${MASTER_ADDR}",
        )
        return *ranks, "${HEADLESS}"
    local = server.dp // server.hosts
    return (
        f"--data-parallel-size-local {local}",
        f"--data-parallel-start-rank $((NODE_RANK * {local}))",
        "--data-parallel-address ${MASTER_ADDR}",
        f"--data-parallel-rpc-port {RENDEZVOUS_PORT}",
        "${HEADLESS}",
    )


def _formats(server: Server, framework: str) -> Sequence[str]:
    """Options of number formats that vLLM and SGLang share."""
    return (
        given("--kv-cache-dtype", cache_word(framework, server.cache)),
        given("--quantization", quantised_online(server, framework)),
        "--dtype float16" if "fp16" in (server.weights, server.unquantised) else "",
    )


def sglang(server: Server, port: str) -> list[str]:
    """`sglang.launch_server`. Its limits are of all data ranks together, which its tensor ranks hold."""
    attention = f"--dp-size {server.dp}", "--enable-dp-attention"
    drafts = (
        "--speculative-algorithm EAGLE",
        f"--speculative-num-steps {server.drafts}",
        "--speculative-eagle-topk 1",
        f"--speculative-num-draft-tokens {server.drafts + 1}",
    )
    return command(
        "python -m sglang.launch_server",
        *('--model-path "${MODEL}"', "--host 0.0.0.0", f"--port {port}"),
        f"--tp-size {server.tp * server.dp}",
        f"--pp-size {server.pp}",
        *(attention if server.dp > 1 else ()),
        "--moe-dense-tp-size 1" if server.dp > 1 == server.tp else "",
        f"--ep-size {server.ep}",
        *_sglang_hosts(server),
        f"--max-running-requests {server.sequences * server.dp}",
        f"--chunked-prefill-size {server.step_tokens * server.dp}",
        f"--context-length {server.length}",
        given("--mem-fraction-static", _share(server)),
        *_formats(server, "sglang"),
        *(drafts if server.drafts else ()),
        given("--disaggregation-mode", server.role),
        "--disaggregation-transfer-backend nixl" if server.role else "",
        f"--disaggregation-bootstrap-port {port_of(BOOTSTRAP_PORT, 'WORKER')}"
        if server.role == "prefill"
        else "",
    )


def _sglang_hosts(server: Server) -> Sequence[str]:
    if server.hosts == 1:
        return ()
    address = f"--dist-init-addr ${{MASTER_ADDR}}:{RENDEZVOUS_PORT}"
    return f"--nnodes {server.hosts}", "--node-rank ${NODE_RANK}", address


def trtllm(server: Server, port: str) -> list[str]:
    """`trtllm-serve`, and the file that it reads. A data rank has its own limits; tensor ranks hold all."""
    slurm = (
        f"srun --nodes {server.hosts} --ntasks {server.chips} "
        f"--ntasks-per-node {server.chips // server.hosts} --mpi=pmix trtllm-llmapi-launch "
    )
    file = f"trtllm{f'-{server.role}' if server.role else ''}.yaml"
    return [
        f"cat > {file} <<'EOF'",
        *_trtllm_config(server),
        "EOF",
        *command(
            f'{slurm if server.hosts > 1 else ""}trtllm-serve "${{MODEL}}"',
            *("--host 0.0.0.0", f"--port {port}", "--backend pytorch"),
            f"--tp_size {server.tp * server.dp}",
            f"--pp_size {server.pp}",
            f"--ep_size {server.ep}",
            f"--max_batch_size {server.sequences}",
            f"--max_num_tokens {server.step_tokens}",
            f"--max_seq_len {server.length}",
            f"--config {file}",
        ),
    ]


def _trtllm_config(server: Server) -> list[str]:
    """Options of the LLM API, as YAML."""
    cache = cache_word("trtllm", server.cache)
    drafts = ["speculative_config:", "  decoding_type: MTP", f"  max_draft_len: {server.drafts}"]
    transfer = [
        *(["disable_overlap_scheduler: true"] if server.role == "prefill" else []),
        *("cache_transceiver_config:", "  backend: NIXL"),
        f"  max_tokens_in_buffer: {server.length}",
    ]
    return [
        f"enable_attention_dp: {'true' if server.dp > 1 else 'false'}",
        "enable_chunked_prefill: true",
        "kv_cache_config:",
        *([f"  dtype: {cache}"] if cache else []),
        f"  free_gpu_memory_fraction: {_share(server)}",
        *(drafts if server.drafts else []),
        *(transfer if server.role else []),
    ]


SERVERS = {"vllm": vllm, "sglang": sglang, "trtllm": trtllm}
"""The command of each framework."""


def vllm_router(prefill: Server, decode: Server) -> list[str]:
    """The proxy of vLLM's repository."""
    return command(
        'python "${VLLM_SOURCE:?a clone of vLLM}/tests/v1/kv_connector/nixl_integration/toy_proxy_server.py"',
        *("--host 0.0.0.0", f"--port {HTTP_PORT}"),
        "--prefiller-hosts ${PREFILL_HOSTS}",
        f"--prefiller-ports {_ports(prefill)}",
        "--decoder-hosts ${DECODE_HOSTS}",
        f"--decoder-ports {_ports(decode)}",
    )


def _ports(server: Server) -> str:
    first = WORKER_PORTS[server.role]
    return " ".join(str(first + worker * PORT_STEP) for worker in range(server.copies))


def sglang_router(prefill: Server, decode: Server) -> list[str]:
    """SGLang's router: of each prefill worker also the port on which caches are agreed upon."""
    return [
        "urls=() worker=0",
        "for host in ${PREFILL_HOSTS}; do",
        f'  urls+=(--prefill "http://${{host}}:{port_of(WORKER_PORTS["prefill"], "worker")}"'
        f" {port_of(BOOTSTRAP_PORT, 'worker')})",
        "  worker=$((worker + 1))",
        "done",
        "worker=0",
        "for host in ${DECODE_HOSTS}; do",
        f'  urls+=(--decode "http://${{host}}:{port_of(WORKER_PORTS["decode"], "worker")}")',
        "  worker=$((worker + 1))",
        "done",
        *command(
            "python -m sglang_router.launch_router",
            "--pd-disaggregation",
            '"${urls[@]}"',
            "--host 0.0.0.0",
            f"--port {HTTP_PORT}",
        ),
    ]


def trtllm_router(prefill: Server, decode: Server) -> list[str]:
    """`trtllm-serve disaggregated`, and the file that names its workers."""
    return [
        "{",
        f'  printf "hostname: 0.0.0.0\\nport: {HTTP_PORT}\\nbackend: pytorch\\n"',
        *_trtllm_workers("context_servers", prefill, "PREFILL_HOSTS"),
        *_trtllm_workers("generation_servers", decode, "DECODE_HOSTS"),
        "} > trtllm-disaggregated.yaml",
        "trtllm-serve disaggregated -c trtllm-disaggregated.yaml",
    ]


def _trtllm_workers(key: str, server: Server, hosts: str) -> list[str]:
    return [
        f'  printf "{key}:\\n  num_instances: {server.copies}\\n  urls:\\n"',
        f"  port={WORKER_PORTS[server.role]}",
        f"  for host in ${{{hosts}}}; do",
        '    printf "    - \\"%s:%s\\"\\n" "${host}" "${port}"',
        f"    port=$((port + {PORT_STEP}))",
        "  done",
    ]


ROUTERS = {"vllm": vllm_router, "sglang": sglang_router, "trtllm": trtllm_router}
"""What stands before prefill and decode workers."""
