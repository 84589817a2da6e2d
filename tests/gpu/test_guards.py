"""The guard kernels, in the simulator, against what the host's regions do in numpy."""

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fp4guard.gpu.guards import CHUNK, COLUMNS, COUNTS, PATTERN, PERIOD, check_kernel
from fp4guard.gpu.region import DeviceRegion, pattern, storage_order
from fp4guard.memory import ALL_ONES, EXTREMES, ORDINARY, STRIDED, Role
from fp4guard.memory.layouts import span
from fp4guard.memory.poison import _PATTERNS, Poison
from fp4guard.memory.region import Region

ZONE = 4096
DTYPES = (torch.uint8, torch.bfloat16, torch.float32, torch.int64, torch.float8_e4m3fn, torch.bool)
#: Small ones, and one with whole chunks of nothing but elements.
SHAPES = st.lists(st.integers(0, 9), min_size=0, max_size=4).map(tuple) | st.just((3, 8200))
SHARED = settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])


def region_of(name, role, shape, dtype, layout, values=None):
    strides = layout.strides(shape)
    inside = (span(shape, strides) + layout.offset) * dtype.itemsize
    buffer = torch.empty(2 * ZONE + -(-inside // 256) * 256, dtype=torch.uint8)
    region = DeviceRegion(name, role, buffer, dtype, shape, strides, ZONE + layout.offset * dtype.itemsize)
    if values is not None:
        region.given = values.permute(storage_order(strides)).reshape(-1).contiguous().view(torch.uint8)
    return region


def fill(region, poison):
    region.held = torch.from_numpy(pattern(poison, region.dtype))
    region.fill(poison)


def values_of(shape, dtype, seed):
    raw = np.random.default_rng(seed).integers(0, 2 if dtype is torch.bool else 256, (*shape, dtype.itemsize), np.uint8)
    return torch.from_numpy(raw.reshape(-1)).view(dtype).reshape(shape)


def host_copy(region, poison, values):
    """What the region must hold, as the host's own regions are made."""
    host = Region(
        region.name, region.role, np.empty(len(region.buffer), np.uint8), region.dtype, region.shape, region.strides,
        region.base,
    )  # fmt: skip
    poison.fill(host.storage, region.dtype)
    if values is not None:
        host.elements(host.storage)[...] = (
            values.reshape(-1).contiguous().view(torch.uint8).numpy().reshape(*region.shape, region.dtype.itemsize)
        )
    return host


def compare(simulator, pairs):
    """The counts of `check_kernel` for pairs of regions, by name."""
    rows = torch.tensor([one.row(other) for one, other in pairs])
    counts = torch.zeros((len(pairs), len(COUNTS)), dtype=torch.int32)
    chunks = max(-(-len(one.buffer) // CHUNK) for one, _ in pairs)
    check_kernel[(chunks, len(pairs))](rows, counts, CHUNK=CHUNK)
    assert not simulator.trace.incidents
    return [dict(zip(COUNTS, row.tolist())) for row in counts]


@given(SHAPES, st.sampled_from(DTYPES), st.sampled_from(STRIDED), st.sampled_from([ALL_ONES, ORDINARY, *EXTREMES]))
@SHARED
def test_region_is_filled_as_the_host_fills_it(simulated_device, shape, dtype, layout, poison):
    values = values_of(shape, dtype, 1)
    for role, given_values in ((Role.INPUT, values), (Role.OUTPUT, None)):
        region = region_of("x", role, shape, dtype, layout, given_values)
        fill(region, poison)
        assert (region.buffer.numpy() == host_copy(region, poison, given_values).storage).all()
        assert not simulated_device.trace.incidents
    assert torch.equal(region_of("y", Role.INPUT, shape, dtype, layout, values).given.sort().values,
                       values.reshape(-1).contiguous().view(torch.uint8).sort().values)  # fmt: skip


@given(SHAPES, st.sampled_from(DTYPES), st.sampled_from(STRIDED), st.data())
@SHARED
def test_every_disturbed_byte_is_counted_once(simulated_device, shape, dtype, layout, data):
    poisons, values = (ALL_ONES, ORDINARY), values_of(shape, dtype, 2)
    pairs = []
    for role in (Role.INPUT, Role.OUTPUT, Role.SCRATCH):
        pair = [region_of(role.value, role, shape, dtype, layout, values if role is Role.INPUT else None) for _ in "ab"]
        for region, poison in zip(pair, poisons):
            fill(region, poison)
            if role is not Role.INPUT:
                region.tensor.zero_()  # written, and equal in both runs
        pairs.append(pair)
    quiet = compare(simulated_device, pairs)
    assert all(not any(row.values()) for row in quiet)
    # The same bytes of the first run are disturbed in regions of every role.
    size = len(pairs[0][0].buffer)
    places = sorted(data.draw(st.sets(st.integers(0, size - 1), max_size=20)))
    for first, _ in pairs:
        first.buffer[places] ^= 0x55
    elements = np.zeros(size, bool)
    host_copy(pairs[0][0], ORDINARY, None).elements(elements)[...] = True
    inside, outside = int(elements[places].sum()), int((~elements[places]).sum())
    for row, (first, _) in zip(compare(simulated_device, pairs), pairs):
        assert row["first_guard"] == outside
        assert row["second_guard"] == row["second_input"] == 0
        assert row["first_input"] == (inside if first.role is Role.INPUT else 0)
        assert row["differing"] == (inside if first.role is Role.OUTPUT else 0)


@pytest.mark.parametrize("name", _PATTERNS)
@pytest.mark.parametrize("dtype", [*DTYPES, torch.complex64, torch.float16, torch.int16], ids=str)
def test_pattern_repeats_as_poison_does(name, dtype):
    poison = Poison(name)
    long = np.empty(3 * PATTERN, np.uint8)
    poison.fill(long, dtype)
    for start in (0, CHUNK, 2 * CHUNK):
        place = start % PERIOD
        assert (pattern(poison, dtype)[place : place + CHUNK] == long[start : start + CHUNK]).all()


#: Where the elements begin, also beside a chunk's edge and not aligned, and where they end, seen from an edge.
EDGES = [
    (base, chunks, step)
    for base in (ZONE, ZONE + 8, CHUNK - 16, CHUNK, CHUNK + 16)
    for chunks in (1, 3)
    for step in (-1024, -16, -1, 0, 1, 16, 512)
]


@pytest.mark.parametrize(("base", "chunks", "step"), EDGES)
@pytest.mark.parametrize("role", [Role.INPUT, Role.OUTPUT, Role.SCRATCH])
def test_chunks_of_nothing_but_elements_are_checked_to_their_edges(simulated_device, role, base, chunks, step):
    """Of both runs, whose poison differs, with the elements' ends at and beside the ends of chunks."""
    end = CHUNK * (chunks + 1) + step
    values = values_of((end - base,), torch.uint8, 3) if role is Role.INPUT else None
    pair, poisons = [], (ALL_ONES, ORDINARY)
    for poison in poisons:
        buffer = torch.empty(end + ZONE, dtype=torch.uint8)
        region = DeviceRegion("x", role, buffer, torch.uint8, (end - base,), (1,), base)
        region.given = values
        fill(region, poison)
        assert (buffer.numpy() == host_copy(region, poison, values).storage).all()
        pair.append(region)
    (dense,) = [value for name, value in zip(COLUMNS, pair[0].row(pair[1])) if name == "dense"]
    assert (dense > 0) == (base % 16 == 0), "what is not aligned is looked for byte by byte"
    if role is not Role.INPUT:
        for region in pair:
            region.tensor.zero_()
    assert not any(compare(simulated_device, [pair])[0].values())
    edges = {0, base - 1, base, base + 1, end - 1, end, end + 1, len(buffer) - 1}
    edges |= {chunk * CHUNK + d for chunk in range(1, chunks + 1) for d in (-1, 0, 1)}
    places = [sorted(edge for i, edge in enumerate(sorted(edges)) if i % 3 != run) for run in (0, 1)]
    for region, disturbed in zip(pair, places):
        region.buffer[disturbed] ^= 0x55
    inside = [sum(base <= place < end for place in disturbed) for disturbed in places]
    row = compare(simulated_device, [pair])[0]
    assert [row["first_guard"], row["second_guard"]] == [len(p) - i for p, i in zip(places, inside)]
    assert [row["first_input"], row["second_input"]] == (inside if role is Role.INPUT else [0, 0])
    differing = {place for place in places[0] if base <= place < end} ^ {p for p in places[1] if base <= p < end}
    assert row["differing"] == (len(differing) if role is Role.OUTPUT else 0)
