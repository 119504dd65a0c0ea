"""A chip: cores, peak rates, four memory tiers, links, power, area, price."""

import dataclasses
from collections.abc import Iterable
from typing import Any, Literal

import equinox as eqx

from perfmodel.errors import InputError
from perfmodel.hardware.memory import Memory
from perfmodel.hardware.network import TOPOLOGIES, Network
from perfmodel.hardware.parameters import Anchor, Efficiency
from perfmodel.resources import Resources
from perfmodel.roofline import AbstractMachine
from perfmodel.trees import replace
from perfmodel.units import Scalar, as_scalar
from perfmodel.xla import Label

Execution = Literal["launched", "scheduled", "dataflow"]


def as_scalars(values: dict[str, Any]) -> dict[str, Scalar]:
    """A table of numbers as traced numbers of the default precision."""
    return {name: as_scalar(value) for name, value in values.items()}


MATRIX_ROWS = 16.0
"""Rows that a matrix unit multiplies at once (the m of NVIDIA's `mma.m16n8k16`; a tile of Intel's AMX)."""


class Chip(AbstractMachine):
    """One chip (or one wafer). The same form slides from H100 to LPU to WSE.

    - `cores`: that share nothing but the tiers below their private one.
    - `clock`: sustained, in 1/s.
    - `matrix`: peak rate of the matrix units by dtype, dense, in FLOP/s.
    - `matrix_rows`: of activations that these units multiply at once; 1 where vector units do it.
    - `vector`: peak rate of the vector units in fp32, in FLOP/s.
    - `exponential`: peak rate of exponentials, in 1/s.
    - `private`, `shared`, `main`, `far`: the memory tiers, fastest first.
    - `scale_up`, `scale_out`: the network within a domain, and between domains.
    - `matrix_energy`: of one FLOP by dtype, in J; `vector_energy`, `exponential_energy` likewise.
    - `idle_power`, `peak_power`: in W; `nan` and infinite where unknown.
    - `area`: of all compute dies, in m2; `price`: of one chip, in USD; `nan` where unknown.
    - `efficiency`: what is fitted: shares of peak rates, and latencies.
    - `execution`: `launched` (kernels and waves: GPU, TPU), `scheduled` (compiled in time and
      space, deterministic: LPU), `dataflow` (layers laid out in space: WSE, IPU, SN40L).
    """

    cores: Scalar = eqx.field(converter=as_scalar)
    clock: Scalar = eqx.field(converter=as_scalar)
    matrix: dict[str, Scalar] = eqx.field(converter=as_scalars)
    vector: Scalar = eqx.field(converter=as_scalar)
    exponential: Scalar = eqx.field(converter=as_scalar)
    private: Memory
    shared: Memory
    main: Memory
    far: Memory
    scale_up: Network
    scale_out: Network
    matrix_energy: dict[str, Scalar] = eqx.field(converter=as_scalars)
    vector_energy: Scalar = eqx.field(converter=as_scalar)
    exponential_energy: Scalar = eqx.field(converter=as_scalar)
    idle_power: Scalar = eqx.field(converter=as_scalar)
    peak_power: Scalar = eqx.field(converter=as_scalar)
    area: Scalar = eqx.field(converter=as_scalar)
    price: Scalar = eqx.field(converter=as_scalar)
    efficiency: Efficiency
    execution: Execution = eqx.field(static=True)
    name: Label = eqx.field(static=True, converter=Label)
    matrix_rows: float = eqx.field(static=True, default=MATRIX_ROWS)

    def rates(self, dtype: str) -> Resources:
        """Peak rate of each resource.

        **Raises:**

        - `InputError`: when the chip has no matrix rate for `dtype`.
        """
        return Resources(
            matrix=_of(self, self.matrix, dtype),
            vector=self.vector,
            exponential=self.exponential,
            private=self.private.bandwidth,
            shared=self.shared.bandwidth,
            main=self.main.bandwidth,
            far=self.far.bandwidth,
            network=self.scale_up.bandwidth,
            fabric=self.scale_out.bandwidth,
        )

    def energies(self, dtype: str) -> Resources:
        """Energy of one unit of each resource, in J."""
        return Resources(
            matrix=_of(self, self.matrix_energy, dtype),
            vector=self.vector_energy,
            exponential=self.exponential_energy,
            private=self.private.energy,
            shared=self.shared.energy,
            main=self.main.energy,
            far=self.far.energy,
            network=self.scale_up.energy,
            fabric=self.scale_out.energy,
        )

    @property
    def tiers(self) -> tuple[Memory, Memory, Memory, Memory]:
        """The memory tiers, fastest first."""
        return (self.private, self.shared, self.main, self.far)


def _of(chip: Chip, table: dict[str, Scalar], dtype: str) -> Scalar:
    if dtype not in table:
        raise InputError(
            f"{chip.name} lists no matrix rate for {dtype}; it has {', '.join(table) or 'none'}: "
            f"choose one of these, or add {dtype} with its source to the chip's file."
        )
    return table[dtype]


def with_anchor(chip: Chip, anchor: Anchor | None) -> Chip:
    """`chip` with factors on the times of a served model, or without any."""
    return dataclasses.replace(chip, efficiency=dataclasses.replace(chip.efficiency, anchor=anchor))


def restrict(chip: Chip, dtypes: Iterable[str]) -> Chip:
    """`chip` with the matrix rates of `dtypes` alone, so that chips can be stacked and compared.

    **Raises:**

    - `InputError`: when the chip has no matrix rate for one of them.
    """
    wanted = sorted(set(dtypes))
    matrix = {dtype: _of(chip, chip.matrix, dtype) for dtype in wanted}
    energy = {dtype: _of(chip, chip.matrix_energy, dtype) for dtype in wanted}
    return replace(lambda c: (c.matrix, c.matrix_energy), chip, (matrix, energy))


def without_topology(chip: Chip) -> Chip:
    """`chip` with networks of one form, so that chips whose links nothing is sent over can be stacked."""
    plain = [
        dataclasses.replace(network, topology=TOPOLOGIES[0], reduces=False)
        for network in (chip.scale_up, chip.scale_out)
    ]
    return replace(lambda c: (c.scale_up, c.scale_out), chip, tuple(plain))


def region(chip: Chip, share: Scalar) -> Chip:
    """A part of the cores of `chip` with its private memory and power, as dataflow machines use it.

    Shared, main and far memory and the links serve all regions and stay whole. All regions together
    draw no more than the chip may.

    **Arguments:**

    - `share`: of the cores, in (0, 1].
    """

    def parts(c: Chip) -> list[Any]:
        rates = [c.cores, c.vector, c.exponential, c.idle_power, c.peak_power]
        return [*rates, c.private.capacity, c.private.bandwidth]

    matrix = {dtype: rate * share for dtype, rate in chip.matrix.items()}
    part = replace(lambda c: c.matrix, chip, matrix)
    return replace(parts, part, [quantity * share for quantity in parts(chip)])
