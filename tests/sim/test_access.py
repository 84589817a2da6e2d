"""Every way to touch memory wrongly, and the ways that are right."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import triton
import triton.language as tl

from fp4guard.memory import ALL_ONES, ORDINARY, Layout, Poison, Role

ROWS = Layout("rows with a gap of 3", row_gap=3)


@triton.jit
def copy_kernel(x, out, start, n, BLOCK: tl.constexpr):
    offsets = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    tl.store(out + offsets, tl.load(x + start + offsets, mask=offsets < n, other=0), mask=offsets < n)


@triton.jit
def fill_kernel(out, start, n, value, BLOCK: tl.constexpr):
    offsets = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    tl.store(out + start + offsets, value, mask=offsets < n)


def only(run, *kinds):
    (incident,) = run.incidents(*kinds).values()
    assert len(run.incidents()) == 1
    return incident


@pytest.mark.parametrize(("start", "low", "high", "lanes"), [(-3, -12, -1, 3), (2, 32, 39, 2), (100, 400, 431, 8)])
def test_a_read_beyond_either_end(new_run, start, low, high, lanes):
    run = new_run()
    out = run.empty((8,), torch.int32)
    run.launch(copy_kernel, (2,), run.place(np.arange(8, dtype=np.int32)), out, start, 8, BLOCK=4)
    incident = only(run, "oob-read")
    assert (incident.low, incident.high, incident.lanes) == (low, high, lanes)
    inside = [n if 0 <= n < 8 else -1 for n in range(start, start + 8)]
    assert out.tolist() == inside  # what lies beyond reads as poison


@pytest.mark.parametrize(("start", "low", "high", "lanes"), [(-3, -6, -1, 3), (2, 16, 19, 2), (4, 16, 23, 4)])
def test_a_write_beyond_either_end_is_reported_and_does_not_happen(new_run, start, low, high, lanes):
    run = new_run()
    out = run.empty((8,), torch.int16)
    run.launch(fill_kernel, (2,), out, start, 8, 7, BLOCK=4)
    incident = only(run, "oob-write")
    assert (incident.low, incident.high, incident.lanes) == (low, high, lanes)
    assert run.written().tolist() == [start <= i < start + 8 for i in range(8)]
    assert not len(run.memory.named("out").disturbed(ALL_ONES))


def test_the_programs_that_did_it_are_named(new_run):
    run = new_run()
    out = run.empty((10,), torch.int32)
    run.launch(fill_kernel, (4,), out, 0, 13, 7, BLOCK=4)
    assert only(run, "oob-write").programs == [(2, 0, 0), (3, 0, 0)]


def test_lanes_that_are_masked_off_may_point_anywhere(new_run):
    run = new_run()
    x, out = run.place(np.arange(5, dtype=np.int32)), run.empty((5,), torch.int32)
    run.launch(copy_kernel, (3,), x, out, 0, 5, BLOCK=4)
    assert out.tolist() == list(range(5))
    assert not run.incidents()


@pytest.mark.parametrize("size", [0, 3])
def test_a_load_of_no_lanes_at_all(new_run, size):
    """Not even of a tensor with no elements, guarded or not."""
    for x in (torch.zeros(size, dtype=torch.int32), None):
        run = new_run()
        x = run.place(np.zeros(size, np.int32)) if x is None else x
        run.launch(copy_kernel, (2,), x, run.empty((size,), torch.int32), 10**6, 0, BLOCK=4)
        assert not run.incidents()


@pytest.mark.parametrize("guarded", [True, False])
def test_a_tensor_of_no_elements_has_none_to_read(new_run, guarded):
    run = new_run()
    x = run.place(np.zeros(0, np.int32)) if guarded else torch.zeros(0, dtype=torch.int32)
    out = run.empty((4,), torch.int32)
    for _ in range(2):
        run.launch(copy_kernel, (1,), x, out, 0, 4, BLOCK=4)
    incidents = run.incidents("oob-read")
    assert {(i.low, i.high) for i in incidents.values()} == {(0, 15)}
    assert run.written().all()


@triton.jit
def rows_kernel(x, out, stride, row, column):
    tl.store(out, tl.load(x + row * stride + column))


@pytest.mark.parametrize(("row", "column"), [(0, 5), (0, 7), (1, -1), (2, 6), (1, 13)])
def test_a_read_in_the_gap_behind_any_row(new_run, row, column):
    run = new_run()
    x = run.place(np.arange(15, dtype=np.int16).reshape(3, 5), ROWS)
    run.launch(rows_kernel, (1,), x, run.empty((1,), torch.int16), x.stride(0), row, column)
    incident = only(run, "oob-read")
    assert incident.low == 2 * (row * 8 + column)


@pytest.mark.parametrize(("row", "column"), [(0, 0), (0, 4), (1, -4), (2, 4), (0, 16)])
def test_a_read_of_a_row_by_way_of_another_is_in_bounds(new_run, row, column):
    run = new_run()
    x, out = run.place(np.arange(15, dtype=np.int16).reshape(3, 5), ROWS), run.empty((1,), torch.int16)
    run.launch(rows_kernel, (1,), x, out, x.stride(0), row, column)
    at = row * 8 + column
    assert out.tolist() == [at // 8 * 5 + at % 8]
    assert not run.incidents()


@triton.jit
def gap_write_kernel(out, stride, M: tl.constexpr, N: tl.constexpr):
    tl.store(out + tl.arange(0, M)[:, None] * stride + tl.arange(0, N)[None, :], 1)


def test_a_write_into_every_gap(new_run):
    run = new_run()
    out = run.empty((4, 6), torch.int8, ROWS)
    run.launch(gap_write_kernel, (1,), out, out.stride(0), M=4, N=8)
    incident = only(run, "oob-write")
    assert (incident.lanes, incident.low, incident.high) == (8, 6, 3 * 9 + 7)
    assert run.written().all()
    assert not len(run.memory.named("out").disturbed(ALL_ONES))


@triton.jit
def far_kernel(x, y, out, offset, USE_Y: tl.constexpr):
    tl.store(out, tl.load(x + offset))
    if USE_Y:
        tl.store(out, tl.load(y + offset))


@pytest.mark.parametrize("offset", [10**6, -(10**9), 2**31 - 1, 2**40, -(2**44)])
def test_a_far_overrun_stays_with_its_own_tensor(new_run, offset):
    run = new_run()
    x, y = run.place(np.zeros(4, np.float32), name="x"), run.place(np.zeros(4, np.float32), name="y")
    run.launch(far_kernel, (1,), x, y, run.empty((1,)), offset, USE_Y=True)
    assert set(run.incidents()) == {("oob-read", "x"), ("oob-read", "y")}
    assert all(incident.low == 4 * offset for incident in run.incidents().values())


def test_an_offset_that_wraps_around_in_32_bits_is_called_by_its_name(new_run):
    run = new_run()
    run.launch(wrapping_kernel, (1,), run.place(np.zeros(4, np.float32)), run.empty((1,)), 2**16)
    assert only(run, "int-overflow").region.name == "x"


@triton.jit
def wrapping_kernel(x, out, stride):
    tl.store(out, tl.load(x + stride * (stride // 2)))


@triton.jit
def wide_offset_kernel(x, out, row, stride):
    tl.store(out, tl.load(x + row.to(tl.int64) * stride - (tl.cast(1, tl.int64) << 40) + 2))


def test_offsets_of_64_bits_are_exact(new_run):
    run = new_run()
    out = run.empty((1,))
    run.launch(wide_offset_kernel, (1,), run.place(np.arange(4, dtype=np.float32)), out, 2**20, 2**20)
    assert out.tolist() == [2]
    assert not run.incidents()


@triton.jit
def cast_kernel(x, out, start, BLOCK: tl.constexpr):
    words = x.to(tl.pointer_type(tl.int32))
    tl.store(out + tl.arange(0, BLOCK), tl.load(words + start + tl.arange(0, BLOCK)))


@triton.jit
def shifted_cast_kernel(x, out, shift, BLOCK: tl.constexpr):
    words = (x + shift).to(tl.pointer_type(tl.int32))
    tl.store(out + tl.arange(0, BLOCK), tl.load(words + tl.arange(0, BLOCK)))


@pytest.mark.parametrize("guarded", [True, False])
@pytest.mark.parametrize("size", [8, 9, 11])
def test_a_wide_access_that_straddles_the_end(new_run, guarded, size):
    run = new_run()
    data = torch.arange(size, dtype=torch.uint8)
    x = run.place(data) if guarded else data
    out = run.empty((4,), torch.int32)
    run.launch(cast_kernel, (1,), x, out, 0, BLOCK=4)
    incident = only(run, "oob-read")
    assert (incident.low, incident.high, incident.lanes) == (8, 15, 2)
    words = np.arange(8, dtype=np.uint8).view(np.int32).tolist()
    assert out.tolist() == [*words, -1, -1]


@pytest.mark.parametrize("shift", [1, 2, 3])
def test_a_misaligned_access_reads_the_right_bytes(new_run, shift):
    run = new_run()
    data = np.arange(40, 40 + 11, dtype=np.uint8)
    out = run.empty((2,), torch.int32)
    run.launch(shifted_cast_kernel, (1,), run.place(data), out, shift, BLOCK=2)
    assert out.tolist() == data[shift : shift + 8].copy().view(np.int32).tolist()
    assert not run.incidents()


@triton.jit
def shifted_store_kernel(out, shift, BLOCK: tl.constexpr):
    words = (out + shift).to(tl.pointer_type(tl.int32))
    tl.store(words + tl.arange(0, BLOCK), 0x01020304 + tl.arange(0, BLOCK))


def test_a_misaligned_store_writes_the_right_bytes_and_no_others(new_run):
    run = new_run()
    out = run.empty((12,), torch.uint8)
    run.launch(shifted_store_kernel, (1,), out, 3, BLOCK=4)
    incident = only(run, "oob-write")
    assert (incident.low, incident.high) == (11, 18)
    assert out[3:11].tolist() == [4, 3, 2, 1, 5, 3, 2, 1]
    assert run.written().tolist() == [False] * 3 + [True] * 8 + [False]


def test_an_element_is_uninitialised_until_all_of_it_is_written(new_run):
    run = new_run()
    buffer, out = run.empty((4,), torch.int32, name="buffer"), run.empty((4,), torch.int32)
    buffer[1:2] = 5
    run.memory.note_host_write(buffer[1:2])
    run.launch(fill_kernel, (1,), buffer.view(torch.int16), 4, 3, 7, BLOCK=4)  # all of element 2, half of element 3
    run.launch(copy_kernel, (1,), buffer, out, 0, 4, BLOCK=4)
    incident = only(run, "uninitialized-read")
    assert (incident.lanes, incident.low, incident.high) == (2, 0, 15)
    assert out.tolist() == [-1, 5, 7 * 0x10001, -1]


def test_what_an_earlier_launch_wrote_is_initialised(new_run):
    run = new_run()
    scratch, out = run.empty((4,), torch.int32, name="scratch"), run.empty((4,), torch.int32)
    run.launch(fill_kernel, (1,), scratch, 0, 4, 9, BLOCK=4)
    run.launch(copy_kernel, (1,), scratch, out, 0, 4, BLOCK=4)
    assert out.tolist() == [9] * 4
    assert not run.incidents()
    assert run.simulator.launches == 2


def test_reads_are_told_apart_from_uninitialised_ones_in_one_access(new_run):
    run = new_run()
    x, out = run.empty((4,), torch.int32, name="x"), run.empty((8,), torch.int32)
    run.launch(copy_kernel, (1,), x, out, -2, 8, BLOCK=8)
    assert {kind: i.lanes for (kind, _), i in run.incidents().items()} == {"oob-read": 4, "uninitialized-read": 4}


@triton.jit
def undefined_kernel(x, out, n, BLOCK: tl.constexpr):
    offsets = tl.arange(0, BLOCK)
    tl.store(out + offsets, tl.load(x + offsets, mask=offsets < n))


UNDEFINED = {
    torch.float32: (float("nan"), 1.0),
    torch.bfloat16: (float("nan"), 1.0),
    torch.float16: (float("nan"), 1.0),
    torch.int32: (-1, 0),
    torch.uint8: (255, 127),
}


@pytest.mark.parametrize("dtype", UNDEFINED)
@pytest.mark.parametrize("pattern", [ALL_ONES, ORDINARY], ids=lambda p: p.pattern)
def test_a_masked_lane_without_other_is_poison(new_run, dtype, pattern):
    run = new_run(pattern)
    x, out = run.place(torch.full((4,), 3).to(dtype)), run.empty((4,), dtype)
    run.launch(undefined_kernel, (1,), x, out, 3, BLOCK=4)
    expected = UNDEFINED[dtype][pattern is ORDINARY]
    torch.testing.assert_close(out.double(), torch.tensor([3, 3, 3, expected]).double(), equal_nan=True)
    incident = only(run, "undefined-lane")
    assert (incident.lanes, incident.low, incident.programs) == (1, None, [(0, 0, 0)])


def test_a_poison_may_be_another_one_for_a_single_site(new_run):
    run = new_run()
    run.launch(undefined_kernel, (1,), run.place(np.zeros(4, np.int32)), run.empty((4,), torch.int32), 2, BLOCK=4)
    site = only(run, "undefined-lane").site
    run = new_run(Poison("all ones").at(site, "ordinary numbers"))
    out = run.empty((4,), torch.int32)
    run.launch(undefined_kernel, (1,), run.place(np.zeros(4, np.int32)), out, 2, BLOCK=4)
    assert out.tolist() == [0] * 4


@triton.jit
def collide_kernel(out, value, BLOCK: tl.constexpr, EQUAL: tl.constexpr):
    lanes = tl.arange(0, BLOCK)
    tl.store(out + lanes // 2, (lanes // 2 if EQUAL else lanes) + value)


@pytest.mark.parametrize("dtype", [torch.int8, torch.int32, torch.float32])
def test_unequal_values_for_one_address_in_one_store(new_run, dtype):
    run = new_run()
    run.launch(collide_kernel, (1,), run.empty((4,), dtype), 0, BLOCK=8, EQUAL=False)
    incident = only(run, "race")
    assert (incident.lanes, incident.low) == (4, 0)


def test_equal_values_for_one_address_are_silent(new_run):
    run = new_run()
    out = run.empty((4,), torch.int32)
    run.launch(collide_kernel, (3,), out, 0, BLOCK=8, EQUAL=True)
    assert out.tolist() == [0, 1, 2, 3]
    assert not run.incidents()


def test_a_write_to_an_input_is_noted(new_run):
    run = new_run()
    run.launch(fill_kernel, (1,), run.place(np.zeros(4, np.int32)), 1, 2, 5, BLOCK=2)
    incident = only(run, "input-write")
    assert (incident.region.name, incident.low, incident.high) == ("x", 4, 11)


# Tensors that fp4guard did not allocate


def test_foreign_tensors_are_read_and_written_in_place(new_run):
    run = new_run()
    x, out = torch.arange(8, dtype=torch.float32), torch.zeros(8)
    run.launch(copy_kernel, (2,), x, out, 0, 8, BLOCK=4)
    assert out.tolist() == x.tolist()
    assert not run.incidents()
    assert [region.role for region in run.memory] == [Role.FOREIGN] * 2


def test_a_foreign_tensor_has_its_argument_name_and_its_ends(new_run):
    run = new_run()
    run.launch(copy_kernel, (3,), torch.arange(8), torch.zeros(12, dtype=torch.int64), 0, 12, BLOCK=4)
    incident = run.incidents()["oob-read", "x"]
    assert (incident.low, incident.high) == (64, 95)


@pytest.mark.parametrize("guarded", [True, False])
def test_views_start_where_they_start(new_run, guarded):
    run = new_run()
    data = torch.arange(24, dtype=torch.int32).reshape(4, 6)
    x, out = run.place(data) if guarded else data, run.empty((4,), torch.int32)
    run.launch(copy_kernel, (1,), x[2, 1:], out, 0, 4, BLOCK=4)
    assert out.tolist() == [13, 14, 15, 16]
    run.launch(copy_kernel, (1,), x.t()[1], out, 0, 4, BLOCK=4)  # the kernel heeds no stride
    assert out.tolist() == [1, 2, 3, 4]
    run.launch(copy_kernel, (1,), x[1:1], out, 0, 4, BLOCK=4)  # no elements, but a place
    assert out.tolist() == [6, 7, 8, 9]
    assert not run.incidents()


@pytest.mark.parametrize("guarded", [True, False])
def test_a_tensor_without_dimensions(new_run, guarded):
    run = new_run()
    x = torch.tensor(7, dtype=torch.int32)
    out = run.empty((), torch.int32)
    run.launch(copy_kernel, (1,), run.place(x) if guarded else x, out, 0, 1, BLOCK=4)
    assert out.item() == 7
    run.launch(copy_kernel, (1,), x, out, 0, 2, BLOCK=4)
    assert ("oob-write", "out") in run.incidents()


def test_two_tensors_over_one_storage_are_one_region(new_run):
    run = new_run()
    whole = torch.arange(8, dtype=torch.int32)
    run.launch(copy_kernel, (1,), whole[:4], whole[4:], 0, 4, BLOCK=4)
    assert whole.tolist() == [0, 1, 2, 3, 0, 1, 2, 3]
    assert len(run.memory.regions) == 1


@triton.jit
def flags_kernel(x, out, BLOCK: tl.constexpr):
    flags = tl.load(x + tl.arange(0, BLOCK))
    tl.store(out + tl.arange(0, BLOCK), flags == 0)


def test_bools_in_memory(new_run):
    run = new_run()
    out = run.empty((4,), torch.bool)
    run.launch(flags_kernel, (1,), run.place(torch.tensor([True, False, False, True])), out, BLOCK=4)
    assert out.tolist() == [False, True, True, False]


@triton.jit
def masked_by_program_kernel(x, out, n, BLOCK: tl.constexpr):
    pid = tl.program_id(0)
    row = tl.arange(0, BLOCK)
    value = tl.load(x + row, mask=(row < n) & (pid == 1), other=5)
    tl.store(out + pid * BLOCK + row, value)


def test_an_address_common_to_all_programs_with_a_mask_that_is_not(new_run):
    run = new_run()
    out = run.empty((3, 4), torch.int32)
    run.launch(masked_by_program_kernel, (3,), run.place(np.arange(3, dtype=np.int32)), out, 3, BLOCK=4)
    assert out.tolist() == [[5] * 4, [0, 1, 2, 5], [5] * 4]
    assert not run.incidents()


@triton.jit
def two_tensors_kernel(x, y, out, n, BLOCK: tl.constexpr):
    lanes = tl.arange(0, BLOCK)
    pointers = tl.where(lanes % 2 == 0, x + lanes, y + lanes)
    tl.store(out + lanes, tl.load(pointers, mask=lanes < n, other=-7), mask=lanes < n)
    tl.store(pointers, lanes * 0 + 50, mask=lanes >= n)


def test_one_access_may_touch_several_tensors(new_run):
    run = new_run()
    x = run.place(np.arange(8, dtype=np.int32), name="x", role=Role.SCRATCH)
    y = run.place(np.arange(10, 17, dtype=np.int32), name="y", role=Role.SCRATCH)
    out = run.empty((8,), torch.int32)
    run.launch(two_tensors_kernel, (1,), x, y, out, 6, BLOCK=8)
    assert out[:6].tolist() == [0, 11, 2, 13, 4, 15]
    assert x.tolist() == [0, 1, 2, 3, 4, 5, 50, 7]
    incident = only(run, "oob-write")
    assert (incident.region.name, incident.low, incident.lanes) == ("y", 28, 1)
