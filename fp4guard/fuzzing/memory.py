"""`mem`, as a target sees it: named tensors in guarded memory, filled from the case."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from .. import oracle
from ..checks.outputs import ORACLE_DTYPES, OtherShape
from ..errors import UsageError
from ..formats import MXFP4, NVFP4, BlockFormat, BlockScaled
from ..formats.rounding import OUTPUT_TYPES
from ..memory import PLAIN, Layout, Memory, Poison, Region, Role, unwatched
from ..memory.region import zeros
from ..oracle import generate
from .asked import INTEGERS, check, check_range, check_type
from .case import Case

#: The formats of dense tensors that the data regimes know.
_DENSE = {
    torch.float32: "float32",
    torch.bfloat16: "bfloat16",
    torch.float16: "float16",
    torch.float8_e4m3fn: "e4m3",
    torch.float8_e5m2: "e5m2",
    torch.float8_e4m3fnuz: "e4m3fnuz",
    torch.float8_e5m2fnuz: "e5m2fnuz",
}


@dataclass(frozen=True, slots=True)
class Operand:
    """A guarded block-scaled matrix: `codes` uint8 [rows, k], of four-bit elements [rows, k/2], low nibble first;
    `scales` uint8 [rows, ceil(k / length)].

    `matrix` is the same data in numpy, for the oracle.
    """

    codes: torch.Tensor
    scales: torch.Tensor
    matrix: BlockScaled


class CaseMemory(Memory):
    """The memory of one run of a case.

    The data depend on the case and on a tensor's name alone, so every run of a case sees the same; `cache` keeps them
    between runs. Tensors of one name are called `name`, `name#2`, ... in their order, and have data of their own.
    `layouts` says which layouts a tensor may take: `PLAIN` for kernels that assume contiguous tensors (the default),
    `ROWS` for those that take a row stride, `STRIDED` for those that take all strides, `WIDE_ROWS` and `WIDE` for those
    whose offsets are 64 bits wide as well.
    """

    def __init__(self, case: Case, poison: Poison, cache: dict[str, Any]) -> None:
        super().__init__(poison)
        self.case = case
        self._cache = cache
        self._drawn: dict[str, int] = {}
        self.expectations: dict[str, tuple[torch.Tensor, Any]] = {}
        self.outputs: dict[str, torch.Tensor] = {}
        self.originals: dict[str, np.ndarray[Any, Any]] = {}
        #: By region, uint8 [*storage.shape]: the bits that the expectations allow to be anything.
        self.left_open: dict[str, np.ndarray[Any, Any]] = {}

    def mxfp4(self, name: str, shape: tuple[int, int], layouts: Sequence[Layout] = PLAIN) -> Operand:
        """An MXFP4 input of the case's data regime. The scales are called `<name>_scales`.

        Raises UsageError when k is odd.
        """
        return self.block_scaled(name, shape, MXFP4, layouts)

    def nvfp4(self, name: str, shape: tuple[int, int], layouts: Sequence[Layout] = PLAIN) -> Operand:
        """An NVFP4 input of the case's data regime, of tensor scale 1; its scales are E4M3 bytes, as uint8.

        Raises UsageError when k is odd.
        """
        return self.block_scaled(name, shape, NVFP4, layouts)

    @unwatched
    def block_scaled(
        self, name: str, shape: tuple[int, int], format: BlockFormat, layouts: Sequence[Layout] = PLAIN
    ) -> Operand:
        """An input in any block format (`fp4guard.formats.BLOCK_FORMATS`). UsageError for an odd k of four-bit ones."""
        check("block_scaled", name, shape, layouts, axes=2)
        rows, k = shape
        if k % 2 and format.element.width == 4:
            raise UsageError(f"mem.block_scaled({name!r}, shape={shape}): {format.name} allows an even k")
        matrix = self._cached(name, lambda rng: generate.blocks(self.case.regime, rows, k, rng, format))
        codes = self.input(name, torch.from_numpy(matrix.codes.copy()), layouts)
        scales = self.input(f"{name}_scales", torch.from_numpy(matrix.scales.copy()), layouts)
        return Operand(codes, scales, matrix)

    @unwatched
    def quantizable(
        self,
        name: str,
        shape: tuple[int, ...],
        dtype: torch.dtype,
        format: BlockFormat = MXFP4,
        layouts: Sequence[Layout] = PLAIN,
    ) -> torch.Tensor:
        """An input of the case's data regime for a kernel that quantizes it to `format` along one of its last two axes.

        Raises UsageError unless `dtype` is float16, bfloat16 or float32.
        """
        check("quantizable", name, shape, layouts)
        kind = str(dtype).removeprefix("torch.")
        if kind not in OUTPUT_TYPES:
            raise UsageError(f"mem.quantizable({name!r}, dtype={dtype}): allowed are {', '.join(OUTPUT_TYPES)}")

        def make(rng: np.random.Generator) -> torch.Tensor:
            return torch.from_numpy(generate.quantizable(self.case.regime, shape, kind, rng, format)).to(dtype)

        return self.input(name, self._cached(name, make), layouts)

    @unwatched
    def tensor(
        self, name: str, shape: tuple[int, ...], dtype: torch.dtype, layouts: Sequence[Layout] = PLAIN
    ) -> torch.Tensor:
        """An input of the case's data regime (float8 to float32), or of any values (integers)."""
        check("tensor", name, shape, layouts)
        if dtype in _DENSE:
            kind = _DENSE[dtype]
            values = self._cached(
                name,
                lambda rng: torch.from_numpy(generate.dense(self.case.regime, shape, kind, rng)).to(dtype),
            )
        elif dtype in INTEGERS:
            info = torch.iinfo(dtype)
            return self.integers(name, shape, info.min, info.max, dtype, layouts)
        else:
            allowed = ", ".join(str(known).removeprefix("torch.") for known in (*_DENSE, *INTEGERS))
            raise UsageError(
                f"mem.tensor({name!r}, dtype={dtype}): allowed are {allowed}; give other data to mem.input"
            )
        return self.input(name, values, layouts)

    @unwatched
    def integers(
        self,
        name: str,
        shape: tuple[int, ...],
        low: int,
        high: int,
        dtype: torch.dtype = torch.int32,
        layouts: Sequence[Layout] = PLAIN,
    ) -> torch.Tensor:
        """An input of integers from `low` to `high`, both included: indices, lengths.

        Raises UsageError when there is none, or `dtype` does not hold them all.
        """
        check("integers", name, shape, layouts)
        check_range(name, low, high, dtype)

        def make(rng: np.random.Generator) -> torch.Tensor:
            return torch.from_numpy(rng.integers(low, high, shape, endpoint=True)).to(dtype)

        return self.input(name, self._cached(name, make), layouts)

    @unwatched
    def input(self, name: str, values: Any, layouts: Sequence[Layout] = PLAIN, undefined: Any = None) -> torch.Tensor:
        """An input that holds a copy of a tensor or array. It must not change while the target runs.

        `undefined` bool [*shape] marks elements whose content the contract leaves open, such as padding: they are
        poison, and the outputs must not depend on them. Raises UsageError when it has another shape.
        """
        check("input", name, (), layouts)
        try:
            values = (
                values if isinstance(values, torch.Tensor) else torch.as_tensor(np.require(values, requirements="W"))
            )
        except (TypeError, ValueError) as error:
            raise UsageError(f"mem.input({name!r}, {type(values).__name__}): {str(error).splitlines()[0]}") from None
        mask = None if undefined is None else np.asarray(undefined)
        if mask is not None and (mask.shape != tuple(values.shape) or mask.dtype != bool):
            raise UsageError(
                f"mem.input({name!r}, undefined={mask.dtype} {mask.shape}): allowed is bool {tuple(values.shape)}"
            )
        region = self.place(name, Role.INPUT, values, self._layout(name, layouts), mask)
        self.remember(region)
        return region.tensor

    def remember(self, region: Region) -> None:
        """Keep what an input holds, to see afterwards that it still does."""
        self.originals[region.name] = region.bits()

    @unwatched
    def output(
        self,
        name: str,
        shape: tuple[int, ...],
        dtype: torch.dtype,
        layouts: Sequence[Layout] = PLAIN,
        fill: float | None = None,
    ) -> torch.Tensor:
        """An output, which the target must write wholly; `fill` gives it a value first (a buffer that is added to)."""
        check("output", name, shape, layouts)
        check_type("output", name, dtype)
        region = self.empty(name, Role.OUTPUT, tuple(shape), dtype, self._layout(name, layouts))
        tensor = region.tensor
        if fill is not None:
            try:
                tensor.fill_(fill)
            except (TypeError, RuntimeError):
                raise UsageError(
                    f"mem.output({name!r}, fill={fill!r}): allowed is a number that torch fills {dtype} with"
                ) from None
            region.seal()
        self.outputs[region.name] = tensor
        return tensor

    def scratch(
        self, name: str, shape: tuple[int, ...], dtype: torch.dtype, layouts: Sequence[Layout] = PLAIN
    ) -> torch.Tensor:
        """Uninitialised working memory: what is left in it does not matter, what is read before it is written does."""
        check("scratch", name, shape, layouts)
        check_type("scratch", name, dtype)
        return self.empty(name, Role.SCRATCH, tuple(shape), dtype, self._layout(name, layouts)).tensor

    @unwatched
    def expect(self, tensor: torch.Tensor, expected: Any) -> None:
        """Say what a tensor must hold when the target returns: an `oracle` result, or a tensor or array of values.

        The tensor may be an output of `mem` or one that the code under test returned. `oracle.ExpectedCodes` are for
        tensors of one byte an element; what they leave open need not be written. A tensor that the code under test has
        made may have another shape, which is a finding.

        Raises UsageError when an input or output of `mem` has another shape, when the tensor's type does not suit, or
        nothing is given.
        """
        if not isinstance(tensor, torch.Tensor):
            raise UsageError(f"mem.expect({type(tensor).__name__}, expected): allowed is a tensor")
        shape = getattr(expected, "shape", None)
        if shape is None or tuple(shape) != tuple(tensor.shape):
            of_mem = self.region_of(tensor, "result").role in (Role.INPUT, Role.OUTPUT)
            if shape is None or of_mem:
                raise UsageError(
                    f"mem.expect(tensor, expected={type(expected).__name__} of shape {shape}): allowed is what has the "
                    f"tensor's shape, {tuple(tensor.shape)}"
                )
            expected = OtherShape(tuple(shape))
        elif isinstance(expected, oracle.ExpectedCodes):
            self._leave_open(tensor, expected)
        elif tensor.dtype not in ORACLE_DTYPES and isinstance(expected, oracle.Expected):
            raise UsageError(
                f"mem.expect(tensor, expected=Expected): the tensor is {tensor.dtype}; allowed are "
                f"{', '.join(map(str, ORACLE_DTYPES))}, or a tensor or array of exact values"
            )
        elif tensor.dtype in ORACLE_DTYPES and not isinstance(expected, oracle.Expected):
            try:
                expected = oracle.exactly(expected)
            except TypeError as error:
                raise UsageError(f"mem.expect(tensor, expected): {error}") from None
        name = base = self._label(tensor)
        count = 1
        while name in self.expectations:
            count += 1
            name = f"{base}#{count}"
        self.expectations[name] = (tensor, expected)

    def _leave_open(self, tensor: torch.Tensor, expected: oracle.ExpectedCodes) -> None:
        if tensor.dtype is torch.bool or tensor.dtype.itemsize != 1:
            raise UsageError(
                f"mem.expect(tensor, expected=ExpectedCodes): the tensor is {tensor.dtype}; allowed are torch.uint8 "
                "and other types of one byte"
            )
        if expected.left_open.any():
            region = self.region_of(tensor, "result")
            held = self.left_open.setdefault(region.name, zeros(len(region.storage)))
            region.select(tensor, held)[..., 0] |= expected.left_open

    def _label(self, tensor: torch.Tensor) -> str:
        """What a tensor is called: by its region, and a part of one as such."""
        region = self.region_of(tensor, "result")
        if region.role is Role.FOREIGN or (region.tensor.data_ptr(), region.shape) == (
            tensor.data_ptr(),
            tuple(tensor.shape),
        ):
            return region.name
        return f"{region.name}, a view"

    def _layout(self, name: str, layouts: Sequence[Layout]) -> Layout:
        if self.case.layout == 0:
            return layouts[0]
        return layouts[_hash(f"{name}/{self.case.layout}") % len(layouts)]

    def _cached(self, name: str, make: Any) -> Any:
        count = self._drawn[name] = self._drawn.get(name, 0) + 1
        key = name if count == 1 else f"{name}#{count}"
        if key not in self._cache:
            try:
                self._cache[key] = make(np.random.default_rng([self.case.seed, _hash(key)]))
            except ValueError as error:
                raise UsageError(f"mem: data for {name!r}: {error}") from None
        return self._cache[key]


def _hash(text: str) -> int:
    """The same in every process, unlike hash()."""
    return zlib.crc32(text.encode())
