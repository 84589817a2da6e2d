from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fp4guard import UsageError
from fp4guard.ttir import ARCHES, Type, parse_arch, parse_type


@pytest.mark.parametrize(("text", "expected"), [
    ("i32", Type("i32")),
    (" bf16 ", Type("bf16")),
    ("f8E4M3FN", Type("f8E4M3FN")),
    ("tensor<32xi1>", Type("i1", (32,))),
    ("tensor<4x8x1xbf16>", Type("bf16", (4, 8, 1))),
    ("!tt.ptr<i8>", Type("ptr", (), "i8")),
    ("!tt.ptr<f32, 1>", Type("ptr", (), "f32")),
    ("tensor<32x64x!tt.ptr<i8>>", Type("ptr", (32, 64), "i8")),
    ("tensor<2x!tt.ptr<i8>, #blocked>", Type("ptr", (2,), "i8")),
    ("tensor<32x64xf16, #mma>", Type("f16", (32, 64))),
    ("tensor<16xf32, #ttg.slice<{dim = 1, parent = #blocked}>>", Type("f32", (16,))),
    ("!tt.ptr<!tt.ptr<f16>>", Type("ptr", (), "!tt.ptr<f16>")),
])  # fmt: skip
def test_types(text, expected):
    assert parse_type(text) == expected


@settings(deadline=None)
@given(
    st.lists(st.integers(1, 4096), max_size=4),
    st.sampled_from(["i1", "i64", "bf16", "f8E5M2", "ptr"]),
)
def test_what_is_printed_parses_to_the_same(shape, element):
    type_ = Type(element, tuple(shape), "f16" if element == "ptr" else None)
    assert parse_type(str(type_)) == type_


@pytest.mark.parametrize("name", [*ARCHES, "sm_75", "gfx1250", "gfx90a"])
def test_architectures(name):
    target = parse_arch(name).target
    if name.startswith("sm_"):
        assert (target.backend, target.arch, target.warp_size) == ("cuda", int(name[3:]), 32)
    else:
        assert (target.backend, target.arch) == ("hip", name)
        assert target.warp_size == (64 if name.startswith("gfx9") else 32)


@pytest.mark.parametrize(
    "name",
    ["", "sm90", "sm_9", "sm_10", "sm_1x", "sm_69", "sm_1000", "gfx", "gfx9", "cuda", "SM_90", "sm_90a ", "gfx95z"],
)
def test_other_spellings_are_refused(name):
    with pytest.raises(UsageError, match="allowed are sm_<n> and gfx<n>, such as sm_80"):
        parse_arch(name)
