"""Findings from the tensors: unwritten outputs, changed inputs, disturbed red zones, poison in the outputs, numbers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch

from .. import oracle
from ..memory import Region
from .finding import Finding
from .record import Checked, Record

Mask = np.ndarray[Any, np.dtype[np.bool_]]

#: Outputs of these are held against an `oracle.Expected`, all others against exact values.
ORACLE_DTYPES = (torch.float32, torch.bfloat16, torch.float16)


@dataclass(frozen=True, slots=True)
class OtherShape:
    """What is expected has another shape than the tensor, which the code under test has made: it is wrong as such."""

    shape: tuple[int, ...]


def _place(mask: Mask) -> str:
    """`3 / 12 elements (25.0%), first at [0, 3]`."""
    first = [int(i) for i in np.argwhere(mask)[0]]
    return f"{int(mask.sum())} / {mask.size} elements ({mask.mean():.1%}), first at {first}"


def _tensor_row(record: Record, name: str) -> tuple[str, str]:
    return "tensor", f"{name} {record.memory.named(name).describe()}"


def _once(record: Record) -> dict[str, Checked]:
    """What is checked, but of several views of one region the first: outputs come before what is expected of them."""
    first: dict[str, str] = {}
    for name, checked in record.checked.items():
        first.setdefault(checked.region, name)
    return {name: record.checked[name] for name in first.values()}


def unwritten(first: Record, second: Record) -> list[Finding]:
    """Outputs with elements that no store reached, and that hold the poison in both runs."""
    found = []
    for name, checked in _once(first).items():
        other = second.checked.get(name)
        if other is None or other.unwritten.shape != checked.unwritten.shape:
            continue
        region = first.memory.named(checked.region)
        mask = checked.unwritten & other.unwritten
        # Code that writes around torch (numpy, a C extension) leaves no trace in the shadow, but it does in the bytes.
        mask &= _holds_poison(first, region, checked) & _holds_poison(second, second.memory.named(other.region), other)
        if mask.any():
            rows = (_tensor_row(first, region.name), ("where", _place(mask)))
            found.append(Finding("unwritten-output", f"`{name}` is not wholly written", region.name, rows=rows))
    return found


def _holds_poison(record: Record, region: Region, checked: Checked) -> Mask:
    if checked.bits.shape != region.shape or not checked.unwritten.any():
        return checked.unwritten
    return region.holds(record.poison)


def modified_inputs(record: Record) -> list[Finding]:
    """Inputs whose bits are not what they were; the store is named where the simulator saw it."""
    found = []
    for name, original in record.originals.items():
        region = record.memory.named(name)
        changed = (region.elements(region.storage) != original).any(axis=-1)
        if not changed.any():
            continue
        rows = [_tensor_row(record, name), ("where", _place(changed))]
        stores = [i for i in record.trace.of_kind("input-write") if i.region is region]
        location = stores[0].site.location if stores else None
        if location is not None:
            rows.insert(0, ("kernel", f"{location}   {location.source}"))
        found.append(
            Finding(
                "input-modified",
                f"the input `{name}` was changed",
                name,
                location.file if location else None,
                location.line if location else None,
                location.column if location else None,
                tuple(stores[0].programs) if stores else (),
                rows=tuple(rows),
            )
        )
    return found


def disturbed_red_zones(first: Record, second: Record) -> list[Finding]:
    """Red zones that changed though no store of a kernel was seen: code on the host wrote there.

    Both runs are looked at: what was written may be what the poison of one of them is.
    """
    found = _disturbed(first)
    return found + [f for f in _disturbed(second) if f.tensor not in {one.tensor for one in found}]


def _disturbed(record: Record) -> list[Finding]:
    found = []
    for region in record.memory.regions:
        offsets = region.disturbed(record.poison)
        if len(offsets):
            low, high = int(offsets[0]) - region.base, int(offsets[-1]) - region.base
            rows = (
                ("tensor", f"{region.name} {region.describe()}"),
                ("where", f"{len(offsets)} bytes of the red zones, {low:+d}..{high:+d}"),
            )
            headline = f"code on the host writes `{region.name}` outside its elements"
            found.append(Finding("oob-write", headline, region.name, offset=low, rows=rows))
    return found


def poison_dependent(record: Record, changed: Mapping[str, Mask], kind: str) -> list[Finding]:
    """Outputs that differ between two runs, when no operation of a kernel accounts for it."""
    headlines = {
        "poison-dependent": "`{}` changes with bytes that are no input",
        "nondeterministic": "`{}` differs between two runs of the same case with the same poison",
    }
    found = []
    once = _once(record)
    for name, mask in changed.items():
        if name in once:
            region = once[name].region
            rows = (_tensor_row(record, region), ("where", _place(mask)))
            found.append(Finding(kind, headlines[kind].format(name), region, rows=rows))
    return found


def wrong_values(record: Record, unstable: Mapping[str, Mask]) -> list[Finding]:
    """Outputs that are not as expected, and padding of theirs that is not.

    Elements that change with the poison are reported as such, not here.
    """
    found = []
    for name, expected in record.expectations.items():
        checked = record.checked[name]
        tensor, stable = _tensor_row(record, checked.region), unstable.get(name)
        values: str | None
        if isinstance(expected, OtherShape):
            values, padding = f"their shape is {checked.bits.shape}; it has to be {expected.shape}", None
        elif isinstance(expected, oracle.ExpectedCodes):
            values, padding = _compare_codes(checked, expected, stable)
        else:
            values, padding = _compare(checked, expected, stable), None
        if values is not None:
            headline = f"`{name}` is not what it has to be"
            found.append(Finding("wrong-value", headline, checked.region, rows=(tensor, ("values", values))))
        if padding is not None:
            headline = f"the padding of `{name}` does not hold what it has to"
            offset = _offset(record.memory.named(checked.region), checked, padding.index)
            rows = (tensor, ("padding", str(padding)))
            found.append(Finding("padding-content", headline, checked.region, offset=offset, rows=rows))
    return found


def _compare_codes(
    checked: Checked, expected: oracle.ExpectedCodes, unstable: Mask | None
) -> tuple[str | None, oracle.PaddingMismatch | None]:
    """What is wrong with the codes, as text, and with the padding."""
    bits = checked.bits if unstable is None else np.where(unstable, expected.stored, checked.bits)
    mismatch = oracle.compare(bits, str(checked.dtype).removeprefix("torch."), expected)
    if mismatch is None:
        return None, None
    return None if mismatch.codes is None else str(mismatch.codes), mismatch.padding


def _offset(region: Region, checked: Checked, index: tuple[int, ...]) -> int | None:
    """Where the byte at an index stands, counted from the region's first; None where a part of it was checked."""
    if checked.bits.shape != region.shape:
        return None
    return sum(i * stride for i, stride in zip(index, region.strides, strict=True))


def _compare(checked: Checked, expected: Any, unstable: Mask | None) -> str | None:
    """The mismatch as text; None when there is none."""
    dtype = str(checked.dtype).removeprefix("torch.")
    if checked.dtype not in ORACLE_DTYPES:
        return _compare_exactly(checked, expected, unstable)
    if not isinstance(expected, oracle.Expected):
        expected = oracle.exactly(expected)
    if unstable is not None:
        expected = replace(expected, nan=expected.nan & ~unstable, unconstrained=expected.unconstrained | unstable)
    mismatch = oracle.compare(checked.bits, dtype, expected)
    return None if mismatch is None else str(mismatch)


def _compare_exactly(checked: Checked, expected: Any, unstable: Mask | None) -> str | None:
    actual = _values(
        torch.from_numpy(checked.bits.reshape(-1).view(np.uint8)).view(checked.dtype).reshape(checked.bits.shape)
    )
    expected = _values(expected)
    wrong = (actual != expected) & ~((actual != actual) & (expected != expected))  # NaN is as expected of NaN
    if unstable is not None:
        wrong &= ~unstable
    if not wrong.any():
        return None
    first = tuple(int(i) for i in np.argwhere(wrong)[0])
    lines = [_place(wrong), f"expected {expected[first]}, got {actual[first]}", *oracle.places(wrong)]
    return "\n".join(line for line in lines if line is not None)


def _values(tensor: Any) -> np.ndarray[Any, Any]:
    """As numpy, floats of types that it does not have as float64."""
    if isinstance(tensor, torch.Tensor):
        return np.asarray((tensor.detach().double() if tensor.dtype.is_floating_point else tensor).cpu().numpy())
    return np.asarray(tensor)
