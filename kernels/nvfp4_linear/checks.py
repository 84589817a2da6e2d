"""Checks of tensors that the launchers share. Each error names the argument, its value and what is allowed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch


def check_tensor(
    name: str, tensor: torch.Tensor, dtypes: Sequence[torch.dtype], ndim: int, device: torch.device
) -> None:
    """TypeError for another dtype; ValueError for another rank or device, and for strides that are not positive."""
    if tensor.dtype not in dtypes:
        raise TypeError(f"{name} is {tensor.dtype}; allowed: {', '.join(map(str, dtypes))}")
    if tensor.ndim != ndim:
        raise ValueError(f"{name} has shape {tuple(tensor.shape)}; allowed: {ndim} dimensions")
    if tensor.device != device:
        raise ValueError(f"{name} is on {tensor.device}; allowed: {device}, where the first argument is")
    # The stride of a dimension of size 1 is never used, and torch lets it be anything.
    if any(stride <= 0 for stride, size in zip(tensor.stride(), tensor.shape, strict=True) if size > 1):
        raise ValueError(f"{name} has strides {tensor.stride()}; allowed: positive ones (no expanded dimension)")


def check_shape(name: str, tensor: torch.Tensor, allowed: tuple[int, ...], why: str) -> None:
    """ValueError for another shape."""
    if tuple(tensor.shape) != allowed:
        raise ValueError(f"{name} has shape {tuple(tensor.shape)}; allowed: {allowed}, {why}")


def check_scalar(name: str, tensor: torch.Tensor, dtypes: Sequence[torch.dtype], device: torch.device) -> None:
    """TypeError for another dtype; ValueError unless it is one element on `device`."""
    if tensor.dtype not in dtypes:
        raise TypeError(f"{name} is {tensor.dtype}; allowed: {', '.join(map(str, dtypes))}")
    if tensor.numel() != 1:
        raise ValueError(f"{name} has shape {tuple(tensor.shape)}; allowed: one element")
    if tensor.device != device:
        raise ValueError(f"{name} is on {tensor.device}; allowed: {device}, where the first argument is")


def check_output(name: str, tensor: torch.Tensor, inputs: Mapping[str, torch.Tensor]) -> None:
    """ValueError where elements of a matrix overlap each other, or its memory that of an input."""
    # Ordered by stride, each dimension must step over all of the one below.
    (inner, inner_size), (outer, outer_size) = sorted(zip(tensor.stride(), tensor.shape, strict=True))
    if inner_size > 1 and outer_size > 1 and outer <= inner * (inner_size - 1):
        shape = tuple(tensor.shape)
        raise ValueError(f"{name} has strides {tensor.stride()} for shape {shape}; allowed: no overlapping elements")
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
