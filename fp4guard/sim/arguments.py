"""What a launch gives a kernel, as the machine holds it: addresses, numbers, and the parts of tensor descriptors."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch

from ..errors import UnsupportedError
from ..memory import Memory
from ..ttir import Compiled, Type
from .addresses import base_address
from .elements import Array, element_of


def expanded(
    arguments: Sequence[tuple[int, Type]], compiled: Compiled, bound: Mapping[str, Any]
) -> list[tuple[int, Type, str, Any]]:
    """Slot, type, parameter's name and value of every argument of the function."""
    types = iter(arguments)
    found = []
    for name, value in zip(compiled.parameters, compiled.given(bound)):
        slot, type_ = next(types)
        if not is_descriptor(value):
            found.append((slot, type_, name, value))
            continue
        first = value if type_.element == "tensordesc" else value.base
        found.append((slot, type_, name, first))
        for part in _parts(value, type_):
            place, kind = next(types)
            found.append((place, kind, name, part))
    return found


def is_descriptor(value: Any) -> bool:
    """Whether an argument is a tensor descriptor: Triton's own, or one of Gluon's, which have a class for each GPU."""
    return type(value).__name__ == "TensorDescriptor" and type(value).__module__.startswith("triton.")


def _parts(descriptor: Any, first: Type) -> Iterator[Any]:
    """What stands behind a descriptor's first argument.

    On NVIDIA that is the descriptor itself, and its shape and strides are for the kernel to read. On AMD it is the
    pointer: everything follows once for accesses, and once more for the kernel to read.
    """
    if first.element != "tensordesc":
        yield from (*descriptor.shape, *descriptor.strides)
        yield descriptor.padding == "nan"
        if hasattr(descriptor, "round_f32_to_tf32"):  # since Triton 3.7
            yield descriptor.round_f32_to_tf32
    yield from (*descriptor.shape, *descriptor.strides)


def held_argument(memory: Memory, name: str, type_: Type, value: Any) -> Array:
    """The value of a slot. A tensor that is in no region of the memory becomes one, called `name`."""
    if type_.element == "ptr":
        tensor = tensor_of(name, value)
        region = memory.region_of(tensor, name)
        # Not data_ptr(), which is 0 for a tensor of no elements.
        start = tensor.untyped_storage().data_ptr() + tensor.storage_offset() * tensor.element_size()
        offset = start - region.address if len(region.storage) else 0
        return np.array([base_address(region.number) + offset], np.int64)
    if type_.element == "tensordesc":
        start = held_argument(memory, name, Type("ptr"), value.base)[0]
        return np.array([[start, *value.shape, *value.strides, value.padding == "nan"]], np.int64)
    return np.array([value]).astype(element_of(type_).held)


def tensor_of(name: str, value: Any) -> torch.Tensor:
    """The tensor behind a pointer: itself, or what `triton.reinterpret` and the like have wrapped."""
    inner = value
    while not isinstance(inner, torch.Tensor):
        inner = getattr(inner, "base", None)
        if inner is None:
            raise UnsupportedError(f"the argument {name} of type {type(value).__name__} as a pointer")
    return inner
