"""What each backend's GEMM asks of its operands, as data."""

from __future__ import annotations

from dataclasses import dataclass

from .scales import SCALE_LAYOUTS, round_up


@dataclass(frozen=True)
class Backend:
    """Multiples, in elements, that N and K have to be, and the layout of the activations' scales."""

    name: str
    n_multiple: int
    k_multiple: int
    few_rows: str = "128x4"
    """The layout for as few rows as it allows; above that it is 128x4, and always for weights."""

    def padded(self, n: int, k: int) -> tuple[int, int]:
        """N and K rounded up to what the backend takes."""
        return round_up(n, self.n_multiple), round_up(k, self.k_multiple)

    def activation_layout(self, m: int) -> str:
        """The scale layout of m rows of activations."""
        most = SCALE_LAYOUTS[self.few_rows].max_rows
        return self.few_rows if most is not None and m <= most else "128x4"


BACKENDS = {
    backend.name: backend
    for backend in (
        # CUTLASS's own rule, whole 16-byte rows; FlashInfer's two take whole tiles of the weights' scales.
        Backend("cutlass", n_multiple=32, k_multiple=32),
        Backend("flashinfer-cutlass", n_multiple=128, k_multiple=64),
        Backend("flashinfer-trtllm", n_multiple=128, k_multiple=128, few_rows="8x4"),
    )
}


def backend_named(name: str) -> Backend:
    """The backend of that name; ValueError where there is none."""
    if name not in BACKENDS:
        raise ValueError(f"backend is {name!r}; allowed: {', '.join(map(repr, BACKENDS))}")
    return BACKENDS[name]
