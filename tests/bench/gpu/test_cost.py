"""What is measured of a case on a GPU, by what the profiler tells: it needs none itself."""

from dataclasses import replace

import pytest

from fp4guard.bench.gpu import cost
from fp4guard.bench.gpu.plain import Times


@pytest.mark.parametrize(
    ("event", "sort"),
    [
        ("quantize_nvfp4_kernel", "kernels"),
        ("fill_kernel", "guards"),
        ("check_kernel", "guards"),
        ("return_kernel", "guards"),
        ("Memcpy DtoD (Device -> Device)", "guards"),
        ("Memcpy HtoD (Pageable -> Device)", "transfers"),
        ("void at::native::vectorized_elementwise_kernel<4>", None),
    ],
)
def test_what_an_event_counts_as(event, sort):
    assert cost._sort(event, {"quantize_nvfp4_kernel"}) == sort


def test_copies_of_the_target_itself_are_no_part_of_the_guards():
    plain = {"kernels": 0.5, "guards": 0.25, "transfers": 0.0}
    guarded = {"kernels": 1.0, "guards": 1.5, "transfers": 2.0}
    assert cost._round(plain, guarded) == (0.5, 1.0, 1.0, 2.0, 2.0)
    assert cost._round(plain | {"guards": 0.0}, guarded) == (0.5, 1.0, 1.5, 2.0, 2.5)


def test_a_row_tells_of_launches_alone_and_of_whole_runs():
    alone, below = Times(0.5, 10, 900), Times(5, 25, 950)
    row = cost.Measured("gemm", 0.25, 0.5, 0.125, 1.25, 1.0, 8.0, 20.0, 400.0, alone, below)
    assert dict(zip(cost.TABLE.columns, row.cells(), strict=True)) == {
        "kernel": "gemm",
        "plain": "0.250",
        "two guarded": "0.500",
        "guards": "0.125",
        "ratio": "1.25",
        "memcheck": "10.0",
        "whole": "8.0",
        "guarded whole": "2.5",
        "memcheck whole": "2.5",
        "case": "400",
        "first launch": "900",
    }
    assert [cell for cell in replace(row, memcheck=None).cells() if not cell] == ["", ""]
