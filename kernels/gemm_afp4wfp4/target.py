"""The contract of the MXFP4 GEMM, as targets: what it is given, and what it has to answer."""

from __future__ import annotations

import torch

import fp4guard as fg
from fp4guard import dims, oracle
from fp4guard.formats import SCALES_32X8

from .configs import CONFIGS
from .launch import gemm_afp4wfp4 as launch

DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16, "fp32": torch.float32}

#: Configurations that suit preshuffled scales, whatever the number of rows.
PRESHUFFLED = [name for name, c in CONFIGS.items() if c.block_m >= 32 and c.block_n >= 32 and c.block_k >= 256]


@fg.fuzz(
    m=dims(tile=lambda config: CONFIGS[config].block_m),
    n=dims(tile=lambda config: CONFIGS[config].block_n),
    k=dims(multiple_of=32, tile=lambda config: CONFIGS[config].block_k),
    config=list(CONFIGS),
    dtype=list(DTYPES),
)
def gemm_afp4wfp4(mem, m, n, k, config, dtype):
    """Linear scales, any strides, of any size."""
    a = mem.mxfp4("a", (m, k), fg.WIDE)
    b = mem.mxfp4("b", (n, k), fg.WIDE)
    out = mem.output("out", (m, n), DTYPES[dtype], fg.WIDE)
    launch(a.codes, b.codes, a.scales, b.scales, out, config=CONFIGS[config])
    mem.expect(out, oracle.gemm(a, b, oracle.FP32_TRUNCATING))


@fg.fuzz(
    m=dims(tile=lambda config: CONFIGS[config].block_m),
    n=dims(tile=lambda config: CONFIGS[config].block_n),
    k=dims(multiple_of=32, tile=lambda config: CONFIGS[config].block_k),
    config=PRESHUFFLED,
    dtype=list(DTYPES),
)
def gemm_afp4wfp4_preshuffled(mem, m, n, k, config, dtype):
    """Scales in the gfx950 order, padding left to chance; the output is the launcher's own."""
    a = mem.mxfp4("a", (m, k), fg.STRIDED)
    b = mem.mxfp4("b", (n, k), fg.STRIDED)
    a_scales = preshuffled(mem, "a_shuffled", a.matrix.scales) if m >= 32 else a.scales
    b_scales = preshuffled(mem, "b_shuffled", b.matrix.scales)
    out = launch(
        a.codes,
        b.codes,
        a_scales,
        b_scales,
        dtype=DTYPES[dtype],
        config=CONFIGS[config],
        scales="preshuffled",
    )
    mem.expect(out, oracle.gemm(a, b, oracle.FP32_TRUNCATING))


def preshuffled(mem, name, scales):
    """Scales padded to whole tiles of 32 x 8 and shuffled. The contract says nothing of the padding: it is poison."""
    return mem.input(name, SCALES_32X8.pack(scales), fg.ROWS, undefined=SCALES_32X8.padding(scales.shape))
