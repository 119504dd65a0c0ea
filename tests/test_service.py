"""A closed loop: prompts among decode steps, room, bursts, speculation."""

import dataclasses
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.stats import poisson

from perfmodel.calibration import serving as hosts
from perfmodel.calibration.baselines.roofline import roofline_tpot
from perfmodel.calibration.serving import ClosedLoop, RunGroup, fastest_host
from perfmodel.errors import InputError
from perfmodel.hardware.parameters import HostEfficiency, parameters
from perfmodel.inference.closed_loop import Steps, closed_loop
from perfmodel.inference.deployment import resolve_deployment
from perfmodel.inference.evaluate import evaluate_rows, resolve_row
from perfmodel.inference.placement import place
from perfmodel.inference.pools import resolve_disaggregated
from perfmodel.inference.service import (
    Halves,
    Service,
    estimate_interference,
    rank_share,
    running_sequences,
    serve,
    stage_busy_time,
)
from perfmodel.inference.serving_predictions import predict_cells
from perfmodel.inference.step import decode_pass, prompt_pass
from perfmodel.kernels.collective import collective
from perfmodel.library.chip import load_chip
from perfmodel.library.files import stems
from perfmodel.library.fitted import FAMILIES, FITTED
from perfmodel.library.framework import framework_files
from perfmodel.library.model import load_model
from perfmodel.roofline import price
from perfmodel.units import as_scalar
from perfmodel.workload.attention import Recurrent
from perfmodel.workload.model import traced
from perfmodel.workload.plan import Plan
from perfmodel.workload.request import MAX_SPECULATIVE_TOKENS, Request, static_batch

HOST = HostEfficiency(*map(as_scalar, (0.0, 0.0, 0.0, 0.0, 0.05, 0.0, 1.5, 0.02)))
STEPS = Steps(*map(as_scalar, (16.0, 0.01, 0.2, 0.15, 0.15)))
USERS = Request(*map(as_scalar, (16.0, 1000.0, 500.0, 1.0)), requests_per_user=as_scalar(10.0))


def test_times_of_a_closed_loop_are_those_worked_by_hand():
    waits = closed_loop(STEPS, HOST, USERS)
    tpot = 0.01 + 0.15 * 15 / 500
    alone = 0.05 + 0.2 + 15 / 16 * tpot / 2
    assert float(waits.tpot) == pytest.approx(tpot)
    assert float(waits.ttft) == pytest.approx(alone + 1.5 * 0.15 * 15 / 2 / 10)
    assert float(waits.total) == pytest.approx(alone + 499 * tpot)


@pytest.mark.parametrize(
    ("framework", "mixed", "added"), [(None, 0.05, 0.01), (None, 0.005, 0.0), ("sglang", 0.05, 0.1)]
)
def test_a_prompt_makes_a_step_longer_as_worked_by_hand(
    framework: str | None, mixed: float, added: float
):
    # Four data ranks take prompts together: (50 - 10) / 4 ms; SGLang gives one 400 / 4 ms of its own.
    plan = Plan(dp=4.0, framework=framework)
    step, loaded = _halves(0.01), _halves(mixed)
    for found in estimate_interference(plan, step, loaded, as_scalar(0.4), as_scalar(0.5)):
        assert float(found) == pytest.approx(added)


def _halves(own: float, shared: float = 0.0) -> Halves:
    return Halves(as_scalar(own), as_scalar(shared))


def test_ranks_that_schedule_apart_wait_for_the_one_that_has_a_prompt():
    # A prompt takes 400 ms of its rank and, with three others, 40 ms of the experts of all. One prompt
    # in a step of twenty: all wait for it, and it alone brings tokens to the experts.
    plan = Plan(dp=4.0, framework="vllm")
    step, mixed = _halves(0.01, 0.01), _halves(0.41, 0.05)
    rare, burst = estimate_interference(plan, step, mixed, as_scalar(0.4), as_scalar(1e-5))
    assert float(rare) == pytest.approx(0.4 + 0.04 / 4, rel=1e-4)
    assert float(burst) == pytest.approx(0.44 / 4)
    # Many prompts in each step: each rank has its own.
    many, _ = estimate_interference(plan, step, mixed, as_scalar(0.4), as_scalar(1e5))
    assert float(many) == pytest.approx(0.44 / 4, rel=1e-4)
    # Without experts nothing makes ranks wait for each other.
    alone, _ = estimate_interference(plan, _halves(0.01), _halves(0.41), rare, as_scalar(1e-5))
    assert float(alone) == pytest.approx(0.4 / 4)


@pytest.mark.parametrize("rate", [0.1, 0.5, 2.0])
def test_a_step_waits_for_the_rank_with_the_most_prompts(rate: float):
    # The mean of the largest of eight Poisson numbers, over the prompts of a step.
    most = np.sum(1 - poisson.cdf(np.arange(60), rate / 8) ** 8) / rate
    assert float(rank_share(as_scalar(rate), as_scalar(8.0))) == pytest.approx(most, rel=0.07)


def test_the_wait_for_other_ranks_has_a_gradient_where_no_prompts_come():
    assert float(jax.grad(rank_share)(as_scalar(0.0), as_scalar(8.0))) == 0.0
    slope = jax.grad(rank_share)(as_scalar(0.5), as_scalar(8.0))
    at = [float(rank_share(as_scalar(x), as_scalar(8.0))) for x in (0.49, 0.51)]
    assert float(slope) == pytest.approx((at[1] - at[0]) / 0.02, rel=1e-2)


def test_prompts_keep_each_stage_of_a_pipeline_busy_for_their_own_time_there():
    # Three parts through four stages of 10 ms: one takes 40 ms, the last waits for 2 x 10, 60 ms in
    # all (1 + 2/4 times 40); each stage works for 3 x 10.
    one = prompt_pass(CHIP, Plan(pp=4.0), MODEL, as_scalar(3.0), ONE, ONE)
    assert float(one.parts) == 3.0 and float(one.waits) == 0.5
    assert float(stage_busy_time(one, as_scalar(0.06))) == pytest.approx(0.03)


def test_requests_without_room_wait_as_little_s_law_has_it():
    crowd = dataclasses.replace(USERS, concurrency=as_scalar(48.0))
    waits, roomy = closed_loop(STEPS, HOST, crowd), closed_loop(STEPS, HOST, USERS)
    assert float(waits.tpot) == pytest.approx(float(roomy.tpot))
    # Two thirds wait while others keep their room, from the prompt to the last token.
    held = 0.2 + (15 / 16 / 2 + 499) * float(waits.tpot)
    assert float(waits.ttft - roomy.ttft) == pytest.approx(2 * held)
    assert float(waits.total) == pytest.approx(0.05 + 3 * held)


def test_a_static_batch_has_no_prompts_among_its_steps():
    waits = closed_loop(STEPS, HOST, static_batch(16.0, 1000.0, 500.0))
    assert float(waits.tpot) == pytest.approx(0.01)
    assert float(waits.ttft) == pytest.approx(0.25)


def test_a_static_batch_without_room_runs_in_waves():
    """40 sequences with room for 16: 16, 16 and 8, which wait for none, one and two waves."""
    waits = closed_loop(STEPS, HOST, static_batch(40.0, 1000.0, 500.0))
    wave = 0.2 + 499 * 0.01
    assert float(waits.total) == pytest.approx(0.05 + 3 * wave)
    assert float(waits.ttft) == pytest.approx(0.25 + (16 * 1 + 8 * 2) / 40 * wave)


@pytest.mark.parametrize(
    ("drafted", "acceptance", "tokens"),
    [
        (0, 0.9, 1.0),
        (1, 0.85, 1.85),
        (3, 0.5, 1.875),
        (3, 1.0, 4.0),
        (MAX_SPECULATIVE_TOKENS, 0.0, 1.0),
    ],
)
def test_tokens_of_a_step_are_a_geometric_series(drafted: int, acceptance: float, tokens: float):
    request = dataclasses.replace(
        USERS, speculative_tokens=as_scalar(drafted), acceptance=as_scalar(acceptance)
    )
    assert float(request.tokens_per_step) == pytest.approx(tokens)


MODEL = traced(load_model("llama-3.2-1b"))
CHIP, PLAN = load_chip("h100-sxm"), Plan()


@jax.jit
def _served(request: Request) -> Service:
    return serve(CHIP, PLAN, MODEL, request)


@pytest.mark.long
def test_more_users_make_tokens_slower_and_the_machine_faster():
    users = [1.0, 4.0, 16.0, 64.0]
    found = [_served(dataclasses.replace(USERS, concurrency=as_scalar(n))) for n in users]
    assert np.all(np.diff([float(one.tpot) for one in found]) > 0)
    rates = [n / float(one.total) for n, one in zip(users, found, strict=True)]
    assert np.all(np.diff(rates) > 0)


def test_what_is_in_the_cache_already_makes_the_first_token_faster():
    cached = dataclasses.replace(USERS, prefix_tokens=as_scalar(900.0))
    assert float(_served(cached).ttft) < float(_served(USERS).ttft)


def test_only_as_many_decode_as_there_is_room_for():
    crowd = dataclasses.replace(USERS, concurrency=as_scalar(1e6))
    batch = float(running_sequences(CHIP, PLAN, MODEL, crowd))
    assert 100 < batch < 1e5
    assert float(_served(crowd).slack) >= 0


@pytest.mark.long
def test_every_input_of_a_service_has_a_slope():
    def time(request: Request):
        served = serve(CHIP, PLAN, MODEL, request)
        return jnp.log(served.ttft) + jnp.log(served.tpot)

    slope = jax.jit(jax.grad(time))(dataclasses.replace(USERS, prefix_tokens=as_scalar(100.0)))
    for name in ("concurrency", "isl", "osl", "prefix_tokens", "requests_per_user"):
        value = float(getattr(slope, name))
        assert np.isfinite(value) and value != 0, name


def test_a_prompt_stays_on_one_data_rank():
    lengths = (as_scalar(1000.0), as_scalar(1000.0))
    for together, each in ((1.0, 1.0), (4.0, 1.0), (16.0, 2.0)):
        one = prompt_pass(CHIP, Plan(dp=8.0), MODEL, as_scalar(together), *lengths)
        assert float(one.sequences) == each


@pytest.mark.slow
def test_copies_of_a_model_do_not_make_one_prompt_faster():
    one, eight = (_cells(n_chips=n, tp="1", dp=n, concurrency=n) for n in ("1", "8"))
    assert float(eight.ttft[0]) == pytest.approx(float(one.ttft[0]), rel=0.05)


def test_the_first_part_of_a_mix_is_the_format_of_what_is_not_quantised():
    cells = CELLS | {"chip": "b200", "model": "deepseek-v3"}
    plans = {p: resolve_row(0, cells | {"precision": p}, FITTED).deployment.plan for p in MIXES}
    assert {p: (plan.unquantised, plan.weights) for p, plan in plans.items()} == MIXES


def _labels(framework: str, chip: str, model: str) -> list[tuple[str, float]]:
    case = resolve_row(0, CELLS | {"chip": chip, "model": model, "framework": framework}, FITTED)
    given = case.deployment
    one = decode_pass(given.chip, given.plan, given.model, as_scalar(4.0), as_scalar(1000.0))
    return [(task.label, float(task.runs)) for task in one.layers]


def test_sglang_routes_deepseek_s_shared_expert_with_the_others_on_hopper():
    kernels = {chip: dict(_labels("sglang", chip, "deepseek-v3")) for chip in ("h200", "b200")}
    # What is left of "up" is of the three dense layers.
    assert kernels["h200"]["up"] == 3.0 and kernels["b200"]["up"] == 58.0
    assert dict(_labels("sglang", "h200", "kimi-k2.5"))["up"] == 60.0


QWEN = {"chip": "b200", "model": "qwen3.5-397b-a17b", "precision": "fp8"}


@pytest.mark.parametrize(("framework", "each"), [("sglang", 4), ("vllm", 1), ("", 1)])
def test_sglang_multiplies_the_inputs_of_a_delta_net_in_four_products(framework: str, each: int):
    given = resolve_row(0, CELLS | QWEN | {"framework": framework}, FITTED).deployment
    one = decode_pass(given.chip, given.plan, given.model, as_scalar(4.0), as_scalar(1000.0))
    first, *_ = given.model.stacks
    runs = [float(task.runs) for task in one.layers if task.label == "projection"]
    assert isinstance(first.layer.attention, Recurrent)
    assert runs[:each] == [float(first.count)] * each
    assert len(runs) == (each + 1) * len(given.model.stacks) / 2


def test_sglang_fuses_no_all_reduce_with_norms_that_add_one():
    apart = resolve_row(0, CELLS | QWEN | {"framework": "sglang"}, FITTED).deployment
    fused = resolve_row(0, CELLS | QWEN | {"framework": "sglang", "model": "deepseek-r1"}, FITTED)
    assert apart.plan.unfused_all_reduce and not fused.deployment.plan.unfused_all_reduce
    size = as_scalar(2.0**18)  # 256 kB on eight chips: 26 us in SGLang 0.5.9, 8 in 0.5.14
    times = [
        float(price(one.chip, collective(one.chip, one.plan, "all_reduce", EIGHT, ONE, size)).time)
        for one in (apart, fused.deployment)
    ]
    assert times[0] > 1.5 * times[1]


EIGHT, ONE = as_scalar(8.0), as_scalar(1.0)


@pytest.mark.parametrize("chip", ["h200", "b200", "wse-3", "sn40l"])
def test_the_smooth_form_fuses_the_shared_expert_on_launched_chips(chip: str):
    given = resolve_deployment(chip, "deepseek-v3", "bf16", "bf16", "", FITTED)
    assert given.plan.fuses_shared_expert == (given.chip.execution == "launched")


def _host(framework: str) -> HostEfficiency:
    return load_chip("h100-sxm", Plan(framework=framework or None)).efficiency.host


@pytest.mark.parametrize("framework", ["trtllm", "vllm", "sglang"])
def test_no_framework_s_host_adds_less_to_a_step_than_the_smooth_form_s(framework: str):
    smooth, other = _host(""), _host(framework)
    for name in ("step", "per_sequence", "first_token", "burst"):
        assert float(getattr(smooth, name)) <= float(getattr(other, name)), name


FAST, SLOW = (
    HostEfficiency(*map(as_scalar, each))
    for each in (
        (2e-4, 3e-6, -2e-6, 0.0, 0.05, 0.0, 1.5, 0.0),
        (3e-4, 1e-5, 1e-6, 0.0, 0.04, 0.0, 1.0, 0.0),
    )
)


def _group(launches: float) -> RunGroup:
    """One run with 100 kernels and 4 sequences in a decode step."""
    steps = [jnp.full((1, 3), number) for number in (0.01, 0.0, launches, 100.0, 4.0)]
    steps.append(jnp.array([[0.0, 1.0, 1.0]]))
    return RunGroup(ClosedLoop(PLAN, USERS, as_scalar(4.0), *steps), [])


def test_the_fastest_host_is_the_one_that_adds_least_to_the_steps_at_hand():
    # 0.2 + 0.012 - 0.2 ms against 0.3 + 0.04 + 0.1.
    groups = {"slow": [_group(1e-3)], "fast": [_group(1e-3)]}
    assert fastest_host({"slow": SLOW, "fast": FAST}, groups) == "fast"


def test_the_smooth_form_hides_the_share_of_its_launches_that_the_fastest_framework_does(
    monkeypatch: pytest.MonkeyPatch,
):
    # A fifth of 1 ms is hidden there, so that of 0.6 ms it is 0.12: 1.2 us for each of 100 kernels.
    monkeypatch.setattr(hosts, "groups_of", lambda *_, **__: [_group(6e-4)])
    found = hosts.with_shorter_launches(FAST, [_group(1e-3)], FITTED)
    assert float(found.per_kernel) == pytest.approx(-1.2e-6)
    assert float(found.step) == float(FAST.step) and float(found.burst) == float(FAST.burst)
    slower = hosts.with_shorter_launches(SLOW, [_group(1e-3)], FITTED)
    assert float(slower.per_kernel) == float(SLOW.per_kernel)


def test_the_best_schedule_waits_no_longer_outside_of_steps_than_any_framework():
    slow = dataclasses.replace(SLOW, per_prompt_token=as_scalar(5e-6))
    found = hosts.with_least_waits(slow, [FAST, slow])
    assert [float(getattr(found, name)) for name in hosts.OF_WAITS] == pytest.approx(
        [0.04, 0.0, 1.0, 0.0]
    )
    assert found.per_kernel == slow.per_kernel


def test_an_indexer_brings_eleven_small_kernels_that_the_best_schedule_fuses():
    def small(framework: str) -> float:
        names = ("norm", "rope", "add", "quantise")
        return sum(n for label, n in _labels(framework, "b200", "glm-5") if label in names)

    layers = float(load_model("glm-5").layers)
    assert small("sglang") - small("") == 11 * layers


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"tp": "3"}, "does not divide the 32 heads of llama-3.2-1b; the nearest that does is 2"),
        (
            {"tp": "16", "n_chips": "16"},
            "the nearest that works is tp 8, with pp or dp for the rest",
        ),
        ({"concurrency": "0"}, "allowed are numbers greater than zero"),
        ({"kv_precision": "fp9"}, "the nearest are fp8"),
        ({"chip": "lpu-v1", "precision": "fp32"}, "the nearest that work are"),
        ({"chip": "h1000"}, "the nearest are h100-sxm"),
        ({"chip": ""}, "chip is missing"),
        ({"osl": "-5"}, "osl is '-5'; allowed are numbers greater than zero"),
        ({"concurrency": ""}, "give the number of sequences in flight, or requests_per_s"),
        ({"pp": "64"}, "may not be more than the 16 layers of llama-3.2-1b"),
        ({"model": "mixtral-8x7b", "ep": "16"}, "may not be more than the 8 experts"),
        ({"ep": "4"}, "has no experts; leave it empty"),
        (
            {"tp": "4", "pp": "4", "n_chips": "8"},
            "n_chips is tp x pp x dp; leave one of them empty",
        ),
    ],
)
def test_what_cannot_be_is_refused_with_the_nearest_that_can(change: dict[str, str], said: str):
    with pytest.raises(InputError) as wrong:
        resolve_row(0, CELLS | change, FITTED)
    assert said in str(wrong.value) and "\n" not in str(wrong.value)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"decode_workers": "0"}, "decode_workers is '0'; allowed are numbers greater than zero"),
        ({"prefill_workers": "1.5"}, "prefill_workers is '1.5'; allowed are whole numbers"),
        ({"decode_tp": "3"}, "decode workers: tp is 3, which does not divide the 32 heads"),
        ({"prefill_tp": "16"}, "prefill workers: tp is 16, but the fast links of h100-sxm join 8"),
        ({"prefill_chip": "h1000"}, "prefill workers: unknown chip 'h1000'; the nearest are"),
    ],
)
def test_a_wrong_pool_is_named(change: dict[str, str], said: str):
    with pytest.raises(InputError) as wrong:
        resolve_disaggregated(0, CELLS | change, FITTED)
    assert said in str(wrong.value) and "\n" not in str(wrong.value)


MIXES = {
    "fp8/nvfp4": ("fp8_block", "nvfp4"),
    "fp16/int8": ("fp16", "int8"),
    "nvfp4": ("bf16", "nvfp4"),
    "": ("bf16", "fp8_block"),
}


def test_a_chip_that_cannot_attend_in_bf16_is_refused_in_one_sentence():
    with pytest.raises(InputError, match="only its kernels can be predicted"):
        resolve_row(0, CELLS | {"chip": "corsair", "precision": "int8"}, FITTED)


CELLS = {"chip": "h100", "model": "llama-3.2-1b", "isl": "1000", "osl": "500", "concurrency": "4"}


def _cells(**change: str) -> Service:
    case = resolve_row(0, CELLS | change, FITTED)
    return evaluate_rows(serve, [(case, case.candidates[0])])


@pytest.mark.long
def test_speculation_pays_when_guesses_hold_and_costs_when_they_do_not():
    plain = _cells(framework="vllm")
    good = _cells(framework="vllm", speculative_tokens="3", acceptance="0.9")
    bad = _cells(framework="vllm", speculative_tokens="3", acceptance="0")
    assert good.tpot[0] < plain.tpot[0] < bad.tpot[0]


@pytest.mark.long
def test_sglang_gives_prompts_steps_of_their_own():
    many = {"concurrency": "64", "isl": "4000"}
    ride, own = _cells(framework="vllm", **many), _cells(framework="sglang", **many)
    assert own.tpot[0] != ride.tpot[0]


def _apart(**change: str) -> dict[str, str]:
    cells = CELLS | {"mode": "disaggregated", "osl": "200", "concurrency": "64"} | change
    found = predict_cells({name: [cell] for name, cell in cells.items()}, 1, FITTED)
    return {name: column[0] for name, column in found.items()}


@pytest.mark.long
def test_pools_of_their_own_keep_prompts_out_of_steps():
    apart = _apart(framework="vllm", isl="4000", prefill_workers="4", prefill_tp="1", decode_tp="1")
    mixed = _apart(framework="vllm", isl="4000", mode="serving", n_chips="1")
    assert float(apart["tpot_ms"]) < float(mixed["tpot_ms"])
    assert apart["n_chips"] == "5" and apart["error"] == ""


@pytest.mark.slow
def test_a_pool_that_is_too_small_makes_requests_wait():
    few, many = (_apart(isl="8000", prefill_workers=n, prefill_tp="1") for n in ("1", "8"))
    assert float(few["ttft_ms"]) > 4 * float(many["ttft_ms"])
    # The pool of prompts then sets the pace: 64 users wait for one worker.
    assert float(few["output_tokens_per_s_per_user"]) > float(many["output_tokens_per_s_per_user"])


@pytest.mark.long
def test_pools_may_be_of_different_chips():
    hybrid = _apart(prefill_chip="h100", decode_chip="b200", prefill_tp="1", decode_tp="1")
    assert hybrid["n_chips"] == "2" and hybrid["error"] == ""
    wrong = _apart(decode_chip="b2000")
    assert wrong["error"].startswith("decode workers: ") and "b200" in wrong["error"]


def test_the_plain_roofline_reads_all_weights_and_the_cache_once():
    chip, plan = load_chip("h100-sxm"), Plan()
    users = dataclasses.replace(USERS, concurrency=as_scalar(1.0))
    placed = place(chip, plan, MODEL, as_scalar(1.0), as_scalar(1250.0))
    bytes_read = float(placed.size + placed.cache_size)
    assert float(roofline_tpot(chip, plan, MODEL, users)) == pytest.approx(bytes_read / 3.35e12)
    assert float(roofline_tpot(chip, plan, MODEL, users)) < float(_served(users).tpot)


def test_what_no_memory_holds_has_no_time():
    big = _apart(mode="single_stream", chip="lpu-v1", n_chips="8", model="llama-3.1-70b")
    assert big["fits"] == "false" and "bytes short" in big["error"]
    assert big["tpot_ms"] == big["output_tokens_per_s_per_user"] == ""


@pytest.mark.slow
@pytest.mark.parametrize(
    "model", ["llama-3.1-8b", "llama-3.1-70b", "mixtral-8x7b-v0.1", "gpt-oss-120b"]
)
def test_one_user_is_served_fastest_from_sram_then_hbm_then_ddr(model: str):
    tiers = (("wse-3", "lpu-v1", "lp30"), ("h100", "b200"), ("epyc-9965", "xeon-6980p", "m3-ultra"))
    speeds = []
    for chips in tiers:
        cells = {"chip": list(chips), "model": [model] * len(chips)}
        cells["n_chips"] = ["8" if chip in ("h100", "b200") else "" for chip in chips]
        cells |= {name: [word] * len(chips) for name, word in ONE_USER.items()}
        found = predict_cells(cells, len(chips), FITTED)
        assert set(found["error"]) == {""}
        speeds.append([float(x) for x in found["output_tokens_per_s_per_user"]])
    assert min(speeds[0]) > max(speeds[1]) and min(speeds[1]) > max(speeds[2])


@pytest.mark.slow
def test_on_every_model_one_user_is_served_fastest_from_sram_then_hbm_then_ddr():
    """Where it fits: the three largest do not on eight B200."""
    chips = {"wse-3": "", "b200": "8", "epyc-9965": "", "m3-ultra": ""}
    models = sorted(stems("models"))
    cells = {"model": [model for model in models for _ in chips], "chip": [*chips] * len(models)}
    cells["n_chips"] = [chips[chip] for chip in cells["chip"]]
    cells |= {name: [word] * len(cells["chip"]) for name, word in ONE_USER.items()}
    found = predict_cells(cells, len(cells["chip"]), FITTED)
    fits = np.array(found["fits"]) == "true"
    speed = np.where(fits, found["output_tokens_per_s_per_user"], "nan").astype(float)
    sram, hbm, *rest = speed.reshape(len(models), len(chips)).T
    assert np.sum(np.isnan(hbm)) <= 3 and np.isfinite(sram).all()
    ddr = np.nanmax(rest, axis=0)
    assert not np.any(sram <= hbm) and not np.any(hbm <= ddr) and not np.any(sram <= ddr)


ONE_USER = {"mode": "single_stream", "isl": "1000", "osl": "1000"}


PULLS = (("1", "32", "128", 160 / 0.9704), ("250", "256", "256", 24.24 * 512))
"""Runs that vLLM's host of 2024 is taken from: a batch, a prompt, an output, tokens/s (pull requests 10933
and 7117, the latter in waves of 256, 256, 256 and 232)."""


@pytest.mark.long
@pytest.mark.parametrize(("users", "prompt", "output", "published"), PULLS)
def test_a_version_s_host_meets_the_runs_it_is_taken_from(users, prompt, output, published):
    cells = {"chip": ["h100-sxm"], "model": ["llama-3-8b"], "framework": ["vLLM 0.5"]}
    cells |= {"mode": ["static_batch"], "tp": ["1"], "concurrency": [users]}
    found = predict_cells(cells | {"isl": [prompt], "osl": [output]}, 1, FITTED)
    # The constants are rounded to three digits; kernels may be fitted anew.
    assert float(found["total_tokens_per_s"][0]) == pytest.approx(published, rel=0.03)


@pytest.mark.long
@pytest.mark.parametrize(("users", "published"), [(16, 76.4), (32, 99.1)])
def test_attention_on_rocm_read_the_cache_for_each_head(users, published):
    # Pull request 8310: the second 256 steps of Llama-2-70B's 512, in ms each.
    both = {
        "chip": "mi300x",
        "model": "llama-2-70b",
        "mode": "static_batch",
        "tp": "1",
        "isl": "512",
    }
    both |= {"framework": "vllm-rocm-0.6", "concurrency": str(users)}
    cells = {name: [word, word] for name, word in both.items()} | {"osl": ["256", "512"]}
    found = predict_cells(cells, 2, FITTED)["total_tokens_per_s"]
    half, whole = (
        users * tokens / float(rate) for tokens, rate in zip((768, 1024), found, strict=True)
    )
    assert 1e3 * (whole - half) / 256 == pytest.approx(published, rel=0.05)


def units_of(kind: Any) -> dict[str, str]:
    return {field.name: field.metadata["unit"] for field in parameters(kind)}


def test_a_version_names_parameters_that_there_are():
    for version in (v for file in framework_files().values() for v in file.version.values()):
        for family, found in version.parameters.items():
            known = {"hop_cycles": "1"} if family == "mesh" else units_of(FAMILIES[family])
            assert {name: number.unit for name, number in found.items()}.items() <= known.items()


def test_a_version_shares_the_kernels_of_its_framework():
    words = ("trtllm-engine", "trtllm")
    old, new = (
        resolve_deployment("h100-sxm", "llama-3-8b", "", "", word, FITTED) for word in words
    )
    assert (old.plan.framework, old.plan.framework_version) == ("trtllm", "trtllm-engine")
    assert (new.plan.framework, new.plan.framework_version) == ("trtllm", "")
    assert old.plan.unfused_all_reduce and not new.plan.unfused_all_reduce
    hosts = [one.chip.efficiency.host for one in (old, new)]
    assert [float(host.per_kernel) for host in hosts] == [0.0, pytest.approx(-1.9e-6, rel=0.05)]
    same = [eqx.tree_at(lambda c: c.efficiency.host, one.chip, HOST) for one in (old, new)]
    alike = [eqx.tree_at(lambda c: c.efficiency.collective, one, None) for one in same]
    assert eqx.tree_equal(*alike)
