"""Compiled programs are kept on disk: a second process traces nothing."""

import json
from collections.abc import Iterator
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from perfmodel import program_store
from perfmodel.program_store import CACHE_HIT, StoredProgram, identity_of, load_or_compile
from perfmodel.xla import to_run_once

traced: list[str] = []


def scaled(word: str, values: dict[str, jax.Array]) -> dict[str, jax.Array]:
    """Three times the values, or twice."""
    traced.append(word)
    return {name: (3.0 if word == "three" else 2.0) * x for name, x in values.items()}


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    before = jax.config.jax_compilation_cache_dir  # pyright: ignore[reportAttributeAccessIssue]
    jax.config.update("jax_compilation_cache_dir", str(tmp_path / "compiled"))
    traced.clear()
    yield tmp_path / "programs"
    jax.config.update("jax_compilation_cache_dir", before)


def run(word: str, x: float) -> float:
    """In a process of its own, as far as what was compiled goes."""
    return float(to_run_once(scaled)(word, {"x": np.float32(x)})["x"])


def test_a_program_is_traced_once_and_then_loaded(folder: Path):
    assert (run("three", 2.0), run("three", 5.0), run("two", 5.0)) == (6.0, 15.0, 10.0)
    assert traced == ["three", "two"] and len([*folder.iterdir()]) == 2


def test_a_file_that_is_cut_short_is_compiled_anew(folder: Path):
    run("three", 2.0)
    (kept,) = folder.iterdir()
    kept.write_bytes(kept.read_bytes()[:1000])
    assert run("three", 2.0) == 6.0 and traced == ["three", "three"]
    assert run("three", 3.0) == 9.0 and traced == ["three", "three"]


def test_a_program_from_the_cache_of_xla_is_not_written_again(folder: Path):
    def compiled(_: str) -> StoredProgram:
        jax.monitoring.record_event(CACHE_HIT)
        return StoredProgram(jax.jit(lambda x: x).lower(1.0).compile(), 0)

    assert load_or_compile("anything", compiled).result == 0 and not folder.exists()


def test_without_a_cache_nothing_is_kept(folder: Path):
    jax.config.update("jax_compilation_cache_dir", None)
    assert run("two", 2.0) == run("two", 2.0) == 4.0 and not folder.exists()


def test_what_words_do_not_tell_is_not_kept(folder: Path):
    assert not identity_of(lambda x: x, ()) and not identity_of(scaled, (object(),))
    assert identity_of(scaled, ("two",)) != identity_of(scaled, ("three",)) != ""
    grown = to_run_once(lambda x: x + 1)
    assert float(grown(jnp.float32(1))) == 2.0 and not folder.exists()


def test_a_program_inside_another_is_traced_with_it(folder: Path):
    inner = to_run_once(scaled)
    slope = jax.grad(lambda x: inner("three", {"x": x})["x"])
    assert float(jax.jit(slope)(1.0)) == 3.0 and not folder.exists()


def test_words_of_a_result_are_kept_with_the_program():
    told = program_store._described(("up", {"time": 0}))
    assert program_store._built(json.loads(json.dumps(told))) == ("up", {"time": 0})
