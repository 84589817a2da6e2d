"""What is measured: one row a kernel and shape."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
import triton

from ..fuzzing.memory import CaseMemory
from ..included.gemm_afp4wfp4.configs import CONFIGS  # type: ignore[import-untyped]
from ..included.gemm_afp4wfp4.launch import gemm_afp4wfp4  # type: ignore[import-untyped]
from . import kernels

#: Allocates and fills the arguments; gives the launch. `module` holds the kernels where there are several of a name.
Prepare = Callable[..., Callable[[], object]]


def _gemm(mem: CaseMemory, m: int, n: int, k: int) -> Callable[[], object]:
    a, b = mem.mxfp4("a", (m, k)), mem.mxfp4("b", (n, k))
    out = mem.output("out", (m, n), torch.bfloat16)
    return lambda: gemm_afp4wfp4(a.codes, b.codes, a.scales, b.scales, out, config=CONFIGS["BM32_BN32_BK128"])


def _add(mem: CaseMemory, n: int, module: Any = kernels) -> Callable[[], object]:
    x, y = mem.tensor("x", (n,), torch.float32), mem.tensor("y", (n,), torch.float32)
    out = mem.output("out", (n,), torch.float32)
    return lambda: module.add_kernel[(triton.cdiv(n, 1024),)](x, y, out, n, BLOCK=1024)


def _softmax(mem: CaseMemory, rows: int, columns: int, module: Any = kernels) -> Callable[[], object]:
    x, out = mem.tensor("x", (rows, columns), torch.float32), mem.output("out", (rows, columns), torch.float32)
    block = triton.next_power_of_2(columns)
    return lambda: module.softmax_kernel[(rows,)](x, out, columns, BLOCK=block)


def _matmul(mem: CaseMemory, m: int, n: int, k: int, module: Any = kernels) -> Callable[[], object]:
    a, b = mem.tensor("a", (m, k), torch.float16), mem.tensor("b", (k, n), torch.float16)
    c = mem.output("c", (m, n), torch.float16)
    grid = (triton.cdiv(m, 32), triton.cdiv(n, 32))
    return lambda: module.matmul_kernel[grid](a, b, c, m, n, k, BM=32, BN=32, BK=32)


def _layer_norm(mem: CaseMemory, rows: int, columns: int) -> Callable[[], object]:
    x = mem.tensor("x", (rows, columns), torch.float32)
    weight, bias = mem.tensor("weight", (columns,), torch.float32), mem.tensor("bias", (columns,), torch.float32)
    out = mem.output("out", (rows, columns), torch.float32)
    block = triton.next_power_of_2(columns)
    return lambda: kernels.layer_norm_kernel[(rows,)](x, weight, bias, out, columns, 1e-5, BLOCK=block)


def _paged_gather(
    mem: CaseMemory, sequences: int, pages: int, page: int, width: int, module: Any = kernels
) -> Callable[[], object]:
    cache = mem.tensor("cache", (sequences * pages, page, width), torch.float16)
    table = mem.integers("table", (sequences, pages), 0, sequences * pages - 1)
    lengths = mem.integers("lengths", (sequences,), 0, pages * page)
    out = mem.output("out", (sequences, pages * page, width), torch.float16)
    grid = (sequences, pages)
    return lambda: module.paged_gather_kernel[grid](cache, table, lengths, out, pages, PAGE=page, WIDTH=width)


def _segment_sum(mem: CaseMemory, segments: int, most: int) -> Callable[[], object]:
    lengths = mem.integers("lengths", (segments,), 0, most)
    starts = torch.zeros(segments + 1, dtype=torch.int32)
    starts[1:] = lengths.cumsum(0)
    starts = mem.input("starts", starts)
    x, out = mem.tensor("x", (int(starts[-1]),), torch.float32), mem.output("out", (segments,), torch.float32)
    return lambda: kernels.segment_sum_kernel[(segments,)](x, starts, out, BLOCK=64)


def _histogram(mem: CaseMemory, n: int, bins: int) -> Callable[[], object]:
    x = mem.integers("x", (n,), 0, bins - 1)
    counts = mem.output("counts", (bins,), torch.int32, fill=0)
    return lambda: kernels.histogram_kernel[(triton.cdiv(n, 1024),)](x, counts, n, BLOCK=1024)


@dataclass(frozen=True)
class Row:
    """A kernel at a shape."""

    kernel: str
    shape: tuple[int, ...]
    prepare: Prepare

    @property
    def name(self) -> str:
        """Such as `softmax 257x781`."""
        return f"{self.kernel} {'x'.join(map(str, self.shape))}"


ROWS = (
    Row("gemm_afp4wfp4", (7, 5, 96), _gemm),
    Row("gemm_afp4wfp4", (33, 37, 160), _gemm),
    Row("gemm_afp4wfp4", (101, 97, 224), _gemm),
    Row("gemm_afp4wfp4", (256, 256, 256), _gemm),
    Row("gemm_afp4wfp4", (512, 512, 512), _gemm),
    Row("vector add", (1 << 20,), _add),
    Row("softmax", (257, 781), _softmax),
    Row("matmul fp16", (257, 263, 129), _matmul),
    Row("layer norm", (127, 1151), _layer_norm),
    Row("paged gather", (16, 8, 16, 64), _paged_gather),
    Row("segment sum", (256, 512), _segment_sum),
    Row("atomic histogram", (1 << 17, 256), _histogram),
)
