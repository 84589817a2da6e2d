"""Checks of tensors that the launchers share. Each error names the argument, its value and what is allowed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch

# Indices of rows, columns and programs are 32-bit in the kernels, and a tile may reach past the edge.
MAX_EXTENT = 2**31 - 1024


def check_tensor(
    name: str,
    tensor: torch.Tensor,
    dtypes: Sequence[torch.dtype],
    shape: Sequence[int | str],
    device: torch.device,
) -> None:
    """TypeError for another dtype; ValueError for another shape, device, for strides that are not positive.

    A size of `shape` that is a name stands for any.
    """
    if tensor.dtype not in dtypes:
        raise TypeError(f"{name} is {tensor.dtype}; allowed: {', '.join(map(str, dtypes))}")
    sizes = tuple(tensor.shape)
    fits = len(sizes) == len(shape) and all(
        isinstance(allowed, str) or size == allowed for size, allowed in zip(sizes, shape, strict=True)
    )
    if not fits:
        allowed = ", ".join(map(str, shape)) + "," * (len(shape) == 1)
        raise ValueError(f"{name} has shape {sizes}; allowed: ({allowed})")
    if tensor.device != device:
        raise ValueError(f"{name} is on {tensor.device}; allowed: {device}, where the first argument is")
    # The stride of a dimension of size 1 is never used, and torch lets it be anything.
    if any(stride <= 0 for stride, size in zip(tensor.stride(), sizes, strict=True) if size > 1):
        raise ValueError(f"{name} has strides {tensor.stride()}; allowed: positive ones (no expanded dimension)")
    if any(size > MAX_EXTENT for size in sizes):
        raise ValueError(f"{name} has shape {sizes}; allowed: at most {MAX_EXTENT} each way")


def check_factors(name: str, tensor: torch.Tensor, shape: Sequence[int], device: torch.device) -> None:
    """The router's weights: as `check_tensor` for fp32, and ValueError unless contiguous, for slots number them."""
    check_tensor(name, tensor, (torch.float32,), shape, device)
    if not tensor.is_contiguous():
        raise ValueError(f"{name} has strides {tensor.stride()}; allowed: a contiguous tensor")


def check_output(name: str, tensor: torch.Tensor, inputs: Mapping[str, torch.Tensor]) -> None:
    """ValueError where elements overlap each other, or their memory that of an input."""
    used = sorted((stride, size) for stride, size in zip(tensor.stride(), tensor.shape, strict=True) if size > 1)
    reach = 0  # of the dimensions with smaller strides, each of which the next must step over
    for stride, size in used:
        if stride <= reach:
            shape = tuple(tensor.shape)
            raise ValueError(
                f"{name} has strides {tensor.stride()} for shape {shape}; allowed: elements that do not overlap"
            )
        reach += stride * (size - 1)
    start, end = _span(tensor)
    for other, given in inputs.items():
        if start < _span(given)[1] and _span(given)[0] < end:
            raise ValueError(f"{name} shares memory with {other}; allowed: memory of its own")


def _span(tensor: torch.Tensor) -> tuple[int, int]:
    """The addresses from the first byte of a tensor to beyond its last."""
    if tensor.numel() == 0:
        return 0, 0
    last = sum(stride * (size - 1) for stride, size in zip(tensor.stride(), tensor.shape, strict=True))
    return tensor.data_ptr(), tensor.data_ptr() + (last + 1) * tensor.element_size()
