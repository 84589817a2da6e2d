"""The exact product of two matrices, block-scaled or dense."""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from fp4guard.formats import MXFP4
from fp4guard.oracle.certificate import FP32, Accumulator, certify, fragile
from fp4guard.oracle.expected import Expected
from fp4guard.oracle.operand import Bools, Float64, Matrix, Operand, from_dense, from_mx, mx


def gemm(a: Matrix, b: Matrix, accumulator: Accumulator = FP32) -> Expected:
    """The expected result of `decode(a) @ decode(b).T`: a is (m, k), b is (n, k), the result (m, n).

    An operand is an MXFP4, anything with an attribute `mx` that is one, or a dense 2-D matrix: a
    torch.Tensor (float16, bfloat16, float32) or a numpy array. Products of two MXFP4 matrices are cached by
    their identity.

    NaN and Inf are IEEE 754's, order aside: an output is NaN where a NaN takes part, a scale byte 255
    included, whatever it is multiplied by (0 * NaN = NaN); where 0 * Inf does; and where +Inf and -Inf
    meet. Otherwise an output in which Inf takes part is that Inf.

    Raises TypeError for other operands, ValueError where a dense one is not 2-D or the two k differ.
    """
    mx_a, mx_b = mx(a), mx(b)
    if mx_a is not None and mx_b is not None:
        return _gemm_mx(mx_a, mx_b, accumulator)
    left = from_dense(a, "a") if mx_a is None else from_mx(mx_a)
    right = from_dense(b, "b") if mx_b is None else from_mx(mx_b)
    return _gemm(left, right, accumulator)


@lru_cache(maxsize=8)
def _gemm_mx(a: MXFP4, b: MXFP4, accumulator: Accumulator) -> Expected:
    # The fuzzer asks several times a case with the same two matrices, which are immutable.
    return _gemm(from_mx(a), from_mx(b), accumulator)


def _gemm(a: Operand, b: Operand, accumulator: Accumulator) -> Expected:
    if a.values.shape[1] != b.values.shape[1]:
        raise ValueError(f"b: k = {b.values.shape[1]}; a has k = {a.values.shape[1]} (b is given as (n, k))")
    value = a.values @ b.values.T
    certificate = certify(a, b, value, accumulator)
    nan = a.nan_rows[:, None] | b.nan_rows[None, :]
    bound, unconstrained = certificate.bound, certificate.unconstrained
    if a.infinities is not None or b.infinities is not None:
        value, invalid = _with_infinities(a, b, value)
        bound = np.where(np.isinf(value), 0.0, bound)
        nan |= invalid
        unconstrained = unconstrained | _infinity_meets_fragile(a, b)
    return Expected(value, bound, nan, unconstrained)


def _with_infinities(a: Operand, b: Operand, value: Float64) -> tuple[Float64, Bools]:
    """`value` with the Infs of the operands put in, and where they make a NaN.

    Signs stand for the factors: a product of two is +Inf or -Inf where one of them is infinite and neither
    is 0.
    """
    inf_a, inf_b = _signs_of_infinities(a), _signs_of_infinities(b)
    sign_a, sign_b = np.sign(a.values) + inf_a, np.sign(b.values) + inf_b
    products = np.abs(inf_a) @ np.abs(sign_b).T + np.abs(sign_a) @ np.abs(inf_b).T - np.abs(inf_a) @ np.abs(inf_b).T
    balance = inf_a @ sign_b.T + sign_a @ inf_b.T - inf_a @ inf_b.T
    zero_times_inf = np.abs(inf_a) @ (sign_b == 0).T + (sign_a == 0) @ np.abs(inf_b).T
    opposed = np.abs(balance) < products
    return np.where(products > 0, np.copysign(np.inf, balance), value), opposed | (zero_times_inf > 0)


def _infinity_meets_fragile(a: Operand, b: Operand) -> Bools:
    """Where an Inf meets a number that a kernel may flush to 0, which makes a NaN of it."""
    inf_a, inf_b = np.abs(_signs_of_infinities(a)), np.abs(_signs_of_infinities(b))
    met: Bools = inf_a @ fragile(b.values).T + fragile(a.values) @ inf_b.T > 0
    return met


def _signs_of_infinities(operand: Operand) -> Float64:
    return np.zeros_like(operand.values) if operand.infinities is None else operand.infinities
