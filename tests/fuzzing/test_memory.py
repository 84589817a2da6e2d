"""`mem`, as a target sees it."""

import numpy as np
import pytest
import torch
import triton
import triton.language as tl

import fp4guard as fg
from fp4guard import oracle
from fp4guard.formats import BLOCK_FORMATS, NVFP4, BlockScaled
from fp4guard.memory import ORDINARY


def memory(seed=0, regime="exact", layout=0):
    return fg.Memory(fg.Case({}, seed, regime, layout), ORDINARY, {})


def test_data_depend_on_seed_regime_and_name_alone():
    def data(name, **case):
        return memory(**case).tensor(name, (4, 8), torch.float32)

    assert torch.equal(data("x"), data("x"))
    assert torch.equal(data("x"), data("x", layout=5))
    assert not torch.equal(data("x"), data("y"))
    assert not torch.equal(data("x"), data("x", seed=1))
    assert not torch.equal(data("x"), data("x", regime="ties"))


def test_tensors_of_one_name_have_data_of_their_own():
    mem = memory()
    one, other = (mem.tensor("x", (64,), torch.float32) for _ in range(2))
    assert not torch.equal(one, other)
    assert [region.name for region in mem.regions] == ["x", "x#2"]


def test_mxfp4_has_codes_scales_and_the_same_for_the_oracle():
    operand = memory().mxfp4("a", (3, 64))
    assert (operand.codes.shape, operand.scales.shape) == ((3, 32), (3, 2))
    assert np.array_equal(operand.codes.numpy(), operand.matrix.codes)
    assert np.array_equal(operand.scales.numpy(), operand.matrix.scales)


@pytest.mark.parametrize("fmt", BLOCK_FORMATS.values(), ids=BLOCK_FORMATS)
def test_block_scaled_operands_may_have_tails(fmt):
    operand = memory().block_scaled("a", (3, 70), fmt)
    assert operand.codes.shape == (3, 35 if fmt.element.width == 4 else 70)
    assert operand.scales.shape == (3, fmt.blocks(70))
    again = BlockScaled.from_codes(fmt, operand.codes.numpy(), operand.scales.numpy())
    assert np.array_equal(again.decode(), operand.matrix.decode(), equal_nan=True)


def test_nvfp4_is_a_block_format():
    assert memory().nvfp4("a", (3, 48)).matrix.format is NVFP4


@pytest.mark.parametrize(
    "dtype", [torch.float8_e4m3fn, torch.float8_e5m2, torch.float8_e4m3fnuz, torch.float8_e5m2fnuz]
)
def test_float8_tensors_hold_the_regimes_values(dtype):
    values = memory(regime="wild").tensor("x", (50, 40), dtype)
    assert values.dtype == dtype
    assert values.to(torch.float32).unique().numel() > 50
    assert values.to(torch.float32).isnan().any()


def test_quantizable_is_what_its_regime_says():
    values = memory(regime="ties").quantizable("x", (64, 64), torch.bfloat16)
    assert values.dtype == torch.bfloat16
    assert (values.abs() == 1.25).any()


def test_integers_are_within_their_range():
    values = memory().integers("i", (500,), -2, 3)
    assert set(values.tolist()) == {-2, -1, 0, 1, 2, 3}
    assert values.dtype == torch.int32


def test_inputs_take_the_values_of_tensors_and_arrays():
    mem = memory()
    assert mem.input("a", torch.ones(2, dtype=torch.bfloat16)).dtype == torch.bfloat16
    assert mem.input("b", np.arange(3, dtype=np.int16)).tolist() == [0, 1, 2]
    assert mem.input("c", [1.5, 2.5]).tolist() == [1.5, 2.5]
    assert mem.input("d", 3).shape == ()


def test_layouts_are_those_of_the_target():
    for layout in range(64):
        mem = memory(layout=layout)
        assert mem.tensor("plain", (3, 4), torch.float32).is_contiguous()
        assert mem.tensor("rows", (3, 4), torch.float32, fg.ROWS).stride(1) == 1
    strides = {memory(layout=i).tensor("x", (3, 4), torch.float32, fg.STRIDED).stride() for i in range(64)}
    assert strides == {(4, 1), (20, 1), (9, 1), (1, 3), (1, 10)}
    assert memory().tensor("x", (3, 4), torch.float32, fg.STRIDED).is_contiguous()


@pytest.mark.parametrize(
    ("make", "match"),
    [
        (lambda mem: mem.mxfp4("a", (3, 41)), r"\('a', shape=\(3, 41\)\): mxfp4 allows an even k"),
        (lambda mem: mem.quantizable("a", (3,), torch.float8_e5m2), "dtype=torch.float8_e5m2.*allowed are float32"),
        (lambda mem: mem.tensor("a", (3,), torch.complex64), "dtype=torch.complex64.*allowed are float32, bfloat16"),
        (lambda mem: mem.tensor("a", (), torch.float32), r"mem: data for 'a': shape \(\)"),
        (lambda mem: mem.tensor("a", (-1,), torch.float32), r"mem.tensor\('a', shape=\(-1,\)\): allowed is a tuple of"),
        (lambda mem: mem.output("a", 3, torch.float32), r"mem.output\('a', shape=3\): allowed is a tuple of integers"),
        (lambda mem: mem.scratch("a", (1.5,), torch.int8), r"mem.scratch\('a', shape=\(1.5,\)\): allowed is a tuple"),
        (lambda mem: mem.mxfp4("a", (2, 2, 32)), r"shape=\(2, 2, 32\)\): allowed are 2 sizes"),
        (lambda mem: mem.tensor(3, (3,), torch.float32), r"mem.tensor\(3\): the name is a string"),
        (
            lambda mem: mem.tensor("a", (3,), torch.float32, fg.Layout("b")),
            r"layouts=Layout\(name='b', .*allowed are PLAIN",
        ),
        (lambda mem: mem.input("a", [1], ()), r"mem.input\('a', layouts=\(\)\): allowed are PLAIN, ROWS"),
        (lambda mem: mem.quantizable("a", (3,), torch.float32, layouts="ROWS"), r"layouts='ROWS'\): allowed are PLAIN"),
        (lambda mem: mem.integers("a", (3,), 2, 1), r"mem.integers\('a', low=2, high=1\): .* and low <= high"),
        (
            lambda mem: mem.integers("a", (3,), 0, 256, torch.uint8),
            "high=256.: allowed are integers from 0 to 255, which",
        ),
        (lambda mem: mem.integers("a", (3,), 0, 1.5), "high=1.5.: allowed are integers from -2147483648"),
        (lambda mem: mem.integers("a", (3,), 0, 1, torch.float32), "dtype=torch.float32.: allowed are torch.uint8"),
        (lambda mem: mem.input("a", object()), r"mem.input\('a', object\): can't convert"),
        (
            lambda mem: mem.output("a", (3,), torch.int8, fill="b"),
            r"mem.output\('a', fill='b'\): allowed is a number that",
        ),
        (
            lambda mem: mem.output("a", (3,), "float32"),
            r"mem.output\('a', dtype='float32'\): allowed is a dtype of torch",
        ),
        (lambda mem: mem.scratch("a", (3,), np.float32), r"mem.scratch\('a', dtype=.*\): allowed is a dtype of torch"),
        (lambda mem: mem.input("a", [[1], [2, 3]]), r"mem.input\('a', list\): setting an array element"),
        (lambda mem: mem.input("a", [1, 2], undefined=[True]), r"undefined=bool \(1,\)\): allowed is bool \(2,\)"),
        (lambda mem: mem.input("a", [1, 2], undefined=[1, 0]), r"undefined=int64 \(2,\)\): allowed is bool"),
    ],
)
def test_wrong_tensors_are_refused(make, match):
    with pytest.raises(fg.UsageError, match=match):
        make(memory())


@pytest.mark.parametrize(
    ("expected", "match"),
    [
        (None, "NoneType of shape None"),
        ([1.0, 2.0], "list of shape None"),
        (torch.ones(3), r"Tensor of shape torch.Size\(\[3\]\).*the tensor's shape, \(2,\)"),
        (oracle.exactly(np.ones((2, 1))), r"Expected of shape \(2, 1\)"),
        (torch.ones(2, dtype=torch.int32), "dtype torch.int32; allowed are floating-point types"),
    ],
)
def test_wrong_expectations_are_refused_where_they_are_stated(expected, match):
    mem = memory()
    with pytest.raises(fg.UsageError, match=match):
        mem.expect(mem.output("out", (2,), torch.float32), expected)


def test_expectation_of_the_oracle_needs_a_type_that_it_knows():
    mem = memory()
    with pytest.raises(fg.UsageError, match=r"the tensor is torch.int32; allowed are .* exact values"):
        mem.expect(mem.output("out", (2,), torch.int32), oracle.exactly(np.ones(2)))
    with pytest.raises(fg.UsageError, match=r"mem.expect\(ndarray, expected\): allowed is a tensor"):
        mem.expect(np.ones(2), np.ones(2))


@pytest.mark.parametrize("own", [True, False], ids=["allocated", "computed"])
def test_shape_of_what_the_code_has_made_is_its_own_fault(own):
    @fg.fuzz()
    def target(mem):
        x = mem.input("x", torch.ones(3))
        mem.expect(torch.empty_like(x[:2]).copy_(x[:2]) if own else x[:2] * 1, x)

    (finding,) = fg.examine(target).findings
    assert finding.kind == "wrong-value"
    assert "their shape is (2,); it has to be (3,)" in finding.message


@triton.jit
def double_kernel(x, out, n, BLOCK: tl.constexpr):
    i = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    tl.store(out + i, tl.load(x + i, mask=i < n) * 2, mask=i < n)


@fg.fuzz(n=fg.dims(tile=64))
def doubles_too_little(mem, n):
    x = mem.tensor("x", (n,), torch.float32)
    out = torch.empty(n // 64 * 64)  # wrong: not rounded up
    double_kernel[(triton.cdiv(n, 64),)](x, out, n, BLOCK=64)
    mem.expect(out, 2 * x)


def test_access_beyond_what_is_too_small_is_found_beside_its_shape():
    (access, shape) = fg.examine(doubles_too_little, n=70).findings
    assert (access.kind, shape.kind) == ("oob-write", "wrong-value")
    assert access.headline.startswith("6 lanes write ")
    assert "their shape is (64,); it has to be (70,)" in shape.message


def test_wrong_expectation_is_no_finding():
    @fg.fuzz()
    def target(mem):
        mem.expect(mem.output("out", (2,), torch.float32), torch.ones(3))

    with pytest.raises(fg.UsageError, match="allowed is what has the tensor's shape"):
        fg.examine(target)
