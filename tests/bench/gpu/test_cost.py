"""What is measured of a case on a GPU, by what the profiler tells: it needs none itself."""

import pytest

from fp4guard.bench.gpu import cost


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
