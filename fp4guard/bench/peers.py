"""How the work of `fp4guard.formats` is usually done: in eager torch, with gfloat, with ml_dtypes.

Written as users of these libraries write it. Each returns what ours returns, so that the tests can compare the two.
"""

from __future__ import annotations

import importlib
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from ..errors import UsageError

Float32 = NDArray[np.float32]
Pair = tuple[Any, Any]


def required(name: str) -> Any:
    """A module of a library that is measured against. UsageError where it is not installed."""
    try:
        return importlib.import_module(name)
    except ImportError:
        library = name.partition(".")[0]
        raise UsageError(f"{library}, which is measured against, is not installed: pip install {library}") from None


# -- ml_dtypes ------------------------------------------------------------------------------------------------------


def ml_dtypes_encode(values: Float32) -> NDArray[np.uint8]:
    """float32 to E2M1 codes, one a byte."""
    codes: NDArray[np.uint8] = values.astype(required("ml_dtypes").float4_e2m1fn).view(np.uint8)
    return codes


def ml_dtypes_decode(codes: NDArray[np.uint8]) -> Float32:
    """E2M1 codes, one a byte, to float32."""
    values: Float32 = codes.view(required("ml_dtypes").float4_e2m1fn).astype(np.float32)
    return values


# -- gfloat: whole arrays, as its `quantize_block` goes through them number by number in Python -----------------------


def gfloat_encode(values: Float32, name: str = "ocp_e2m1") -> NDArray[np.integer]:
    """float32 to codes."""
    gfloat, info = required("gfloat"), getattr(required("gfloat.formats"), f"format_info_{name}")
    codes: NDArray[np.integer] = gfloat.encode_ndarray(info, gfloat.round_ndarray(info, values, sat=True))
    return codes


def gfloat_mx(values: Float32) -> Pair:
    """MXFP4 codes and scale bytes of (rows, k), FLOOR; the scales are those of gfloat's compute_scale_amax."""
    blocks = values.reshape(len(values), -1, 32)
    amax = np.abs(blocks).max(axis=-1)
    exponents = np.clip(
        np.floor(np.log2(amax, where=amax > 0, out=np.full(amax.shape, -np.inf, np.float32))) - 2, -127, 127
    )
    scales = np.exp2(exponents)
    codes = gfloat_encode(blocks / scales[..., None])
    return _pack(codes.reshape(values.shape)), gfloat_encode(scales, "ocp_e8m0")


def gfloat_nvfp4(values: Float32, g: float) -> Pair:
    """NVFP4 codes and scale bytes of (rows, k), with the global scale `g`."""
    gfloat, info = required("gfloat"), required("gfloat.formats").format_info_ocp_e4m3
    blocks = values.reshape(len(values), -1, 16)
    g32 = np.float32(g)
    scales = np.abs(blocks).max(axis=-1) * (g32 * np.float32(1 / 6))
    scales = gfloat.round_ndarray(info, scales, sat=True)
    multiplier = 1 / (scales * (1 / g32))
    codes = gfloat_encode(blocks * multiplier[..., None])
    return _pack(codes.reshape(values.shape)), gfloat.encode_ndarray(info, scales)


def _pack(codes: NDArray[np.integer]) -> NDArray[np.uint8]:
    packed: NDArray[np.uint8] = (codes[..., 0::2] | codes[..., 1::2] << 4).astype(np.uint8)
    return packed


# -- torch: eager, on bits ------------------------------------------------------------------------------------------


def torch_mx(values: torch.Tensor) -> Pair:
    """MXFP4 codes and scale bytes of (rows, k), FLOOR: exponents from bits, a division, E2M1 by bits, two to a byte."""
    blocks = values.view(len(values), -1, 32)
    amax = blocks.abs().amax(-1)
    biased = ((amax.view(torch.int32) >> 23 & 0xFF) - 2).clamp(0, 254)
    scales = (biased << 23).view(torch.float32).clamp(min=2.0**-127)
    codes = torch_e2m1(blocks / scales.unsqueeze(-1)).view(values.shape)
    return codes[..., 0::2] | codes[..., 1::2] << 4, biased.to(torch.uint8)


def torch_nvfp4(values: torch.Tensor, g: float) -> Pair:
    """NVFP4 codes and scale bytes of (rows, k), with the global scale `g`."""
    blocks = values.view(len(values), -1, 16)
    g32 = torch.tensor(g, dtype=torch.float32)
    scales = blocks.abs().amax(-1) * (g32 * torch.tensor(1 / 6, dtype=torch.float32))
    rounded = scales.clamp(max=448).to(torch.float8_e4m3fn)
    multiplier = 1 / (rounded.to(torch.float32) * (1 / g32))
    codes = torch_e2m1(blocks * multiplier.unsqueeze(-1)).view(values.shape)
    return codes[..., 0::2] | codes[..., 1::2] << 4, rounded.view(torch.uint8)


def torch_e2m1(values: torch.Tensor) -> torch.Tensor:
    """float32 to E2M1 codes, ties to even: normal ones by adding to the bits, subnormal ones by adding a float."""
    bits = values.view(torch.int32)
    sign = (bits >> 28 & 8).to(torch.uint8)
    magnitude = bits & 0x7FFFFFFF
    single = magnitude.view(torch.float32)
    # 22 bits of the mantissa go. The bias goes from 127 to 1; half a unit less one, and one where the result is odd.
    normal = (magnitude - (126 << 23) + 0x1FFFFF + (magnitude >> 22 & 1)) >> 22
    # 2^22's last bit is worth 0.5, so that the sum rounds to it.
    subnormal = (single + 2.0**22).view(torch.int32) & 0x7
    codes = torch.where(single >= 6, 7, torch.where(single < 1, subnormal, normal)).to(torch.uint8)
    return codes | sign
