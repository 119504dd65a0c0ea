"""What every kernel is: its sizes, which are the columns of the kernel schema, and the count of its work."""

import abc
import dataclasses
from typing import Any, ClassVar

import equinox as eqx

from perfmodel.hardware.chip import Chip, restrict, without_topology
from perfmodel.roofline import Work
from perfmodel.units import Scalar, as_scalar
from perfmodel.workload.plan import CHOICES, Plan, narrowed

TOPOLOGY = "topology"
"""Of a chip's networks, among what a kernel reads."""


def column(default: float | str | None = None, words: tuple[str, ...] = ()) -> Any:
    """A field that is a column of the kernel schema: a number greater than zero, unless something else is
    said.

    **Arguments:**

    - `default`: what an empty cell means: a number, or the name of the column that it then equals.
    - `words`: choices, of which the number is the index; an empty cell means the first.
    """
    metadata = {"column": True, "default": default, "words": words}
    if words:
        return eqx.field(converter=as_scalar, default=0.0, metadata=metadata)
    if default is None:
        return eqx.field(converter=as_scalar, metadata=metadata)
    known = None if isinstance(default, str) else default
    return eqx.field(converter=_or_none, default=known, metadata=metadata)


def extra() -> Any:
    """A size that only whole models give; `None` where they do not."""
    return eqx.field(converter=_or_none, default=None)


def _or_none(value: Any) -> Scalar | None:
    return None if value is None else as_scalar(value)


def or_default(value: Scalar | None, otherwise: Any) -> Any:
    """A size, or what it is if it is not given."""
    return otherwise if value is None else value


class AbstractKernel(eqx.Module):
    """One kernel, or the few that one row of the kernel schema runs one after the other.

    - `op`: its word in the column `op`; `family`: of its fitted parameters.
    - `reads`: choices of a plan that it reads: names of its fields, or `MATRIX`; and `TOPOLOGY` where it
      reads the form of a chip's networks.
    - `wishes`: kinds of matrix unit that it multiplies in where a chip has them.
    """

    op: ClassVar[str]
    family: ClassVar[str]
    reads: ClassVar[tuple[str, ...]] = (*CHOICES, TOPOLOGY)
    wishes: ClassVar[frozenset[str]] = frozenset()

    @abc.abstractmethod
    def count(self, chip: Chip, plan: Plan) -> list[Work]:
        """What it asks of a chip."""

    @classmethod
    def rates(cls, plan: Plan) -> set[str]:
        """Kinds of matrix unit whose rates it asks a chip for."""
        return {"bf16", plan.format.matrix}

    @classmethod
    def sizes(cls) -> tuple[str, ...]:
        """Columns of numbers greater than zero."""
        return tuple(
            n for n, said in _columns(cls) if said["default"] is None and not said["words"]
        )

    @classmethod
    def options(cls) -> dict[str, float | str]:
        """Columns that may be empty, and what an empty cell means."""
        return {
            name: said["default"] for name, said in _columns(cls) if said["default"] is not None
        }

    @classmethod
    def words(cls) -> dict[str, tuple[str, ...]]:
        """Columns that choose, with the choices."""
        return {name: said["words"] for name, said in _columns(cls) if said["words"]}

    @classmethod
    def narrowed(cls, chip: Chip, plan: Plan) -> tuple[Chip, Plan]:
        """A chip and a plan without what is not read, so that those which differ in it alone share a
        compiled function.

        **Raises:**

        - `InputError`: when the chip has no matrix rate that is needed.
        """
        chip = restrict(chip, cls.rates(plan) | cls.wishes & set(chip.matrix))
        if TOPOLOGY not in cls.reads:
            chip = without_topology(chip)
        return chip, narrowed(plan, cls.reads)


def _columns(kind: type[AbstractKernel]) -> list[tuple[str, Any]]:
    fields = dataclasses.fields(kind)
    return [(field.name, field.metadata) for field in fields if field.metadata.get("column")]
