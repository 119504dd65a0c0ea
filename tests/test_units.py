"""Units: SI inside, prefixes at the door, GB is 1e9."""

import jax
import jax.numpy as jnp
import pytest

from perfmodel.errors import InputError
from perfmodel.units import (
    PLAIN_UNITS,
    PREFIXED_UNITS,
    PREFIXES,
    as_scalar,
    as_values,
    figures,
    parse,
    show,
    to_si,
)


@pytest.mark.parametrize(
    ("unit", "size", "si"),
    [
        ("GB", 1e9, "byte"),
        ("GiB", 2**30, "byte"),
        ("MiB", 2**20, "byte"),
        ("TB/s", 1e12, "byte/s"),
        ("TFLOP/s", 1e12, "FLOP/s"),
        ("Texp/s", 1e12, "exp/s"),
        ("us", 1e-6, "s"),
        ("GHz", 1e9, "1/s"),
        ("pJ/B", 1e-12, "J/byte"),
        ("pJ/FLOP", 1e-12, "J/FLOP"),
        ("kW", 1e3, "W"),
        ("B", 1.0, "byte"),
        # 1 pJ/bit is 8 pJ/byte; 1 Mb is 125 kB, and 1 mm2 is 1e-6 m2.
        ("pJ/bit", 8e-12, "J/byte"),
        ("Mb/mm2", 1.25e11, "byte/m2"),
        ("MB/mm2", 1e12, "byte/m2"),
        ("mm2/(GB/s)", 1e-15, "m2/(byte/s)"),
        ("mm2/(TFLOP/s)", 1e-18, "m2/(FLOP/s)"),
        # 1 kWh is 3.6 MJ.
        ("USD/kWh", 1 / 3.6e6, "USD/J"),
        ("h", 3600.0, "s"),
    ],
)
def test_a_unit_has_a_size_and_measures_something(unit: str, size: float, si: str):
    assert parse(unit)[0] == pytest.approx(size, rel=1e-15)
    assert parse(unit)[1] == si


def test_a_gigabyte_is_not_a_gibibyte():
    assert to_si(80.0, "GB", "byte") == 80e9
    assert to_si(80.0, "GiB", "byte") == 80 * 1024**3


def test_every_prefix_goes_with_every_base():
    for base, si in PREFIXED_UNITS.items():
        for prefix, size in PREFIXES.items():
            if prefix + base not in PLAIN_UNITS:
                assert parse(prefix + base) == (size, si)


@pytest.mark.parametrize("unit", ["", "G", "gb", "XB", "GB/h", "kilobyte"])
def test_an_unknown_unit_is_refused_with_those_allowed(unit: str):
    with pytest.raises(InputError, match="allowed are B, B/s"):
        parse(unit)


def test_a_unit_of_another_dimension_is_refused():
    with pytest.raises(InputError, match="'GB' measures byte, but byte/s is wanted"):
        to_si(1.0, "GB", "byte/s")


@pytest.mark.parametrize(
    ("value", "unit", "text"),
    [
        (3.35e12, "B/s", "3.35 TB/s"),
        (80e9, "B", "80 GB"),
        (1.5e-6, "s", "1.5 us"),
        (0.0, "s", "0 s"),
        (-2e3, "W", "-2 kW"),
        (1.0, "J", "1 J"),
    ],
)
def test_values_are_shown_with_the_prefix_that_suits_them(value: float, unit: str, text: str):
    assert show(value, unit) == text


def test_what_is_shown_reads_back_the_same():
    # Three digits are shown: half of the last is 0.5 %.
    for value in (1.234e-14, 5.67e-7, 0.0899, 3.3, 1e3, 4.56e8, 7.89e16):
        number, unit = show(value, "B").split()
        assert to_si(float(number), unit, "byte") == pytest.approx(value, rel=5e-3)


def test_a_plain_number_becomes_one_that_has_a_gradient(precision: str):
    assert as_scalar(3).dtype == as_values([1, 2]).dtype == jnp.dtype(precision)
    assert as_scalar(3).shape == ()
    assert jax.grad(lambda x: as_scalar(x) ** 2)(3.0) == 6.0


@pytest.mark.parametrize(
    ("value", "digits", "said"),
    [(21991.4, 4, "21,991"), (2.8841, 4, "2.884"), (999.5, 3, "1,000"), (0.0, 4, "0")],
)
def test_figures_have_no_exponent_where_they_are_large(value: float, digits: int, said: str):
    assert figures(value, digits) == said
