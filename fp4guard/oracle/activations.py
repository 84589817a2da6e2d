"""Transcendental steps: exponentials, activations, and how far a float32 implementation of them may be off.

A function f is evaluated at the ends of the interval in float64 (and at its extremum, where it has one inside), and the
result is widened by what the float32 implementation may err. The errors of the elementary functions are documented ones
(`Functions`); those of composed ones follow by forward error analysis, first order terms added up, with `_safe` for the
products of errors and float64's own. u = 2^-24 is the error of one float32 operation.

- exp(x), computed as 2^(x log2 e): the argument is rounded twice (the constant, the product), which moves the result by
  2 u |x|, relatively, beside the error of 2^y itself. CUDA's guide says the same of `__expf`: 2 + 1.173 |x| ulp.
- sigmoid(x) = 1 / (1 + E), E = exp(-x): an error d of E moves it by d E / (1 + E) = d sigmoid(-x), relatively; u for
  the sum, and the division's.
- silu(x) = x sigmoid(x) or x / (1 + E): u more for the multiplication, which the second form does not have.
- gelu(x) = x/2 (1 + erf(x / sqrt 2)): near -1 the function's error is an absolute one of the sum. The argument's two
  roundings and a division instead of a multiplication (5 u) move erf by |y| erf'(y) 5 u <= 0.484 * 5 u. Where that sum
  is 0, a kernel with erfc(-y) still has digits: its own error, and 2 y^2 (and a bit, 2 y^2 + 1) times the argument's.
- gelu's tanh form, y = sqrt(2/pi) (x + 0.044715 x^3): seven roundings, terms of one sign, |y| tanh'(y) <= 0.448. Where
  the sum is 0, a kernel with x sigmoid(2 y) still has digits, and the errors of a sigmoid.

exp(-x) overflows below x = -88.7, where x exp(x) is not yet subnormal: kernels give 0 there, so the interval holds it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch

from fp4guard.oracle.enclose import float32, flushed
from fp4guard.oracle.expected import Expected
from fp4guard.oracle.operand import Bools, Float64
from fp4guard.oracle.reach import MIN_NORMAL
from fp4guard.oracle.steps import NanOperand, add, clamp, minimum, multiply

_U = 2.0**-24
_ULP = 2.0**-23
"""An error of one ulp is at most this, relatively."""


@dataclass(frozen=True)
class Functions:
    """Largest relative errors of a float32 implementation's elementary functions: a policy."""

    exp: float = 3 * _ULP
    """Of 2^y, the argument's rounding aside. PTX ISA: ex2.approx.f32, 2^-22. CUDA C++ Programming Guide: expf and
    exp2f, 2 ulp (1 in later releases). numpy's vectorised float32 exp: 2.52 ulp."""
    divide: float = 2 * _ULP
    """PTX ISA: div.full.f32, which `/` of float32 is in Triton, 2 ulp; rcp.approx.f32 and a product, less."""
    tanh: float = 3 * _ULP
    """CUDA guide: tanhf, 2 ulp. numpy's: about 2.5."""
    erf: float = 3 * _ULP
    """CUDA guide: erff, 2 ulp."""


TRITON = Functions()
"""What Triton's operations and libdevice are on NVIDIA GPUs, and numpy's float32 functions."""
TANH_APPROX = Functions(tanh=2.0**-11)
"""With tanh.approx.f32: PTX ISA, 2^-11."""

SILU_EXTREMUM = (-1.2784645427610738, -0.2784645427610738)
GELU_EXTREMUM = (-0.7517915246935645, -0.16997120747990366)
GELU_TANH_EXTREMUM = (-0.7524614220710162, -0.17004075057125405)
"""Where each has its one minimum, and the minimum."""

_EXP_OVERFLOWS = -87.0
"""Below, exp(-x) may be Inf and sigmoid(x) flushed; -88.7 and -87.3, with a margin for the errors."""
_LARGEST = 1024.0
"""Beyond, every function here is at its limit, and the error of exp need not grow."""
_ERF_SATURATES = 6.0
_TANH_SATURATES = 12.0
"""From here on erf, tanh are closer to 1 than a hundredth of an ulp, and every implementation is taken to return 1."""


_HALF_OF_LARGEST = 2.0**127
_TINY = 2.0**-147
"""Four steps of the subnormal numbers, where errors are absolute ones."""


def exp(e: Expected, functions: Functions = TRITON) -> Expected:
    """e^x."""
    x = flushed(e)
    error = functions.exp + 2 * _U * _magnitude(x)
    return _result(x, np.exp, error)


def sigmoid(e: Expected, functions: Functions = TRITON) -> Expected:
    """1 / (1 + e^-x)."""
    x = flushed(e)
    return _result(x, _sigmoid, _sigmoid_error(x, functions, 0.0))


def silu(e: Expected, functions: Functions = TRITON) -> Expected:
    """Also called swish: x / (1 + e^-x)."""
    return _swish(e, 1.0, functions)


def gelu(e: Expected, functions: Functions = TRITON) -> Expected:
    """x/2 (1 + erf(x / sqrt 2))."""
    x = flushed(e)
    shift = np.float64(0.4839414490382867)  # the maximum of y erf'(y), at sqrt(1/2)
    y = _magnitude(x, 20.0) * 0.5**0.5  # beyond, all is 0
    tail = functions.erf + 5 * _U * (2 * y * y + 1)
    return _gated(x, _gelu, GELU_EXTREMUM, functions.erf, 5 * _U * shift, tail, _ERF_SATURATES * 2.0**0.5)


def gelu_tanh(e: Expected, functions: Functions = TRITON) -> Expected:
    """x/2 (1 + tanh(sqrt(2/pi) (x + 0.044715 x^3)))."""
    x = flushed(e)
    twice = _with_ends(x, _twice_tanh_argument)
    tail = _sigmoid_error(twice, functions, 7 * _U)
    # The maximum of y tanh'(y) is 0.4477; from |x| = 6 on y is beyond 12.
    return _gated(x, _gelu_tanh, GELU_TANH_EXTREMUM, functions.tanh, 7 * _U * 0.448, tail, 6.0)


def swiglu_oai(
    gate: Expected,
    up: Expected,
    alpha: float = 1.702,
    limit: float | None = 7.0,
    functions: Functions = TRITON,
    nan: NanOperand = NanOperand.NUMBER,
) -> Expected:
    """(u + 1) g sigmoid(alpha g) with g = min(gate, limit) and u = clamp(up, -limit, limit), as gpt-oss has it.

    `alpha` is rounded to float32 by the kernel or not; `limit` None clamps nothing. ValueError as `steps.minimum`.
    """
    if limit is not None:
        gate, up = minimum(gate, limit, nan), clamp(up, -limit, limit, nan)
    shifted, swish = add(up, 1.0), _swish(gate, alpha, functions)
    result = multiply(shifted, swish)
    # In another order, (u + 1) g is rounded as a subnormal number before the sigmoid multiplies it,
    lacking = np.where((result.low != result.high) & (np.abs(result.value) < 2 * MIN_NORMAL), _TINY, 0.0)
    low, high = result.low - lacking, result.high + lacking
    result = Expected(result.value, low, high, result.nan, result.unconstrained)
    # or overflows before the sigmoid brings it back.
    with np.errstate(over="ignore", invalid="ignore"):
        overflow = _magnitude(gate, np.inf) * _magnitude(shifted, np.inf) >= 2.0**127
    if not overflow.any():
        return result
    return Expected(result.value, result.low, result.high, result.nan, result.unconstrained | overflow)


def _swish(e: Expected, beta: float, functions: Functions) -> Expected:
    """The product x sigmoid(beta x), beta > 0."""
    x = flushed(e)
    place, least = SILU_EXTREMUM

    def swish(values: Float64) -> Float64:
        return values * _sigmoid(beta * values)

    scaled = _with_ends(x, lambda values: beta * values)
    roundings = 0.0 if beta == 1 else 2 * _U  # beta's own, and that of the product
    error = _sigmoid_error(scaled, functions, roundings) + _U
    # A sigmoid that is subnormal has few bits, and x multiplies what they lack.
    lacking = np.where(scaled.low < _EXP_OVERFLOWS, _TINY * _magnitude(x), 0.0)
    result = _valley(x, swish, (place / beta, least / beta), error, lacking)
    return _holding_zero(result, x.low * beta < _EXP_OVERFLOWS)


def _gated(
    x: Expected,
    function: Callable[[Float64], Float64],
    extremum: tuple[float, float],
    relative: float,
    argument: float,
    tail: Float64,
    saturates: float,
) -> Expected:
    """x/2 (1 + g(x)), with a relative error of g, and an absolute one of the argument's roundings in g.

    Where 1 + g(x) is 0 in float32, `tail` is the relative error of a kernel that computes the sum as one function.
    """
    with np.errstate(invalid="ignore"):
        gate = np.where(x.high <= 0, 1.0, 2.0)  # no less than 1 + g
    inside = (x.high > -saturates) & (x.low < saturates)
    error = np.where(inside, relative + argument, 0.0) + np.where(x.high <= -saturates, 0.0, gate * _U)
    lacking = np.where((x.low == 0) & (x.high == 0), 0.0, _TINY * np.maximum(_magnitude(x), 1.0))
    absolute = 0.5 * _magnitude(x, 2.0**127) * error + lacking
    result = _valley(x, function, extremum, 2 * _U + np.where(x.low <= -saturates, tail, 0.0), absolute)
    result = _holding_zero(result, x.low <= -saturates / 2)
    # Before it is halved, x (1 + g) may overflow.
    large = (x.high >= _HALF_OF_LARGEST) & ~result.nan & ~result.unconstrained
    if not large.any():
        return result
    return Expected(result.value, result.low, np.where(large, np.inf, result.high), result.nan, result.unconstrained)


def _sigmoid_error(x: Expected, functions: Functions, argument: float) -> Float64:
    """The relative error of sigmoid(x), x with relative errors of `argument` beside those of exp."""
    exponential = functions.exp + (2 * _U + argument) * _magnitude(x)
    error: Float64 = exponential * _sigmoid(-x.low) + _U + functions.divide
    return error


def _result(x: Expected, function: Callable[[Float64], Float64], relative: Float64) -> Expected:
    """A rising function of values from 0 on."""
    with np.errstate(over="ignore", under="ignore"):
        value = function(x.value)
        low = value if x.is_point else function(x.low)
        high = value if x.is_point else function(x.high)
        error = _safe(relative)
        return float32(
            value, np.fmax(low * (1 - error) - _TINY, 0.0), high * (1 + error) + _TINY, x.nan, x.unconstrained
        )


def _valley(
    x: Expected,
    function: Callable[[Float64], Float64],
    extremum: tuple[float, float],
    relative: Float64,
    absolute: Float64 | float,
) -> Expected:
    """A function that falls to its one minimum and rises from there; -Inf, where it has no value, makes NaN."""
    place, least = extremum
    with np.errstate(over="ignore", under="ignore", invalid="ignore"):
        value = function(x.value)
        ends = (value, value) if x.is_point else (function(x.low), function(x.high))
        low, high = np.fmin(*ends), np.fmax(*ends)
        low = np.where((x.low <= place) & (x.high >= place), np.fmin(low, least), low)
        error = _safe(relative)
        low = low - np.where(np.isinf(low), 0.0, np.abs(low) * error) - absolute
        high = high + np.where(np.isinf(high), 0.0, np.abs(high) * error) + absolute
    nan = x.nan | ((x.high == -np.inf) & ~x.unconstrained)
    return float32(value, low, high, nan, x.unconstrained | ((x.low == -np.inf) & ~nan))


def _holding_zero(e: Expected, where: Bools) -> Expected:
    if not where.any():
        return e
    low, high = np.where(where, np.fmin(e.low, 0.0), e.low), np.where(where, np.fmax(e.high, 0.0), e.high)
    return Expected(e.value, low, high, e.nan, e.unconstrained)


def _with_ends(x: Expected, rising: Callable[[Float64], Float64]) -> Expected:
    """A rising function of an interval, in float64."""
    return Expected(rising(x.value), rising(x.low), rising(x.high), x.nan, x.unconstrained)


def _safe(error: Float64) -> Float64:
    """An error, with room for products of errors (each below 2^-10) and for float64's."""
    return error * (1 + 2.0**-8) + 2.0**-48


def _magnitude(x: Expected, most: float = _LARGEST) -> Float64:
    """The largest magnitude in each interval, up to `most`."""
    return np.minimum(np.maximum(np.abs(x.low), np.abs(x.high)), most)


def _sigmoid(x: Float64) -> Float64:
    with np.errstate(over="ignore", under="ignore"):
        result: Float64 = 1 / (1 + np.exp(-x))
    return result


def _gelu(x: Float64) -> Float64:
    # With erfc, which keeps its precision where 1 + erf cancels.
    tail = torch.special.erfc(torch.from_numpy(np.ascontiguousarray(-x * 0.5**0.5))).numpy()
    result: Float64 = 0.5 * x * tail
    return result


def _gelu_tanh(x: Float64) -> Float64:
    # 1 + tanh(y) is 2 sigmoid(2 y), which does not cancel.
    return x * _sigmoid(_twice_tanh_argument(x))


def _twice_tanh_argument(x: Float64) -> Float64:
    result: Float64 = 2 * (2 / np.pi) ** 0.5 * (x + 0.044715 * x * x * x)
    return result
