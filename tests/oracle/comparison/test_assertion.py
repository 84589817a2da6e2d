import numpy as np
import pytest
import torch

from fp4guard import oracle
from fp4guard.oracle import assert_matches, generate

A, B = (generate.blocks("exact", rows, 96, np.random.default_rng(rows)) for rows in (33, 40))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("transposed", [False, True])
def test_the_right_product_matches_and_one_wrong_bit_does_not(dtype, transposed):
    out = torch.from_numpy(A.decode() @ B.decode().T).to(dtype)
    out = out.T.contiguous().T if transposed else out
    assert_matches(out, oracle.gemm(A, B))
    out[32, 39] = torch.nextafter(out[32, 39].float(), torch.tensor(1e9)) if dtype == torch.float32 else out[32, 39] + 1
    with pytest.raises(AssertionError, match=r"Mismatched elements: 1 / 1320(.|\n)*index \(32, 39\)"):
        assert_matches(out, oracle.gemm(A, B))


def test_codes_match_bytes():
    x = torch.from_numpy(generate.quantizable("ties", (64, 64), "float32", np.random.default_rng(0))).float()
    expected = oracle.quantize_mx(x)
    scales = torch.from_numpy(expected.scales.codes.copy())
    assert_matches(scales, expected.scales)
    assert_matches(scales.view(torch.float8_e8m0fnu), expected.scales)
    scales[3, 1] += 1
    with pytest.raises(AssertionError, match="Mismatched codes: 1 / 128"):
        assert_matches(scales, expected.scales)


@pytest.mark.parametrize(
    ("actual", "match"),
    [
        (np.zeros((33, 40), np.float32), "actual: ndarray"),
        (torch.zeros(33, 40, dtype=torch.float64), "dtype torch.float64; Expected allows float32"),
        (torch.zeros(33, 40, dtype=torch.uint8), "dtype torch.uint8"),
    ],
)
def test_others_are_refused(actual, match):
    with pytest.raises(TypeError, match=match):
        assert_matches(actual, oracle.gemm(A, B))


@pytest.mark.parametrize(
    ("expected", "match"),
    [
        (torch.zeros(33, 40), "expected: Tensor; allowed are Expected .of exact values: oracle.exactly"),
        (oracle.quantize_mx(torch.ones(1, 32)), "expected: Quantized; .*its .codes or its .scales"),
        (None, "expected: NoneType"),
    ],
)
def test_what_says_nothing_about_bits_is_refused(expected, match):
    with pytest.raises(TypeError, match=match):
        assert_matches(torch.zeros(33, 40), expected)


def test_codes_have_one_byte():
    with pytest.raises(TypeError, match="types of one byte"):
        assert_matches(torch.zeros(1, 32), oracle.quantize_mx(torch.ones(1, 32)).codes)
