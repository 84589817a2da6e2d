"""FP4 number formats as data, with exact numpy codecs. Imports numpy alone and is useful by itself."""

from fp4guard.formats import e2m1, e8m0, fp8, packing, rounding, scalar, swizzle
from fp4guard.formats.info import (
    BFLOAT16,
    E2M1,
    E4M3,
    E4M3FNUZ,
    E5M2,
    E5M2FNUZ,
    E8M0,
    FLOAT16,
    FLOAT32,
    FloatFormat,
)
from fp4guard.formats.mx import BLOCK, MXFP4, quantize, scale_byte_scalar, scale_bytes
from fp4guard.formats.packing import decode_packed, pack, unpack
from fp4guard.formats.policies import (
    NanBlock,
    NanElement,
    NibbleOrder,
    Rounding,
    ScaleDecode,
    ScaleRule,
    ZeroBlock,
)
from fp4guard.formats.rounding import Rounded, from_bits, round_to
from fp4guard.formats.swizzle import shuffle_scales, shuffled_offset, unshuffle_scales

__all__ = [
    "BFLOAT16",
    "BLOCK",
    "E2M1",
    "E4M3",
    "E4M3FNUZ",
    "E5M2",
    "E5M2FNUZ",
    "E8M0",
    "FLOAT16",
    "FLOAT32",
    "MXFP4",
    "FloatFormat",
    "NanBlock",
    "NanElement",
    "NibbleOrder",
    "Rounded",
    "Rounding",
    "ScaleDecode",
    "ScaleRule",
    "ZeroBlock",
    "decode_packed",
    "e2m1",
    "e8m0",
    "fp8",
    "from_bits",
    "pack",
    "packing",
    "quantize",
    "round_to",
    "rounding",
    "scalar",
    "scale_byte_scalar",
    "scale_bytes",
    "shuffle_scales",
    "shuffled_offset",
    "swizzle",
    "unpack",
    "unshuffle_scales",
]
