"""Gluon on a Hopper GPU and in the simulator, bit by bit.

    python tests/conformance/gluon.py [--write [FOLDER]] [--simulate]

Kernels of `gluon_kernels.py` on equal inputs: layouts, shared memory and its parts, cp.async, wgmma, copies by
descriptor. All bits have to be equal but where a row says why not, and by how much they may differ. NaN equals NaN:
which one an operation makes is the hardware's affair.

Exit status 0 where all is as it has to be, 1 where not, 2 without a GPU of compute capability 9.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parent.parent), str(HERE.parent)]

import numpy as np  # noqa: E402
import torch  # noqa: E402
from triton.experimental.gluon import language as gl  # noqa: E402
from triton.experimental.gluon.nvidia.hopper import TensorDescriptor  # noqa: E402

from conformance import gluon_kernels as kernels  # noqa: E402
from conformance.__main__ import header  # noqa: E402
from fp4guard.files import write_atomically  # noqa: E402
from fp4guard.memory import CONTIGUOUS, ORDINARY, Memory, Role  # noqa: E402
from fp4guard.oracle import FP8_HOPPER, FP32_TRUNCATING  # noqa: E402
from fp4guard.sim import Simulator  # noqa: E402
from fp4guard.ttir import parse_arch  # noqa: E402

#: By name: the type of the operands of a product, Gluon's name for it, and how the card adds.
TYPES = {
    "f16": (torch.float16, gl.float16, FP32_TRUNCATING),
    "bf16": (torch.bfloat16, gl.bfloat16, FP32_TRUNCATING),
    "tf32": (torch.float32, gl.float32, FP32_TRUNCATING),
    "e4m3": (torch.float8_e4m3fn, gl.float8e4nv, FP8_HOPPER),
    "e5m2": (torch.float8_e5m2, gl.float8e5, FP8_HOPPER),
}

Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class Job:
    """One launch: what to call, what it writes, and by how much it may be off (None: not at all), and why."""

    launch: Callable[[], Any]
    out: torch.Tensor
    allowed: Array | None = None
    why: str = ""


class Gpu:
    """Where tensors live on the card."""

    def place(self, values: torch.Tensor) -> torch.Tensor:
        return values.cuda()

    def empty(self, shape: tuple[int, ...], dtype: torch.dtype) -> torch.Tensor:
        return torch.full(shape, -3, dtype=dtype, device="cuda")

    def run(self, job: Job) -> torch.Tensor:
        job.launch()
        torch.cuda.synchronize()
        return job.out.cpu()


class Simulated:
    """Where they live in the simulator, which has to find nothing."""

    def __init__(self) -> None:
        self.memory = Memory(ORDINARY)
        self.simulator = Simulator(self.memory, parse_arch("sm_90"))

    def place(self, values: torch.Tensor) -> torch.Tensor:
        held = values.view(torch.uint8) if values.dtype.itemsize == 1 else values
        return self.memory.place(self._name(), Role.INPUT, held, CONTIGUOUS).tensor.view(values.dtype)

    def empty(self, shape: tuple[int, ...], dtype: torch.dtype) -> torch.Tensor:
        return self.memory.empty(self._name(), Role.OUTPUT, shape, dtype, CONTIGUOUS).tensor

    def run(self, job: Job) -> torch.Tensor:
        with self.simulator.intercepting():
            job.launch()
        found = [(i.kind, str(i.site.location)) for i in self.simulator.trace.incidents.values()]
        assert not found, f"the simulator found {found}"
        return job.out

    def _name(self) -> str:
        return f"tensor {len(self.memory.regions)}"


def jobs(side: Gpu | Simulated) -> Iterator[tuple[str, Job]]:
    """Every row's name and launch, on the same inputs for either side."""
    rng = np.random.default_rng(0)

    def normal(*shape: int) -> torch.Tensor:
        return torch.from_numpy(rng.standard_normal(shape).astype(np.float32))

    def integers(*shape: int) -> torch.Tensor:
        return torch.from_numpy(rng.integers(-4, 5, shape).astype(np.float32))

    def made(kernel: Any, grid: tuple[int, ...], inputs: list[torch.Tensor], shape: tuple[int, ...], *rest: Any,
             dtype: torch.dtype = torch.float32, **constants: Any) -> Job:  # fmt: skip
        held, out = [side.place(x) for x in inputs], side.empty(shape, dtype)
        return Job(lambda: kernel[grid](*held, out, *rest, **constants), out)

    yield "add", made(kernels.add, (4,), [normal(1000), normal(1000)], (1000,), 1000, B=256)
    job = made(kernels.softmax, (7,), [x := normal(7, 100)], (7, 100), 100, B=128)
    why = "the exponential is approximate, and the sum has another order"
    yield "softmax", Job(job.launch, job.out, x.double().softmax(1).numpy() * 2.0**-20, why)
    yield "reduce: largest", made(kernels.largest, (1,), [integers(64, 64)], (64,), dtype=torch.int32)
    yield "scan: affine", made(kernels.scan, (1,), [integers(128).sign(), integers(128)], (128,), B=128)
    yield "join, split", made(kernels.interleave, (1,), [normal(256)], (384,), B=128)
    yield "linear layout", made(kernels.convert, (1,), [normal(64, 64)], (64, 64))
    for name, shared in (("swizzled", kernels.SWIZZLED), ("padded", kernels.PADDED)):
        job = made(kernels.transpose, (1,), [normal(64, 64)], (64, 64), SHARED=shared.value)
        yield f"shared memory, {name}: transpose", job
    yield "shared memory: parts that overlap", made(kernels.cut, (1,), [normal(64, 64)], (64, 64))
    yield "cp.async: two buffers", made(kernels.buffers, (3,), [normal(15, 256)], (3, 256), 5, B=256)
    yield "cp.async: what a mask leaves out", made(kernels.masked_copy, (4,), [normal(1000)], (1024,), 1000, B=256)
    for name in TYPES:
        yield from products(name, side, normal, integers)
    for padding in ("zero", "nan"):
        layout = gl.NVMMASharedLayout(64, 16, 2)
        x, out = side.place(normal(50, 40).half()), side.empty((64, 48), torch.float16)
        source = TensorDescriptor(x, [50, 40], [40, 1], [32, 32], layout, padding)
        target = TensorDescriptor(out, [64, 48], [48, 1], [32, 32], layout)
        launch = _launch(kernels.blocks, (2, 2), source, target, BM=32, BN=32)
        yield f"TMA: blocks beyond the tensor, padding {padding}", Job(launch, out)
    for stages in (2, 3):
        layout = gl.NVMMASharedLayout(64, 16, 2)
        a, b = side.place(integers(100, 152).half()), side.place(integers(152, 80).half())
        out = side.empty((100, 80), torch.float16)
        shapes = (([64, 32], a), ([32, 32], b), ([64, 32], out))
        given = [TensorDescriptor.from_tensor(x, shape, layout) for shape, x in shapes]
        launch = _launch(kernels.pipeline, (2, 3), *given, 152, BM=64, BN=32, BK=32, STAGES=stages)
        yield f"TMA, mbarrier, wgmma: pipeline of {stages}", Job(launch, out)


def products(name: str, side: Gpu | Simulated, normal: Any, integers: Any) -> Iterator[tuple[str, Job]]:
    """Wgmma with and without what it adds to: of small integers, whose sums are exact, and of normal numbers."""
    dtype, type_, accumulator = TYPES[name]
    k = 64 // dtype.itemsize
    shared = gl.NVMMASharedLayout(64, 8 * dtype.itemsize, 2)
    for kind, draw in (("integers", integers), ("normal numbers", normal)):
        for use in (0, 1):
            a, b, c = draw(64, k).to(dtype), draw(32, k).to(dtype), draw(64, 32)
            held, out = [side.place(x) for x in (a, b, c)], side.empty((64, 32), torch.float32)
            launch = _launch(kernels.product, (1,), *held, out, use, K=k, TYPE=type_, SHARED=shared)
            label = f"wgmma {name}, {kind}{', added to' if use else ''}"
            if kind == "integers":
                yield label, Job(launch, out)
                continue
            size = (a.double().abs() @ b.double().abs().T + use * c.double().abs()).numpy()
            allowed = (k + use) * accumulator.unit_roundoff * size
            yield label, Job(launch, out, allowed, "the card truncates as it adds, in an order of its own")


def _launch(kernel: Any, grid: tuple[int, ...], *args: Any, **constants: Any) -> Callable[[], Any]:
    return lambda: kernel[grid](*args, **constants)


@dataclass(frozen=True)
class Outcome:
    """What a row came to; `share` is the largest difference, as a share of what is allowed."""

    name: str
    elements: int
    nans: int
    differing: int
    share: float
    why: str

    @property
    def right(self) -> bool:
        return not self.differing or self.share <= 1


def compared(name: str, gpu: torch.Tensor, sim: torch.Tensor, job: Job) -> Outcome:
    """Bits against bits. Two NaN are equal; where a difference is allowed, it is measured."""
    bits = {2: torch.int16, 4: torch.int32}[gpu.dtype.itemsize]
    x, y = gpu.contiguous(), sim.contiguous()
    nans = x.isnan() & y.isnan() if x.dtype.is_floating_point else torch.zeros_like(x, dtype=torch.bool)
    differ = ((x.view(bits) != y.view(bits)) & ~nans).numpy()
    share = np.inf if differ.any() else 0.0
    if differ.any() and job.allowed is not None:
        off = np.abs(x.double().numpy() - y.double().numpy())[differ]
        share = float(np.nan_to_num(off / job.allowed[differ], nan=np.inf).max())
    return Outcome(name, differ.size, int(nans.sum()), int(differ.sum()), share, job.why)


def rendered(outcomes: list[Outcome], facts: dict[str, str]) -> str:
    """The table, in Markdown."""
    wrong = sum(not outcome.right for outcome in outcomes)
    same = sum(not outcome.differing for outcome in outcomes)
    lines = [
        "# Gluon in the simulator and on a real GPU",
        "",
        "Written by `python tests/conformance/gluon.py --write`; see there for what is compared.",
        "",
        *(f"- {name}: {value}" for name, value in facts.items()),
        f"- {len(outcomes)} rows, {sum(o.elements for o in outcomes)} elements; {same} rows of the same bits, "
        f"{len(outcomes) - same - wrong} with differences that they allow and explain, {wrong} wrong",
        "",
        "`NaN` counts elements that are NaN on both sides; `of allowed` is the largest difference as a share of what "
        "the row allows.",
        "",
        "| kernel | elements | NaN | differing | of allowed | why |",
        "|---|--:|--:|--:|--:|---|",
    ]
    for o in outcomes:
        share = f"{o.share:.3f}" if o.differing else ""
        why = o.why if o.differing else ""
        lines.append(f"| {o.name} | {o.elements} | {o.nans or ''} | {o.differing or ''} | {share} | {why} |")
    return "\n".join(lines) + "\n"


def main() -> int:
    """Print the table and what is wrong; with `--write`, keep it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--write", metavar="FOLDER", nargs="?", const=HERE, type=Path, help="keep the table in FOLDER")
    parser.add_argument("--simulate", action="store_true", help="the simulator's part alone; needs no GPU")
    options = parser.parse_args()
    if options.simulate:
        side = Simulated()
        print(f"{sum(side.run(job) is not None for _, job in jobs(side))} rows simulated")
        return 0
    if not torch.cuda.is_available() or torch.cuda.get_device_capability()[0] != 9:
        print("No Hopper GPU here (--simulate runs the simulator's part).", file=sys.stderr)
        return 2
    gpu, sim = Gpu(), Simulated()
    pairs = zip(jobs(gpu), jobs(sim), strict=True)
    outcomes = [compared(name, gpu.run(job), sim.run(twin), job) for (name, job), (_, twin) in pairs]
    text = rendered(outcomes, header())
    print(text)
    if options.write:
        name = torch.cuda.get_device_name().split()[-1]
        write_atomically(options.write / f"{name}-gluon.md", text)
    wrong = [outcome for outcome in outcomes if not outcome.right]
    for outcome in wrong:
        print(f"WRONG {outcome.name}: {outcome.differing} of {outcome.elements} elements differ")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
