"""Tasks that do not depend on each other: here, one after the other, or on the workers of a Ray cluster.

Ray places them, retries what a worker that died had begun, and shows them in its dashboard. It is imported
only where a cluster is asked for.
"""

import contextlib
import itertools
import os
import socket
from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple, TypeVar

from perfmodel.compiler_settings import worker_settings
from perfmodel.errors import InputError

AUTO, LOCAL, CLIENT = "auto", "local", "ray://"
"""The cluster that is there (`RAY_ADDRESS`, or one that runs on this machine); one of this machine's cores,
for this run; and the address of a cluster that takes clients."""

MAX_RETRIES = 100
"""Deaths of workers that one task survives: a worker may be killed for memory, or its machine taken away."""

MIN_WAITING = 64
"""Tasks that are handed over at least, before the first is done."""

WAITING_PER_CORE = 4
"""The same for each core of the cluster: enough that none waits, few enough that memory stays flat."""

REACHED_WITHIN = 5.0
"""Seconds in which a cluster answers at its address."""

T = TypeVar("T")
R = TypeVar("R")

Runner = Callable[[Callable[[T], R], Iterable[T]], Iterator[R]]
"""What applies a function to tasks and gives what it finds, in the order in which that is found."""


class _Refused(NamedTuple):
    """What is wrong with the input, found out by a worker."""

    said: str


@contextlib.contextmanager
def workers(where: str) -> Iterator[Runner[Any, Any]]:
    """What runs tasks on a cluster; here, one after the other, where `where` is empty.

    **Raises:**

    - `InputError`: when no cluster is there, or Ray is not installed.
    """
    if not where:
        yield map
        return
    ray = _connect(where)
    try:
        yield lambda function, tasks: _run(ray, function, tasks)
    finally:
        ray.shutdown()


def _run(ray: Any, function: Callable[[T], R], tasks: Iterable[T]) -> Iterator[R]:
    """The same on a cluster: no more tasks are handed over than its cores can soon begin."""
    remote = ray.remote(max_retries=MAX_RETRIES)(_apply)
    shared, left = ray.put(function), iter(tasks)
    waiting: list[Any] = []
    while True:
        more = itertools.islice(left, _most_waiting(ray) - len(waiting))
        waiting += [remote.remote(shared, task) for task in more]
        if not waiting:
            return
        done, waiting = ray.wait(waiting, num_returns=1)
        for one in done:
            yield _result(ray, one)


def _most_waiting(ray: Any) -> int:
    """Tasks that may wait; a cluster that grows takes more."""
    return max(MIN_WAITING, int(WAITING_PER_CORE * ray.cluster_resources().get("CPU", 1)))


def _apply(function: Callable[[T], R], task: T) -> R | _Refused:
    """On a worker: what is found, or what is wrong with the input."""
    try:
        return function(task)
    except InputError as wrong:
        return _Refused(str(wrong))


def _result(ray: Any, one: Any) -> Any:
    """What a task found.

    **Raises:**

    - `InputError`: of the worker, or for workers that cannot run the task.
    """
    try:
        found = ray.get(one)
    except ray.exceptions.RayTaskError as error:
        if not isinstance(error.cause, ImportError | AttributeError):
            raise
        raise InputError(
            f"a worker of the cluster has another perfmodel, or none ({error.cause}); install the same "
            "version on all of its machines."
        ) from None
    except ray.exceptions.RayError as error:
        raise InputError(
            f"the cluster could not finish its tasks ({_first_line(error)}); look at its dashboard, then "
            "begin again with --resume."
        ) from None
    if isinstance(found, _Refused):
        raise InputError(found.said)
    return found


def _connect(where: str) -> Any:
    """Ray, with a cluster behind it."""
    check_address(where)
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    try:
        import ray
    except ImportError:
        raise InputError(
            "--cluster needs Ray, which is not installed; install perfmodel[cluster]."
        ) from None
    settings = worker_settings() | {"RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0"}
    silent = {"log_to_driver": False, "logging_level": "CRITICAL"}
    try:
        if where == LOCAL:
            # In the environment of this cluster: one of Ray's own for the run takes seconds to make.
            with _environment(settings):
                ray.init("local", num_cpus=os.cpu_count(), include_dashboard=False, **silent)
        else:
            ray.init(where, runtime_env={"env_vars": settings}, **silent)
    except (ConnectionError, RuntimeError, ValueError, TimeoutError) as error:
        raise InputError(_nothing_at(where, _first_line(error))) from None
    return ray


def check_address(where: str) -> None:
    """Find out whether a cluster may be there.

    **Raises:**

    - `InputError`: for other words than the three, or an address where nothing answers.
    """
    if where in ("", AUTO, LOCAL):
        return
    host, colon, port = where.removeprefix(CLIENT).rpartition(":")
    if not where.startswith(CLIENT) or not (host and colon and port.isdigit()):
        raise InputError(
            f"--cluster is {where!r}; allowed are {AUTO}, {LOCAL} and {CLIENT}HOST:PORT."
        )
    try:
        socket.create_connection((host, int(port)), REACHED_WITHIN).close()
    except (OSError, OverflowError) as error:
        raise InputError(_nothing_at(where, getattr(error, "strerror", None) or error)) from None


def _nothing_at(where: str, said: object) -> str:
    return (
        f"there is no Ray cluster at {where} ({said}); start one (`ray start --head`), give the address of "
        f"one that runs, or --cluster {LOCAL}."
    )


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:200].rstrip(".")


@contextlib.contextmanager
def _environment(settings: dict[str, str]) -> Iterator[None]:
    """Settings in the environment of processes that begin meanwhile."""
    before = dict(os.environ)
    os.environ.update(settings)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)
