"""Every layout against the forms in which kernels document it, written out here by themselves."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fp4guard.formats import layouts
from fp4guard.formats.layouts import (
    KV_16X16,
    LAYOUTS,
    LINEAR,
    SCALES_8X4,
    SCALES_32X8,
    SCALES_128X4,
    SCALES_256X8,
    WEIGHTS_16X16,
    WEIGHTS_16X16_ROWS,
    Padding,
    Tile,
)

# What the kernels write: reshape, permute, reshape of a matrix that is whole tiles, batch first.


def linear(x):
    return x


def swizzled_128x4(x):  # vLLM, tests of scaled_fp4_quant
    batch, m, k = x.shape
    return x.reshape(batch, m // 128, 4, 32, k // 4, 4).transpose(0, 1, 4, 3, 2, 5).reshape(batch, m, k)


def swizzled_8x4(x):
    batch, m, k = x.shape
    return x.reshape(batch, m // 8, 8, k // 4, 4).transpose(0, 1, 3, 2, 4).reshape(batch, m, k)


def shuffled_scales(x):  # Transformer Engine, per matrix
    _, sm, sn = x.shape
    one = [y.reshape(sm // 32, 2, 16, sn // 8, 2, 4).transpose(0, 3, 5, 2, 4, 1).reshape(sm, sn) for y in x]
    return np.array(one, x.dtype).reshape(x.shape)


def preshuffled_scales(x):  # AITER, e8m0_shuffle
    batch, r, c = x.shape
    axes = (0, 1, 4, 6, 3, 5, 2, 7)
    return x.reshape(batch, r // 32, 2, 16, c // 8, 2, 4, 1).transpose(axes).reshape(batch, r // 32, 32 * c)


def shuffled_weights(x):  # Transformer Engine and AITER's shuffle_weight, of bytes: 16 // itemsize is 16
    batch, n, k = x.shape
    return x.reshape(batch, n // 16, 16, k // 32, 2, 16).transpose(0, 1, 3, 4, 2, 5).reshape(x.shape)


def weight_rows(x):  # AITER, gemm_afp4wfp4_preshuffle
    batch, n, k = x.shape
    one = [y.reshape(n // 16, 16, k // 32, 2, 16).transpose(0, 2, 3, 1, 4).reshape(n // 16, 16 * k) for y in x]
    return np.array(one, x.dtype).reshape(batch, n // 16, 16 * k)


def shuffled_keys(x):  # AITER, per block of the paged cache
    _, tokens, d = x.shape
    one = [y.reshape(tokens // 16, 16, d // 32, 2, 16).transpose(0, 2, 3, 1, 4).reshape(tokens, d) for y in x]
    return np.array(one, x.dtype).reshape(x.shape)


# What the kernels compute: the offset of (row, column) among `columns` padded columns.


def scale_offset(r, c, columns):
    return (
        (r // 32) * 32 * columns
        + (c // 8) * 256
        + (c % 4) * 64
        + (r % 16) * 4
        + ((c % 8) // 4) * 2
        + (r % 32) // 16
    )  # fmt: skip


def tile_16x16_offset(r, c, columns):
    return (r // 16) * 16 * columns + (c // 16) * 256 + (r % 16) * 16 + c % 16


DOCUMENTED = [
    (LINEAR, linear, lambda r, c, columns: r * columns + c),
    (
        SCALES_128X4,
        swizzled_128x4,
        lambda m, k, ks: ((m // 128) * -(-ks // 4) + k // 4) * 512 + (m % 32) * 16 + ((m % 128) // 32) * 4 + k % 4,
    ),
    (SCALES_8X4, swizzled_8x4, lambda m, k, ks: ((m // 8) * -(-ks // 4) + k // 4) * 32 + (m % 8) * 4 + k % 4),
    (SCALES_256X8, shuffled_scales, scale_offset),
    (SCALES_32X8, preshuffled_scales, scale_offset),
    (WEIGHTS_16X16, shuffled_weights, tile_16x16_offset),
    (WEIGHTS_16X16_ROWS, weight_rows, tile_16x16_offset),
    (KV_16X16, shuffled_keys, tile_16x16_offset),
]
every_layout = pytest.mark.parametrize("layout", LAYOUTS.values(), ids=LAYOUTS)
every_form = pytest.mark.parametrize(("layout", "form", "formula"), DOCUMENTED, ids=[row[0].name for row in DOCUMENTED])
batches = st.integers(0, 2)


def shapes(layout):
    """Batch, rows and columns: anything, or whole tiles where the layout has no padding."""
    row, column = layout.padded_to if layout.padding_contract is Padding.NONE else (1, 1)
    most = [max(2 * size // step, 2) for size, step in zip(layout.padded_to, (row, column), strict=True)]
    return st.tuples(
        batches, st.integers(0, most[0]).map(row.__mul__), st.integers(0, min(most[1], 20)).map(column.__mul__)
    )


def numbered(shape):
    return np.arange(np.prod(shape)).reshape(shape)


def test_every_layout_is_held_to_what_is_documented():
    assert [row[0] for row in DOCUMENTED] == list(LAYOUTS.values())


@every_form
@given(st.data())
def test_whole_tiles_are_reshape_permute_reshape(layout, form, formula, data):
    batch, tiles = data.draw(batches), data.draw(st.tuples(st.integers(0, 2), st.integers(0, 3)))
    shape = (batch, *(size * count for size, count in zip(layout.padded_to, tiles, strict=True)))
    x = numbered(shape)
    assert layout.stored_shape(shape) == form(x).shape
    np.testing.assert_array_equal(layout.pack(x), form(x))


@every_form
@given(st.data())
def test_offsets_are_the_formula_and_where_pack_puts_things(layout, form, formula, data):
    shape = data.draw(shapes(layout))[1:]
    r, c = np.indices(shape)
    offsets = layout.offset(r, c, shape)
    np.testing.assert_array_equal(offsets, formula(r, c, layout.padded_shape(shape)[1]))
    x = numbered(shape)
    np.testing.assert_array_equal(layout.pack(x, -1).ravel()[offsets], x)


@every_layout
@given(st.data())
def test_unpack_inverts_pack_for_any_shape_and_dtype(layout, data):
    shape = data.draw(shapes(layout))
    x = numbered(shape).astype(data.draw(st.sampled_from(["u1", "i8", "f4"])))
    np.testing.assert_array_equal(layout.unpack(layout.pack(x, 7), shape), x)


@every_layout
@given(st.data())
def test_offsets_of_the_padded_matrix_are_a_bijection_onto_the_buffer(layout, data):
    shape = data.draw(shapes(layout))[1:]
    padded = layout.padded_shape(shape)
    r, c = np.indices(padded)
    offsets = layout.offset(r, c, shape)
    np.testing.assert_array_equal(np.sort(offsets.ravel()), np.arange(np.prod(padded)))
    back = layout.position(offsets, shape)
    np.testing.assert_array_equal(back, (r, c))


@every_layout
@given(st.data())
def test_padding_is_what_no_element_is_stored_in(layout, data):
    shape = data.draw(shapes(layout))[1:]
    mask = layout.padding(shape)
    taken = np.zeros(mask.size, bool)
    taken[layout.offset(*np.indices(shape), shape)] = True
    np.testing.assert_array_equal(mask.ravel(), ~taken)
    assert (layout.pack(np.zeros(shape, np.uint8), 0xA5)[mask] == 0xA5).all()


@every_layout
def test_the_mask_of_a_batch_is_that_of_each_matrix(layout):
    rows, columns = layout.padded_to if layout.padding_contract is Padding.NONE else (5, 3)
    mask = layout.padding((2, rows, columns))
    np.testing.assert_array_equal(mask, np.stack([layout.padding((rows, columns))] * 2))


@pytest.mark.parametrize(
    ("layout", "shape", "stored", "padding"),
    [
        (SCALES_128X4, (1, 29), (128, 32), 128 * 32 - 29),  # K of 464 in blocks of 16: 29 of them in 32
        (SCALES_128X4, (129, 4), (256, 4), 127 * 4),
        (SCALES_8X4, (17, 5), (24, 8), 24 * 8 - 17 * 5),
        (SCALES_256X8, (32, 1), (256, 8), 2048 - 32),
        (SCALES_32X8, (33, 9), (2, 512), 64 * 16 - 33 * 9),
        (WEIGHTS_16X16_ROWS, (32, 64), (2, 1024), 0),
    ],
)
def test_sizes_as_the_kernels_documentation_has_them(layout, shape, stored, padding):
    assert layout.stored_shape(shape) == stored
    assert layout.padding(shape).sum() == padding


def test_a_layout_with_no_padding_refuses_what_is_not_whole_tiles():
    for shape in ((15, 32), (16, 16), (2, 17, 32)):
        with pytest.raises(ValueError, match=r"shape: .*; 16x16 allows multiples of \(16, 32\)"):
            WEIGHTS_16X16.stored_shape(shape)


@pytest.mark.parametrize(
    ("call", "match"),
    [
        (lambda: SCALES_8X4.stored_shape((3,)), r"shape: \(3,\); allowed is \(\.\.\., rows, columns\)"),
        (lambda: SCALES_8X4.stored_shape((-1, 3)), r"shape: \(-1, 3\); allowed"),
        (lambda: SCALES_8X4.pack(np.zeros((1, 1), np.uint8), 256), "fill: 256; allowed is what uint8 holds"),
        (lambda: SCALES_8X4.pack(np.zeros((1, 1), np.uint8), -1), "fill: -1; allowed is what uint8 holds"),
        (
            lambda: SCALES_8X4.unpack(np.zeros((8, 8)), (8, 4)),
            r"stored: shape \(8, 8\); 8x4 stores \(8, 4\) as \(8, 4\)",
        ),
        (lambda: SCALES_8X4.offset(8, 0, (1, 1)), "outside of the padded matrix, 8 x 4"),
        (lambda: SCALES_8X4.offset(0, [0, -1], (1, 1)), "outside of the padded matrix"),
        (lambda: SCALES_8X4.position(32, (1, 1)), "outside of the stored buffer of 32"),
        (lambda: Tile((4,), (4,), (0, 1, 2)), r"order: \(0, 1, 2\); allowed is a permutation"),
        (lambda: replace(SCALES_8X4, padded_to=(12, 4)), r"padded_to: \(12, 4\); allowed are multiples of \(8, 4\)"),
        (lambda: replace(SCALES_8X4, rows_per_stored_row=3), "rows_per_stored_row: 3; allowed are divisors"),
    ],
)
def test_wrong_arguments_are_refused(call, match):
    with pytest.raises(ValueError, match=match):
        call()


def test_padding_may_be_nan():
    stored = SCALES_8X4.pack(np.ones((1, 1), np.float32), float("nan"))
    assert np.isnan(stored).sum() == stored.size - 1


def test_layouts_that_are_one_permutation_say_so_once():
    assert SCALES_256X8.tile is SCALES_32X8.tile
    assert WEIGHTS_16X16.tile is WEIGHTS_16X16_ROWS.tile is KV_16X16.tile
    assert layouts.LAYOUTS["8x4"] is SCALES_8X4
