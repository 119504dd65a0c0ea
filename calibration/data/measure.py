"""Time this machine's own kernels with JAX, and write them as rows of the kernel schema.

What is timed is one call of a compiled function from Python until its result is there, on operands
that stay where they are from call to call, as a benchmark replays them.
"""

import itertools
import os
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
import pyarrow as pa

from perfmodel.calibration.data.jax_kernels import (
    COLUMNS,
    SPECS,
    TimedKernel,
    build,
    kernel_shapes,
    smallest,
)
from perfmodel.calibration.data.noise import MAX_NOISE, noise_of, standard_error
from perfmodel.errors import InputError
from perfmodel.files import read_csv, write_csv
from perfmodel.library.chip import chip_names
from perfmodel.library.files import fold, word_of
from perfmodel.package_versions import version

MIN_CALLS, MAX_CALLS = 5, 100
"""Calls of a kernel that are timed, at least and at most."""

MIN_SECONDS = 0.1
"""For which a kernel is called again, unless it was called often enough before, in s."""

MAX_SECONDS = 1.0
"""For which a kernel is called whose calls still differ too much for their median, in s."""

MAX_NOISY_CALLS = 1000
"""Calls of such a kernel, at most."""

WARMUP_CALLS = 2
"""Calls before the first that is timed, after the one that compiles."""

CALLS_PER_KERNEL = 8
"""Calls of the longest kernel that its share of the time must hold: warm ones and the fewest timed."""

MEMORY_SHARE = 0.25
"""Of the memory, for the operands and results of one kernel."""

PROBE_SIZE = 1024
"""Side of the product, and square root of the elements of the sum, that tell how fast a machine is."""

WRITE_INTERVAL = 2.0
"""Between two writings of the file, in s."""

RESULT_COLUMNS = ("latency_us", "repeats", "spread", "overhead_us", "measured_with")
"""Columns of what was found: the median, how many calls, their interquartile range over it, what an
empty call takes, and with what it was measured."""


EMPTY_KERNEL = TimedKernel(
    lambda x: x + 1, (lambda: np.zeros((), np.float32),), flops=1.0, size=8.0
)
"""A kernel that does next to nothing."""


class MeasureRequest(NamedTuple):
    """What is to be measured.

    - `rows`: of each operation and format, at most.
    - `seconds`: for all of it.
    - `seed`: of the shapes.
    """

    ops: Sequence[str]
    dtypes: Sequence[str]
    chip: str
    rows: int
    seconds: float
    seed: int


class MeasureResult(NamedTuple):
    """The chip's name, rows in the file, new ones, those asked for, and what could not be run, with why.

    - `noisy`: rows in the file whose median is not sure to `MAX_NOISE`.
    """

    chip: str
    rows: int
    new: int
    asked: int
    failed: list[str]
    noisy: int = 0


Row = dict[str, str]


def measure(
    request: MeasureRequest, out: Path, resume: bool, progress: Callable[[int, int], None]
) -> MeasureResult:
    """Measure kernels and write them to `out`, whole, every few seconds and at the end.

    **Arguments:**

    - `resume`: keep the rows that `out` holds, and measure those that it lacks.
    - `progress`: called with rows done and rows in all.

    **Raises:**

    - `InputError`: for an unknown operation or format, or one that JAX cannot run here.
    """
    streams = _streams(request)
    rows = _earlier(out) if resume and out.exists() else []
    earlier, failed, chip = len(rows), [], request.chip or this_chip()
    done = {_identity(row) for row in rows}
    written = time.monotonic()
    try:
        for count, row in _run(request, chip, streams, done, failed):
            progress(count, request.rows * len(streams))
            rows += [row] if row else []
            if time.monotonic() - written > WRITE_INTERVAL:
                _write(out, rows)
                written = time.monotonic()
    finally:
        if len(rows) > earlier:
            _write(out, rows)
    asked = request.rows * len(streams)
    return MeasureResult(chip, len(rows), len(rows) - earlier, asked, failed, _noisy(rows))


def _noisy(rows: Sequence[Row]) -> int:
    """Rows whose median is not sure to `MAX_NOISE`."""
    cells = {name: [row[name] for row in rows] for name in ("spread", "repeats")}
    return int(np.sum(noise_of(cells, len(rows)) > MAX_NOISE))


def _run(
    request: MeasureRequest, chip: str, streams: list[tuple[str, str]], done: set, failed: list[str]
) -> Iterator[tuple[int, Row | None]]:
    """One row of each operation and format after the other, until the time is up.

    A row that is there, or cannot be run, is none.
    """
    end = time.monotonic() + request.seconds
    longest = request.seconds / (request.rows * len(streams)) / CALLS_PER_KERNEL
    speed = {dtype: _speed(dtype) for dtype in {dtype: op for op, dtype in streams}}
    limits = {(op, dtype): SizeLimit(speed[dtype], longest) for op, dtype in streams}
    shapes = [kernel_shapes(*stream, request.seed, limits[stream].fits) for stream in streams]
    overhead = float(np.median(seconds_of(call(EMPTY_KERNEL))))
    turns = itertools.islice(
        itertools.cycle(zip(streams, shapes, strict=True)), request.rows * len(streams)
    )
    for count, (stream, following) in enumerate(turns, 1):
        sizes, kernel = next(following, ({}, None))
        if time.monotonic() > end:
            return
        row = _named(*stream, chip, sizes)
        if kernel is None or _identity(row) in done:
            yield count, None
            continue
        times = _times(kernel, f"{stream[0]} {sizes}", failed)
        limits[stream].learn(kernel, times)
        yield count, row | _found(times, overhead) if len(times) else None


def _streams(request: MeasureRequest) -> list[tuple[str, str]]:
    """Each operation with each format that it can be run in."""
    ops = [word_of(op, list(SPECS), "op to measure") for op in request.ops]
    known = list(dict.fromkeys(d for spec in SPECS.values() for d in spec.dtypes))
    dtypes = [word_of(dtype, known, "dtype to measure") for dtype in request.dtypes]
    for given, option in ((ops, "--ops"), (dtypes, "--dtype")):
        if not given:
            raise InputError(f"nothing to measure; give {option} a name.")
    pairs = [(op, d) for op in ops for d in dtypes if d in SPECS[op].dtypes]
    streams = list(dict.fromkeys(pairs))
    if not streams:
        able = "; ".join(f"{op} in {', '.join(SPECS[op].dtypes)}" for op in ops)
        raise InputError(f"nothing to measure in {', '.join(dtypes)}; give --dtype for {able}.")
    for op, dtype in streams:
        _check_runs(op, dtype)
    return streams


def _check_runs(op: str, dtype: str) -> None:
    """Run the smallest shape, to find out whether JAX can."""
    try:
        call(build(op, dtype, smallest(op)))
    except (RuntimeError, TypeError, ValueError, NotImplementedError) as error:
        kind, reason = jax.devices()[0].device_kind, _reason(error)[:200].rstrip(".")
        raise InputError(
            f"JAX cannot run {op} in {dtype} on {kind}: {reason}; give other formats to --dtype."
        ) from None


def _reason(error: BaseException) -> str:
    return (str(error).splitlines() or ["no reason given"])[0]


def this_chip() -> str:
    """The name of this machine's chip: the library's where it has one, else JAX's in its spelling."""
    kind = jax.devices()[0].device_kind
    plain = "-".join("".join(c if c.isalnum() else " " for c in kind.lower()).split())
    return chip_names().get(fold(kind), plain or "mine")


def call(kernel: TimedKernel) -> Callable[[], Any]:
    """A compiled and warm function of no arguments, whose result is there when it returns."""
    operands = [jax.device_put(operand()) for operand in kernel.operands]
    function = jax.jit(kernel.function)

    def run() -> Any:
        return jax.block_until_ready(function(*operands))

    run()
    return run


def seconds_of(run: Callable[[], Any]) -> np.ndarray:
    """Times of repeated calls, in s: until their median is sure to `MAX_NOISE`, or the time for it is up."""
    for _ in range(WARMUP_CALLS):
        run()
    times: list[float] = []
    while len(times) < MIN_CALLS or _goes_on(times):
        began = time.perf_counter()
        run()
        times.append(time.perf_counter() - began)
    return np.array(times)


def _goes_on(times: Sequence[float]) -> bool:
    """Whether a kernel is called once more."""
    spent = sum(times)
    if spent < MIN_SECONDS and len(times) < MAX_CALLS:
        return True
    if spent >= MAX_SECONDS or len(times) >= MAX_NOISY_CALLS:
        return False
    if len(times) % MIN_CALLS:
        return True
    return bool(standard_error(np.array(_spread(times)), np.array(len(times))) > MAX_NOISE)


def _spread(times: Sequence[float] | np.ndarray) -> float:
    """The interquartile range over the median."""
    low, middle, high = np.quantile(times, [0.25, 0.5, 0.75])
    return float((high - low) / middle)


class MachineSpeed(NamedTuple):
    """About how fast a machine is, in FLOP/s and bytes/s."""

    flops: float
    bandwidth: float

    def seconds(self, kernel: TimedKernel) -> float:
        """What a kernel takes at least, about."""
        return kernel.flops / self.flops + kernel.size / self.bandwidth


def _speed(dtype: str) -> MachineSpeed:
    """By one product and one sum."""
    side = float(PROBE_SIZE)
    product = build("gemm", dtype, {"m": side, "n": side, "k": side})
    add = build("elementwise", "bf16", {"kind": "add", "tokens": side, "hidden": side})
    fastest = [float(np.min(seconds_of(call(kernel)))) for kernel in (product, add)]
    return MachineSpeed(product.flops / fastest[0], add.size / fastest[1])


class SizeLimit:
    """Which shapes of an operation keep within its share of time and memory: learnt on the way."""

    def __init__(self, speed: MachineSpeed, longest: float):
        self.speed, self.longest = speed, longest
        self.memory, self.slower = MEMORY_SHARE * _memory(), 1.0

    def fits(self, kernel: TimedKernel) -> bool:
        """Whether a kernel is small enough."""
        expected = self.slower * self.speed.seconds(kernel)
        return kernel.size < self.memory and expected < self.longest

    def learn(self, kernel: TimedKernel, times: np.ndarray) -> None:
        """Remember how much slower than the machine a kernel was that took too long."""
        if len(times) and np.median(times) > self.longest:
            self.slower = float(np.median(times)) / self.speed.seconds(kernel)


def _memory() -> float:
    """Bytes of the device's memory, or of the host's."""
    stats = jax.devices()[0].memory_stats() or {}
    host = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return float(stats.get("bytes_limit", host))


def _named(op: str, dtype: str, chip: str, sizes: dict) -> Row:
    """A row of the kernel schema, without its time."""
    words = {"op": op, "chip": chip, "dtype": dtype}
    given = {n: v if isinstance(v, str) else f"{v:.0f}" for n, v in sizes.items()}
    return dict.fromkeys((*COLUMNS, *RESULT_COLUMNS), "") | words | given


def _identity(row: Row) -> tuple[str, ...]:
    return tuple(row[name] for name in COLUMNS)


def _times(kernel: TimedKernel, name: str, failed: list[str]) -> np.ndarray:
    """Times of a kernel; none where it cannot be run, with the reason in `failed`."""
    try:
        return seconds_of(call(kernel))
    except (RuntimeError, MemoryError) as error:
        failed.append(f"{name} could not be run: {_reason(error)[:100]}")
        return np.zeros(0)


def _found(times: np.ndarray, overhead: float) -> Row:
    """The columns of what was found."""
    return {
        "latency_us": f"{np.median(times) * 1e6:.6g}",
        "repeats": str(len(times)),
        "spread": f"{_spread(times):.4g}",
        "overhead_us": f"{overhead * 1e6:.4g}",
        "measured_with": f"jax {version('jax')} on {jax.default_backend()}",
    }


def _earlier(out: Path) -> list[Row]:
    """Rows that an earlier run wrote."""
    table = read_csv(out)
    if table.column_names != [*COLUMNS, *RESULT_COLUMNS]:
        raise InputError(
            f"{out} was not written by `perfmodel measure`; give another --out, or leave out --resume."
        )
    return table.to_pylist()


def _write(out: Path, rows: list[Row]) -> None:
    names = (*COLUMNS, *RESULT_COLUMNS)
    write_csv(out, pa.table({name: [row[name] for row in rows] for name in names}))


def outcome(found: MeasureResult, out: Path) -> str:
    """What a file of measurements holds, and how to get what is lacking."""
    said = f"{found.rows} rows in {out}, {found.new} of them new.{_on_noise(found)}"
    if found.rows + len(found.failed) >= found.asked:
        return said
    return f"{said} {found.asked} were asked for; more --seconds, with --resume, time the rest."


def _on_noise(found: MeasureResult) -> str:
    """What is said of rows that stayed noisy."""
    if not found.noisy:
        return ""
    return (
        f" Of {found.noisy} the median is not sure to {100 * MAX_NOISE:g} %, for all their repeats: the "
        "machine does other things; calibrate leaves out those that are noisier than what they say."
    )


def advice(found: MeasureResult, out: Path) -> str:
    """How to go on with what was measured."""
    if not found.rows:
        return "Nothing was timed; give more --seconds."
    begun = f"perfmodel calibrate --data {out} --out fitted"
    if fold(found.chip) in chip_names():
        return f"Fit the model to them: {begun}"
    return (
        f"The library has no chip {found.chip}: write {found.chip}.toml as docs/add-a-chip.md says, "
        f"then fit the model to them: {begun} --chip-file {found.chip}.toml"
    )
