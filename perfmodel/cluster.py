"""Tasks that do not depend on each other: here, one after the other, or on the workers of a Ray cluster.

Ray places them, retries what a worker that died had begun, and shows them in its dashboard. It is imported
only where a cluster is asked for.
"""

import contextlib
import functools
import hashlib
import itertools
import operator
import os
import platform
import socket
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from perfmodel.compiler_settings import worker_settings
from perfmodel.errors import InputError
from perfmodel.package_versions import version

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

RAY_SETTINGS = {"RAY_USAGE_STATS_ENABLED": "0", "RAY_ENABLE_UV_RUN_RUNTIME_ENV": "0"}
"""Ray reports to nobody how it is used, and workers are of the Python that this process is of: under `uv run`
Ray would send the folder to each worker and start uv there."""

TOKEN = Path.home() / ".ray" / "auth_token"
"""Where Ray keeps the token of its clusters."""

T = TypeVar("T")
R = TypeVar("R")

Runner = Callable[[Callable[[T], R], Iterable[T]], Iterator[tuple[int, R]]]
"""What applies a function to tasks, and gives the place of each with what it found, as they are done."""

Needed = tuple[tuple[str, ...], tuple[str, ...]]
"""What a worker must have as the machine that began: folders and files, by their paths, and packages."""

PACKAGE = Path(__file__).parent
"""The folder of the program."""


class _Refused(NamedTuple):
    """What is wrong with the input, found out by a worker."""

    said: str


def here(function: Callable[[T], R], tasks: Iterable[T]) -> Iterator[tuple[int, R]]:
    """Tasks in this process, one after the other."""
    return enumerate(map(function, tasks))


@contextlib.contextmanager
def workers(
    where: str, places: Sequence[Path] = (), packages: Sequence[str] = ()
) -> Iterator[Runner[Any, Any]]:
    """What runs tasks on a cluster; here, one after the other, where `where` is empty.

    A task may be done twice, where its first worker died: it writes whole or not at all.

    **Arguments:**

    - `places`: folders and files, by their paths, that each worker must hold with the same content.
    - `packages`: of which each worker must have the same version, beside JAX.

    **Raises:**

    - `InputError`: when no cluster is there, Ray is not installed or a worker has another version; of a task.
    """
    if not where:
        yield here
        return
    ray = _connect(where)
    try:
        needed = tuple(str(place.absolute()) for place in places), tuple(packages)
        yield functools.partial(_run, ray, needed)
    finally:
        ray.shutdown()


def own_files(words: Iterable[str]) -> list[Path]:
    """Files of the user's own (of chips, of models) among words that name others of the library."""
    paths = {Path(word) for word in words}
    return sorted(path for path in paths if path.suffix in ENDS and path.exists())


def in_order(found: Iterable[tuple[int, R]]) -> list[R]:
    """What tasks found, in the order of the tasks."""
    return [one for _, one in sorted(found, key=operator.itemgetter(0))]


def gathered(
    found: Iterable[tuple[int, R]], count: int, progress: Callable[[int, int], None]
) -> list[R]:
    """The same, where `progress` is told how many of `count` are done."""
    done: list[tuple[int, R]] = []
    progress(0, count)
    for one in found:
        done.append(one)
        progress(len(done), count)
    return in_order(done)


def _run(
    ray: Any, needed: Needed, function: Callable[[T], R], tasks: Iterable[T]
) -> Iterator[tuple[int, R]]:
    """On a cluster: no more tasks are handed over than its cores can soon begin."""
    remote = ray.remote(max_retries=MAX_RETRIES)(_apply)
    shared, left = ray.put((function, needed, content_of(*needed))), iter(enumerate(tasks))
    waiting: list[Any] = []
    while True:
        more = itertools.islice(left, _most_waiting(ray) - len(waiting))
        waiting += [remote.remote(shared, *task) for task in more]
        if not waiting:
            return
        # Until one is done; then every finished task is taken, because each call takes time.
        ray.wait(waiting, num_returns=1)
        done, waiting = ray.wait(waiting, num_returns=len(waiting), timeout=0)
        for one in done:
            yield _result(ray, one)


def _most_waiting(ray: Any) -> int:
    """Tasks that may wait; a cluster that grows takes more."""
    return max(MIN_WAITING, int(WAITING_PER_CORE * ray.cluster_resources().get("CPU", 1)))


def _apply(
    shared: tuple[Callable[[T], R], Needed | tuple[()], str], place: int, task: T
) -> tuple[int, R | _Refused]:
    """On a worker: what is found, or what is wrong with the input."""
    function, needed, content = shared
    if _content_here(*needed) != content:
        return place, _Refused(
            f"{platform.node()} has another version of perfmodel, of JAX, of another package, of a "
            "file that is asked for or of the fitted parameters than the machine that began; put the same "
            "on all of them."
        )
    try:
        return place, function(task)
    except InputError as wrong:
        return place, _Refused(str(wrong))


def content_of(places: tuple[str, ...] = (), packages: tuple[str, ...] = ()) -> str:
    """Of the program, its facts, JAX, and further folders, files and packages, in one word."""
    versions = [version(name) for name in ("perfmodel", "jax", "jaxlib", *packages)]
    content = hashlib.sha256(repr(versions).encode())
    for place in (str(PACKAGE), *places):
        for file in sorted(_files_of(place)):
            content.update(os.path.relpath(file, place).encode() + Path(file).read_bytes())
    return content.hexdigest()


_content_here = functools.cache(content_of)
"""The same on a worker, which looks once."""


def _files_of(place: str) -> Iterator[str]:
    """A file, or the program and facts in a folder."""
    if os.path.isfile(place):
        yield place
    for folder, _, names in os.walk(place, followlinks=True):
        yield from (os.path.join(folder, name) for name in names if name.endswith(ENDS))


ENDS = (".py", ".toml", ".json")
"""Of files of programs and facts."""


def _result(ray: Any, one: Any) -> tuple[int, Any]:
    """The place of a task, and what it found.

    **Raises:**

    - `InputError`: of the worker, or for workers that cannot run the task.
    """
    try:
        place, found = ray.get(one)
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
    return place, found


def _connect(where: str) -> Any:
    """Ray, with a cluster behind it."""
    check_address(where)
    for name, value in (RAY_SETTINGS | _authentication()).items():
        os.environ.setdefault(name, value)
    try:
        import ray
    except ImportError:
        raise InputError(
            "--cluster needs Ray, which is not installed; install perfmodel[cluster]."
        ) from None
    settings = worker_settings() | {"RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0"}
    try:
        with warnings.catch_warnings():  # Ray's advice beside its errors
            warnings.simplefilter("ignore")
            _init(ray, where, settings)
    except Exception as error:  # a bare one where a busy machine does not start it in 30 s
        raise InputError(_nothing_at(where, _first_line(error))) from None
    return ray


def _authentication() -> dict[str, str]:
    """A token is shown to a cluster where this machine has one, as Ray itself does without an address."""
    there = any(name in os.environ for name in ("RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"))
    return {"RAY_AUTH_MODE": "token"} if there or TOKEN.exists() else {}


def _init(ray: Any, where: str, settings: dict[str, str]) -> None:
    """Start workers on this machine, or join a cluster."""
    silent = {"log_to_driver": False, "logging_level": "CRITICAL"}
    if where == LOCAL:
        # In the environment of this cluster: one of Ray's own for the run takes seconds to make.
        with _environment(settings):
            ray.init("local", num_cpus=os.cpu_count(), include_dashboard=False, **silent)
    else:
        ray.init(where, runtime_env={"env_vars": settings}, **silent)


def check_address(where: str) -> None:
    """Find out whether a cluster may be there.

    **Raises:**

    - `InputError`: for other words than the three, or an address where nothing answers.
    """
    given = os.environ.get("RAY_ADDRESS", "") if where == AUTO else where
    if given in ("", AUTO, LOCAL):
        return
    host, colon, port = given.removeprefix(CLIENT).rpartition(":")
    if not (given.startswith(CLIENT) or where == AUTO) or not (host and colon and port.isdigit()):
        named = "RAY_ADDRESS" if where == AUTO else "--cluster"
        raise InputError(
            f"{named} is {given!r}; allowed are {AUTO}, {LOCAL} and {CLIENT}HOST:PORT."
        )
    try:
        socket.create_connection((host, int(port)), REACHED_WITHIN).close()
    except (OSError, OverflowError) as error:
        raise InputError(_nothing_at(given, getattr(error, "strerror", None) or error)) from None


def _nothing_at(where: str, said: object) -> str:
    return (
        f"there is no Ray cluster at {where} ({said}); start one (`ray start --head`), give the address of "
        f"one that runs (a token that it asks for is read from {TOKEN}), or --cluster {LOCAL}."
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
