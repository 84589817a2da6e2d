"""tt.fp_to_fp and FP8 as elements, against ml_dtypes and torch."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import pytest
import torch
import triton
import triton.language as tl

from fp4guard import UnsupportedError
from fp4guard.sim.ops.convert import constant

FP8 = {
    torch.float8_e4m3fn: (ml_dtypes.float8_e4m3fn, 448.0),
    torch.float8_e5m2: (ml_dtypes.float8_e5m2, 57344.0),
    torch.float8_e4m3fnuz: (ml_dtypes.float8_e4m3fnuz, 240.0),
    torch.float8_e5m2fnuz: (ml_dtypes.float8_e5m2fnuz, 57344.0),
}
OCP = (torch.float8_e4m3fn, torch.float8_e5m2)


def arch_of(dtype):
    return "sm_90" if dtype in OCP else "gfx942"


@triton.jit
def convert(x, out, N: tl.constexpr):
    i = tl.arange(0, N)
    tl.store(out + i, tl.load(x + i).to(out.dtype.element_ty))


@triton.jit
def convert_rtz(x, out, N: tl.constexpr):
    i = tl.arange(0, N)
    tl.store(out + i, tl.load(x + i).to(out.dtype.element_ty, fp_downcast_rounding="rtz"))


def bits(tensor):
    kind = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}[tensor.dtype.itemsize]
    return tensor.view(kind).numpy()


@pytest.mark.parametrize("fp8", FP8, ids=str)
@pytest.mark.parametrize("target", [torch.float16, torch.bfloat16, torch.float32])
def test_every_code_widens_exactly(new_run, fp8, target):
    codes = torch.arange(256, dtype=torch.uint8)
    run = new_run(arch=arch_of(fp8))
    out = run.empty((256,), target)
    run.launch(convert, (1,), run.place(codes.view(fp8)), out, N=256)
    expected = codes.numpy().view(FP8[fp8][0]).astype(np.float64)
    np.testing.assert_array_equal(out.double().numpy(), expected)
    assert not run.incidents()


@pytest.mark.parametrize("fp8", FP8, ids=str)
@pytest.mark.parametrize("source", [torch.float16, torch.bfloat16, torch.float32])
def test_narrowing_is_to_nearest_even_and_saturates(new_run, fp8, source):
    theirs, most = FP8[fp8]
    if source is torch.float32:
        halves = np.arange(1 << 16, dtype=np.uint32) << 16
        values = torch.from_numpy(np.concatenate([halves, halves + 1]).view(np.float32))
    else:
        values = torch.arange(1 << 16, dtype=torch.int32).to(torch.int16).view(source)
    run = new_run(arch=arch_of(fp8))
    out = run.empty((len(values),), fp8)
    run.launch(convert, (1,), run.place(values), out, N=len(values))
    wide = values.double().numpy()
    with np.errstate(all="ignore"):
        expected = np.clip(wide, -most, most).astype(np.float32).astype(theirs).view(np.uint8)
    number = ~np.isnan(wide)
    np.testing.assert_array_equal(bits(out)[number], expected[number])
    assert np.isnan(bits(out)[~number].view(theirs).astype(np.float32)).all()


@pytest.mark.parametrize("target", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("source", [torch.float32, torch.float64])
def test_narrowing_of_wide_floats_rounds_once(new_run, source, target):
    """Values that are a tie after one rounding and were none before: they must not be rounded twice."""
    ones = torch.arange(1 << 10, dtype=torch.float64) / 64 + 1
    step = 2.0**-8 if target is torch.bfloat16 else 2.0**-11
    tiny = 2.0**-30 if source is torch.float64 else 2.0**-20
    values = torch.cat([ones + ones.floor() * step + d for d in (0.0, tiny, -tiny)])
    values = torch.cat([values, -values, torch.tensor([1e30, -1e30, float("inf"), float("nan")])])[:4096].to(source)
    values = torch.nn.functional.pad(values, (0, 8192 - len(values)))
    run = new_run()
    out = run.empty((8192,), target)
    run.launch(convert, (1,), run.place(values), out, N=8192)
    expected = rounded(values.double(), target)
    np.testing.assert_array_equal(out.double().numpy(), expected)


def rounded(x, target):
    """To nearest even by integer arithmetic on the quantum, values in the normal range."""
    bits_kept, least, most = (8, -126, 3.3895313892515355e38) if target is torch.bfloat16 else (11, -14, 65504.0)
    x = x.numpy()
    _, exponent = np.frexp(x)
    quantum = np.ldexp(1.0, np.maximum(exponent, least + 1) - bits_kept)
    with np.errstate(all="ignore"):
        result = np.rint(x / quantum) * quantum
        result = np.where(np.isfinite(x), result, x)
        return np.where(np.abs(result) > most, np.copysign(np.inf, x), result)


@pytest.mark.parametrize("target", [torch.float16, torch.bfloat16, torch.float8_e5m2], ids=str)
def test_toward_zero(new_run, target):
    halves = np.arange(1 << 16, dtype=np.uint32) << 16
    values = torch.from_numpy(np.concatenate([halves, halves | 0xFFFF]).view(np.float32))
    run = new_run()
    out = run.empty((1 << 17,), target)
    run.launch(convert_rtz, (1,), run.place(values), out, N=1 << 17)
    found, wide = out.double().numpy(), values.double().numpy()
    finite = np.isfinite(wide)
    assert (np.abs(found[finite]) <= np.abs(wide[finite])).all()
    assert (np.signbit(found) == np.signbit(wide))[finite].all()
    up = torch.from_numpy(bits(out) + np.uint8(1) if target.itemsize == 1 else bits(out) + np.int16(1)).view(target)
    above = up.double().numpy()
    assert ((np.abs(above) > np.abs(wide)) | ~np.isfinite(above))[finite].all()  # the next one would be too large
    np.testing.assert_array_equal(found[~finite], wide[~finite])


def test_toward_zero_to_e4m3_does_not_exist(new_run):
    run = new_run()
    out = run.empty((16,), torch.float8_e4m3fn)
    with pytest.raises(UnsupportedError, match="toward zero"):
        run.launch(convert_rtz, (1,), run.place(torch.zeros(16)), out, N=16)


@triton.jit
def fill(out, N: tl.constexpr):
    i = tl.arange(0, N)
    ones = tl.full((N,), 1.5, tl.float32).to(out.dtype.element_ty)
    zeros = tl.zeros((N,), tl.float32).to(out.dtype.element_ty)
    tl.store(out + i, tl.where(i % 2 == 0, ones, zeros))


@pytest.mark.parametrize("fp8", OCP, ids=str)
def test_selection(new_run, fp8):
    run = new_run()
    out = run.empty((16,), fp8)
    run.launch(fill, (1,), out, N=16)
    assert out.float().tolist() == [1.5, 0.0] * 8


@pytest.mark.parametrize(("literal", "code"), [("1.500000e+00", 0x3C), ("0xFF", 0xFF), ("-4.480000e+02", 0xFE)])
def test_constants_are_codes(operation, literal, code):
    op = operation("arith.constant", [], "tensor<4xf8E4M3FN>", {"value": f"dense<{literal}>"})
    assert constant(op).tolist() == [[code]]
