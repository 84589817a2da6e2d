"""The comparison for tests of one's own: a tensor against what is expected of it."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from fp4guard.formats.rounding import OUTPUT_TYPES
from fp4guard.oracle.comparison.compare import compare
from fp4guard.oracle.expected import Expected
from fp4guard.oracle.quantized import ExpectedCodes

_BITS = {1: torch.uint8, 2: torch.int16, 4: torch.int32}


def assert_matches(actual: torch.Tensor, expected: Expected | ExpectedCodes) -> None:
    """AssertionError, with what is wrong and where, unless `actual` is all that `expected` allows.

    float32, bfloat16 and float16 tensors are held against an Expected, tensors of one byte an element (uint8, the
    float8 types) against ExpectedCodes. Tensors of any device and strides.

    Raises TypeError for another object or dtype, ValueError for another shape.
    """
    if not isinstance(actual, torch.Tensor):
        raise TypeError(f"actual: {type(actual).__name__}; allowed is a torch.Tensor")
    if not isinstance(expected, Expected | ExpectedCodes):
        raise TypeError(
            f"expected: {type(expected).__name__}; allowed are Expected (of exact values: oracle.exactly(values)) and "
            "ExpectedCodes (of a Quantized: its .codes or its .scales)"
        )
    name = str(actual.dtype).removeprefix("torch.")
    if isinstance(expected, Expected) and name not in OUTPUT_TYPES:
        raise TypeError(f"actual: dtype {actual.dtype}; Expected allows {', '.join(OUTPUT_TYPES)}")
    if isinstance(expected, ExpectedCodes) and actual.element_size() != 1:
        raise TypeError(f"actual: dtype {actual.dtype}; ExpectedCodes allows types of one byte")
    bits: NDArray[np.integer] = actual.detach().cpu().contiguous().view(_BITS[actual.element_size()]).numpy()
    mismatch = compare(bits, name, expected)
    if mismatch is not None:
        raise AssertionError(str(mismatch))
