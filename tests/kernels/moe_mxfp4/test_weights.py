"""Packed weights: what belongs together, and what padding does to them."""

import pytest
import torch


def _family():
    from kernels.moe_mxfp4 import weights

    return weights


weights = _family()


def random_weights(experts, n, k, *, bias=True, seed=0):
    rng = torch.Generator().manual_seed(seed)

    def bytes_(*shape):
        return torch.randint(0, 256, shape, dtype=torch.uint8, generator=rng)

    values = torch.randn(experts, n, generator=rng) if bias else None
    return weights.ExpertWeights(bytes_(experts, n, k // 2), bytes_(experts, n, -(-k // 32)), values)


@pytest.mark.parametrize(
    ("replaced", "error", "message"),
    [
        ({"codes": torch.zeros(2, 6, 20)}, TypeError, r"codes is torch\.float32; allowed: torch\.uint8"),
        (
            {"codes": torch.zeros(6, 20, dtype=torch.uint8)},
            ValueError,
            r"codes has shape \(6, 20\); allowed: \(E, N, K",
        ),
        ({"codes": torch.zeros(0, 6, 20, dtype=torch.uint8)}, ValueError, r"codes has shape \(0, 6, 20\).*one expert"),
        ({"scales": torch.zeros(2, 6, 1, dtype=torch.uint8)}, ValueError, r"scales has shape .*allowed: \(2, 6, 2\)"),
        ({"bias": torch.zeros(2, 5)}, ValueError, r"bias has shape \(2, 5\); allowed: \(2, 6\)"),
        ({"bias": torch.zeros(2, 6, dtype=torch.float64)}, TypeError, r"bias is torch\.float64"),
        ({"bias": torch.zeros(2, 1).expand(2, 6)}, ValueError, r"bias has strides \(1, 0\); allowed: positive"),
    ],
)
def test_what_does_not_belong_together_is_named(replaced, error, message):
    right = {"codes": torch.zeros(2, 6, 20, dtype=torch.uint8), "scales": torch.zeros(2, 6, 2, dtype=torch.uint8)}
    with pytest.raises(error, match=message):
        weights.ExpertWeights(**right | replaced)


@pytest.mark.parametrize(("d", "multiple", "padded"), [(352, 128, 384), (34, 16, 48), (2, 48, 48), (48, 16, 48)])
def test_halves_are_padded_each(d, multiple, padded):
    w1, w2 = random_weights(2, 2 * d, 6), random_weights(2, 4, d)
    p1, p2 = weights.pad_intermediate(w1, w2, multiple)
    assert (p1.n, p2.k) == (2 * padded, padded)
    for name in ("codes", "scales", "bias"):
        given, got = getattr(w1, name), getattr(p1, name)
        assert torch.equal(got[:, :d], given[:, :d])
        assert torch.equal(got[:, padded : padded + d], given[:, d:])
        assert bool((got[:, d:padded] == got[:, padded + d :]).all())
        assert not got[:, d:padded].numel() or got[:, d:padded].unique().tolist() == [127 if name == "scales" else 0]
    assert torch.equal(p2.codes[..., : d // 2], w2.codes)
    assert not p2.codes[..., d // 2 :].any()
    groups = w2.scales.shape[2]
    assert torch.equal(p2.scales[..., :groups], w2.scales)
    assert bool((p2.scales[..., groups:] == 127).all())
    assert p2.bias is w2.bias


def test_interleaved_rows_are_padded_at_the_end():
    w1, w2 = random_weights(2, 12, 6), random_weights(2, 4, 6)
    p1, _ = weights.pad_intermediate(w1, w2, 16, "interleaved")
    assert p1.n == 32
    assert torch.equal(p1.codes[:, :12], w1.codes)
    assert not p1.codes[:, 12:].any()


def test_weights_that_need_no_padding_are_returned():
    w1, w2 = random_weights(2, 64, 6, bias=False), random_weights(2, 4, 32, bias=False)
    assert weights.pad_intermediate(w1, w2, 16) == (w1, w2)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"multiple": 3}, r"multiple is 3; allowed: even numbers"),
        ({"multiple": 0}, r"multiple is 0"),
        ({"multiple": 16, "gate_layout": "rows"}, r"gate_layout is 'rows'; allowed: 'halves', 'interleaved'"),
        ({"multiple": 16, "w1": random_weights(2, 10, 6)}, r"w1 is \(E, N, K\) = \(2, 10, 6\); allowed: \(2, 12, K\)"),
    ],
)
def test_padding_refuses(arguments, message):
    right = {"w1": random_weights(2, 12, 6), "w2": random_weights(2, 4, 6)}
    with pytest.raises(ValueError, match=message):
        weights.pad_intermediate(**right | arguments)
