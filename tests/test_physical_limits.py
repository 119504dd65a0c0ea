"""No prediction of a service beats its chip: bytes over peak bandwidth, FLOPs over peak rate.

Weights, cache and FLOPs are counted here from the sizes in a model's configuration, not by the program.
"""

from pathlib import Path
from typing import NamedTuple

import pytest
from command import predict

from perfmodel.errors import InputError
from perfmodel.hardware.chip import Chip
from perfmodel.inference.evaluate import ResolvedRow, evaluate_rows, resolve_row
from perfmodel.inference.service import running_sequences
from perfmodel.inference.step import costs, decode_pass, prompt_pass
from perfmodel.library.chip import chip_files, load_chip
from perfmodel.library.fitted import FITTED
from perfmodel.library.framework import frameworks
from perfmodel.units import as_scalar

ROUNDING = 1e-4
"""Relative: some thousand steps of float32's last digit, over hundreds of kernels."""

BYTES = {"bf16": 2.0, "fp8": 1.0, "int8": 1.0, "int4": 0.5 + 2 / 128, "nvfp4": 0.5 + 1 / 16}
"""Bytes of a weight, scales included."""

CONTEXT = 2048
"""Tokens of a prompt, and of each cache."""


class Sizes(NamedTuple):
    """A model as its `config.json` describes it; `attention`: numbers of a layer's projections.

    - `pair`: numbers that a query head multiplies with one token; `cached`: of one token and layer.
    - `dense`: layers with a feed-forward part of `inter`; the others have `experts`, of which a token
      goes to `active` and to `shared` more.
    """

    layers: int
    hidden: int
    vocabulary: int
    attention: int
    heads: int
    pair: int
    cached: int
    dense: int
    inter: int
    expert: int = 0
    experts: int = 0
    active: int = 0
    shared: int = 0

    def touched(self, tokens: int) -> float:
        """Experts that any of so many tokens goes to, where each is as likely."""
        return self.experts * (1 - (1 - self.active / max(self.experts, 1)) ** tokens)

    def weights(self, experts: float) -> float:
        """Numbers of the layers, with so many routed experts in each that has them."""
        routed = (self.layers - self.dense) * (experts + self.shared) * self.expert
        matrices = 3 * self.hidden * (self.dense * self.inter + routed)
        return self.layers * self.attention + matrices

    def step_bytes(self, users: int, width: float) -> float:
        """Bytes of weights of `width` each that a decode step reads, of the head and of the cache in bf16."""
        cache = users * CONTEXT * self.layers * self.cached
        head = self.hidden * self.vocabulary
        return width * self.weights(self.touched(users)) + 2 * (head + cache)

    def step_flops(self, users: int) -> float:
        """FLOPs of a decode step."""
        product = self.weights(self.active) + self.hidden * self.vocabulary
        return 2 * users * (product + CONTEXT * self.layers * self.heads * self.pair)

    def prompt_flops(self) -> float:
        """FLOPs of one prompt, each of whose tokens sees those before it; without the head."""
        pairs = CONTEXT * (CONTEXT + 1) / 2
        product = CONTEXT * self.weights(self.active)
        return 2 * (product + pairs * self.layers * self.heads * self.pair)


def _grouped(hidden: int, heads: int, kv_heads: int, head: int) -> int:
    return hidden * head * (2 * heads + 2 * kv_heads)


_LATENT = 7168 * (1536 + 576 + 128 * 128) + 1536 * 128 * 192 + 512 * 128 * 256

MODELS = {
    "llama-3.1-8b": Sizes(
        32, 4096, 128_256, _grouped(4096, 32, 8, 128), 32, 256, 2 * 8 * 128, 32, 14_336
    ),
    "llama-3.1-70b": Sizes(
        80, 8192, 128_256, _grouped(8192, 64, 8, 128), 64, 256, 2 * 8 * 128, 80, 28_672
    ),
    "qwen3-30b-a3b": Sizes(
        *(48, 2048, 151_936, _grouped(2048, 32, 4, 128), 32, 256, 2 * 4 * 128, 0, 0),
        *(768, 128, 8),
    ),
    "deepseek-v3": Sizes(
        61, 7168, 129_280, _LATENT, 128, 192 + 128, 576, 3, 18_432, 2048, 256, 8, 1
    ),
}

USERS = (1, 256)


def bandwidth(chip: Chip) -> float:
    """Peak of all memories together that may hold weights and cache: no placement reads faster."""
    return sum(float(tier.bandwidth) for tier in chip.tiers if float(tier.usable_capacity) > 0)


def cases(model: str, precision: str, framework: str, chips: list[str]) -> list[ResolvedRow]:
    """One chip alone, with each number of users; chips without the format are left out."""
    found = []
    for chip in chips:
        for users in USERS:
            cells = {"chip": chip, "model": model, "precision": precision, "framework": framework}
            cells |= {"isl": str(CONTEXT), "osl": "64", "concurrency": str(users), "n_chips": "1"}
            try:
                found.append(resolve_row(len(found), cells, FITTED))
            except InputError as refused:
                assert str(refused)
    return found


def _times(chip, plan, model, request):
    """Seconds of a decode step of all users, and of one prompt."""
    one, length = as_scalar(1.0), request.isl
    passes = [
        decode_pass(chip, plan, model, request.concurrency, length),
        prompt_pass(chip, plan, model, one, length, length),
    ]
    return [cost.time for cost in costs(chip, plan, model, passes)]


def beaten(model: str, precision: str, framework: str, chips: list[str]) -> list[str]:
    """What is predicted faster than the chip can do it: chip, users, what, and by how much."""
    forms: dict = {}
    for case in cases(model, precision, framework, chips):
        forms.setdefault(case.form, []).append(case)
    wrong = []
    for alike in forms.values():
        steps, prompts = evaluate_rows(_times, [(case, case.candidates[0]) for case in alike])
        for case, step, prompt in zip(alike, steps, prompts, strict=True):
            wrong += _faster(case, MODELS[model], BYTES[precision], float(step), float(prompt))
    return wrong


def _faster(case: ResolvedRow, sizes: Sizes, width: float, step: float, prompt: float) -> list[str]:
    chip, users = case.deployment.chip, int(case.request.concurrency)
    peak = max(float(rate) for rate in chip.matrix.values())
    least = {
        "step, memory": (step, sizes.step_bytes(users, width) / bandwidth(chip)),
        "step, products": (step, sizes.step_flops(users) / peak),
        "prompt, products": (prompt, sizes.prompt_flops() / peak),
    }
    return [
        f"{case.deployment.stem}, {users} users, {what}: {time:.3g} s, but at least {floor:.3g} s"
        for what, (time, floor) in least.items()
        if not time >= floor * (1 - ROUNDING)
    ]


SAMPLE = ["h100-sxm", "b200-sxm", "tpu-v6e", "m3-ultra", "trainium2", "lpu-v1", "wse-3"]


@pytest.mark.long
@pytest.mark.parametrize(("model", "framework"), [("llama-3.1-8b", ""), ("llama-3.1-8b", "vllm")])
def test_no_service_beats_its_chip(model: str, framework: str):
    chips = SAMPLE if not framework else ["h100-sxm"]
    assert beaten(model, "bf16", framework, chips) == []


@pytest.mark.slow
@pytest.mark.parametrize("framework", ["", "vllm", "sglang", "trtllm"])
@pytest.mark.parametrize("precision", list(BYTES))
@pytest.mark.parametrize("model", list(MODELS))
def test_no_service_of_any_chip_beats_it(model: str, precision: str, framework: str):
    assert framework in ("", *frameworks())
    assert beaten(model, precision, framework, list(chip_files())) == []


CHIPS = sorted(set(chip_files()))

KERNELS: dict[str, tuple[dict[str, float], float, float]] = {
    "gemm": ({"m": 16, "n": 4096, "k": 4096}, 2 * 4096**2, 2 * 16 * 4096**2),
    "attention_decode": (
        {"batch": 64, "ctx_len": 1536, "heads": 32, "kv_heads": 8, "head_dim": 128},
        *(64 * 1536 * 8 * 256 * 2, 64 * 1536 * 32 * 256 * 2),
    ),
    "attention_prefill": (
        {"batch": 2, "q_len": 2048, "heads": 32, "kv_heads": 8, "head_dim": 128},
        *(0, 2 * 32 * 2048 * 2049 / 2 * 256 * 2),
    ),
    "mla_decode": (
        {"batch": 64, "ctx_len": 1536, "heads": 16},
        *(64 * 1536 * 576 * 2, 64 * 1536 * 16 * (576 + 512) * 2),
    ),
    "moe": (
        {"tokens": 256, "hidden": 2048, "inter": 768, "topk": 8, "experts": 128},
        *(128 * 3 * 2048 * 768 * 2, 256 * 8 * 3 * 2048 * 768 * 2),
    ),
    "linear_attention": (
        {"batch": 64, "heads": 32, "head_dim": 128},
        *(2 * 64 * 32 * 128 * 128 * 4, 0),
    ),
    "sparse_attention": (
        {"batch": 64, "ctx_len": 8192, "heads": 16},
        *(64 * (2048 * 576 * 2 + 8192 * 128), 64 * 2048 * 16 * (576 + 512) * 2),
    ),
}
"""For each operation its sizes, and the bytes and FLOPs in bf16 that it cannot do without."""


def slow_enough(row: dict[str, str]) -> bool:
    """Whether a row takes as long as its bytes and its FLOPs need at the peaks of its chip."""
    chip, (_, size, flops) = load_chip(row["chip"]), KERNELS[row["op"]]
    least = max(size / bandwidth(chip), flops / float(chip.matrix["bf16"]))
    return float(row["predicted_us"]) * 1e-6 >= least * (1 - ROUNDING)


@pytest.mark.slow
@pytest.mark.parametrize("framework", ["", "vllm", "sglang", "trtllm"])
def test_no_kernel_in_service_beats_its_chip(framework: str, tmp_path: Path):
    rows = [
        {"op": op, "chip": chip, "dtype": "bf16", "framework": framework} | sizes
        for op, (sizes, _, _) in KERNELS.items()
        for chip in CHIPS
        if "bf16" in chip_files()[chip].matrix
    ]
    found = predict("kernels", tmp_path, rows, "--cold")
    assert [row["error"] for row in found if row["error"]] == []
    assert [(row["chip"], row["op"]) for row in found if not slow_enough(row)] == []


def test_a_benchmark_on_a_scratchpad_reads_its_operands_from_main_memory_each_time(tmp_path: Path):
    """33.6 MB of weights fit the 128 MiB of VMEM, but every call of a kernel fills it anew."""
    row = {"op": "gemm", "dtype": "bf16"} | KERNELS["gemm"][0]
    found = predict(
        "kernels", tmp_path, [row | {"chip": chip} for chip in ("tpu-v5e", "trainium2")]
    )
    assert all(map(slow_enough, found))


def _step(chip: str, precision: str, users: int, framework: str = "") -> tuple[float, float]:
    """Seconds of a decode step of Llama-3.1-8B over 1,536 tokens, and how many of the users run."""
    cells = {"chip": chip, "model": "llama-3.1-8b", "precision": precision, "framework": framework}
    cells |= {"isl": "1024", "osl": "1024", "concurrency": str(users), "n_chips": "1"}
    case = resolve_row(0, cells, FITTED)
    step, running = evaluate_rows(_running, [(case, case.candidates[0])])
    return float(step[0]), float(running[0])


def _running(chip, plan, model, request):
    """Seconds of a decode step in the middle of the outputs, and the sequences of it."""
    running = running_sequences(chip, plan, model, request)
    middle = request.isl + request.osl / 2
    step = costs(chip, plan, model, [decode_pass(chip, plan, model, running, middle)])[0]
    return step.time, running


@pytest.mark.parametrize("framework", ["", "vllm"])
def test_one_large_core_takes_one_cache_after_the_other_without_a_pause(framework: str):
    """Of 167 users 57 have room on a TPU v6e: 15.0 GB of weights and 11.5 of cache at 1,638 GB/s, 16.1 ms."""
    step, running = _step("tpu-v6e", "bf16", 167, framework)
    assert 50 < running < 80
    assert 12e-3 < step < 25e-3


@pytest.mark.long
def test_chips_without_matrix_units_multiply_one_row_as_one_row():
    """Llama-3.1-8B in 4 bits on an M3 Ultra: 119 tokens/s, 8.4 ms, are measured."""
    step, _ = _step("m3-ultra", "int4", 1)
    assert 7e-3 < step < 10e-3
