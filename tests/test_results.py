"""Results as others use them: dictionaries, columns, JSON, terminals, notebooks; operations of one's own."""

import json
from types import SimpleNamespace
from typing import Any

import jax
import jax.numpy as jnp
import pyarrow as pa
import pytest

import perfmodel as pm
from perfmodel.breakdown import BOUNDS, JOULES, SECONDS, bound
from perfmodel.errors import InputError
from perfmodel.inference.service import Service
from perfmodel.kernels import registry
from perfmodel.kernels.kernel_table import groups_of
from perfmodel.kernels.registry import KERNELS, load_plugins
from perfmodel.resources import Resources
from perfmodel.units import Scalar


def priced(size: Any = 1e9) -> pm.Breakdown:
    """What reading some bytes costs on an H100."""
    work = pm.Work(demand=Resources(main=pm.as_scalar(size)), latency=pm.as_scalar(1e-6))
    return pm.price(pm.load_chip("h100"), work)


def test_a_result_is_a_dictionary_of_plain_numbers_with_units():
    found = pm.as_dict(priced())
    assert found["time_s"] == pytest.approx(sum(found[f"time_{n}_s"] for n in SECONDS), rel=1e-5)
    assert found["energy_j"] == pytest.approx(sum(found[f"energy_{n}_j"] for n in JOULES), rel=1e-5)
    assert found["bound"] == "memory"
    assert all(isinstance(value, float | str) for value in found.values())


def test_results_are_columns_of_a_table():
    rows = pm.as_rows([priced(), priced(1.0)])
    assert pa.table(rows).num_rows == 2 and rows["bound"] == ["memory", "latency"]
    assert pm.as_rows([]) == {}


@pytest.mark.long
def test_a_result_of_vmap_has_a_row_for_each_place():
    many = jax.vmap(priced)(jnp.array([1.0, 1e9]))
    assert pm.as_rows(many) == pm.as_rows([jax.tree.map(lambda x, i=i: x[i], many) for i in (0, 1)])


@pytest.mark.long
def test_what_is_read_off_a_result_of_vmap_has_its_shape():
    """Also inside of jit, and with a gradient: each place has its own."""
    sizes = jnp.array([1.0, 1e9])
    many, alone = jax.jit(jax.vmap(priced))(sizes), [priced(size) for size in sizes]
    assert many.energy.tolist() == pytest.approx([float(one.energy) for one in alone])
    for name, seconds in many.by_term().items():
        assert seconds.tolist() == pytest.approx([float(one.by_term()[name]) for one in alone])
    assert bound(many) == [bound(one) for one in alone] == ["latency", "memory"]
    slopes = jax.jacobian(lambda x: jax.vmap(priced)(x).energy)(sizes)
    assert slopes[0, 1] == slopes[1, 0] == 0 and bool(jnp.all(jnp.diag(slopes) > 0))


def service(size: Any) -> Service:
    """What costs `size` in everything."""
    joules, seconds = size * jnp.ones(len(JOULES)), jnp.ones(len(BOUNDS))
    return Service(size, size, size, size, size, joules, size, seconds)


def test_a_service_of_vmap_has_the_joules_of_each_place():
    assert float(service(jnp.ones(())).energy) == len(JOULES)
    found = jax.vmap(service)(jnp.array([1.0, 2.0]))
    assert found.energy.tolist() == [len(JOULES), 2 * len(JOULES)]


def test_json_has_null_for_what_is_not_known():
    unknown = priced() * float("nan")
    found = json.loads(pm.as_json(unknown))
    assert found["time_s"] is None and found["bound"] in BOUNDS


def test_a_result_prints_itself_in_a_terminal_and_in_a_notebook():
    text, page = str(priced()), priced()._repr_html_()
    assert "time_main_s" in text and "time_far_s" not in text
    assert page.startswith("<table>") and "<td>memory</td>" in page
    assert "[" in str(jax.vmap(priced)(jnp.arange(1.0, 9.0))) and "..." in str(
        jax.vmap(priced)(jnp.arange(1.0, 9.0))
    )


def test_printing_inside_jit_is_no_error():
    seen: list[str] = []

    @jax.jit
    def inside(size):
        seen.append(str(priced(size)) + priced(size)._repr_html_())
        return priced(size).time

    inside(1.0)
    assert "Breakdown" in seen[0]


def test_a_service_is_a_dictionary_with_the_names_of_the_contract():
    ones = {name: pm.as_scalar(1.0) for name in ("ttft", "tpot", "total", "concurrency", "running")}
    service = pm.Service(
        **ones, joules=jnp.ones(10), slack=pm.as_scalar(3.0), seconds=jnp.eye(6)[2]
    )
    found = pm.as_dict(service)
    assert (
        found["tpot_ms"] == 1e3
        and found["joules_per_output_token"] == 10
        and found["bound"] == BOUNDS[2]
    )
    assert {"ttft_ms", "output_tokens_per_s_per_user", "joules_per_output_token"} <= set(found)


def test_the_face_lists_what_it_has():
    assert all(hasattr(pm, name) for name in dir(pm) if not name.startswith("_"))
    with pytest.raises(AttributeError, match="perfmodel has no 'nothing'"):
        _ = pm.nothing


class Transpose(pm.AbstractKernel):
    """A transposition: read once, written once, in bf16."""

    op = "transpose"
    family = "elementwise"

    rows: Scalar = pm.column()
    columns: Scalar = pm.column()

    def count(self, chip: pm.Chip, plan: pm.Plan) -> list[pm.Work]:
        size = 2.0 * self.rows * self.columns
        launch = chip.efficiency.elementwise.launch
        return [pm.Work(demand=Resources(main=2 * size), latency=launch)]


class OtherGemm(Transpose):
    """One that takes a word which is taken."""

    op = "gemm"


@pytest.fixture
def operations(monkeypatch: pytest.MonkeyPatch):
    """The registry as it was, after a test has added to it."""
    monkeypatch.setattr(registry, "KERNELS", KERNELS)
    before = dict(KERNELS)
    load_plugins.cache_clear()
    yield
    KERNELS.clear()
    KERNELS.update(before)
    load_plugins.cache_clear()


CELLS = {
    "op": ["transpose"],
    "chip": ["h100"],
    "dtype": ["bf16"],
    "rows": ["4096"],
    "columns": ["4096"],
}


def test_an_operation_of_ones_own_is_read_and_priced_like_others(operations: None):
    """64 MiB in 30 us at 2.2 TB/s or so, the rate that elementwise kernels reach."""
    from perfmodel.inference.kernel_predictions import predict_table

    pm.add_kernel(Transpose)
    found = predict_table(pa.table(CELLS), pm_fitted(), replay=False)
    assert list(found.error) == [""] and found.bound[0] == "memory"
    assert 2e-5 < found.time[0] < 6e-5


def pm_fitted():
    from perfmodel.library.fitted import FITTED

    return FITTED


def test_a_name_that_is_taken_is_refused(operations: None):
    pm.add_kernel(Transpose)
    pm.add_kernel(Transpose)
    with pytest.raises(InputError, match="there is an operation 'gemm' already"):
        pm.add_kernel(OtherGemm)


def test_an_installed_plug_in_adds_its_operations(
    operations: None, monkeypatch: pytest.MonkeyPatch
):
    point = SimpleNamespace(
        name="mine", value="mine:register", load=lambda: lambda: pm.add_kernel(Transpose)
    )
    monkeypatch.setattr(registry.importlib.metadata, "entry_points", lambda group: [point])
    groups, errors = groups_of(CELLS, 1)
    assert not errors[0] and groups[0].key.op == "transpose"


def test_a_plug_in_that_fails_is_named(operations: None, monkeypatch: pytest.MonkeyPatch):
    def fails():
        raise RuntimeError("no licence\nfound")

    point = SimpleNamespace(name="mine", value="mine:register", load=lambda: fails)
    monkeypatch.setattr(registry.importlib.metadata, "entry_points", lambda group: [point])
    with pytest.raises(
        InputError, match=r"the plug-in mine \(mine:register\) fails: no licence found"
    ):
        groups_of(CELLS, 1)
