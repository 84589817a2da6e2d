"""The contract of the MXFP4 GEMM, as a target: what it is given, and what it has to answer."""

from __future__ import annotations

import torch

import fp4guard as fg
from fp4guard import dims, oracle

from .configs import CONFIGS
from .launch import gemm_afp4wfp4 as launch

DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16, "fp32": torch.float32}


@fg.fuzz(
    m=dims(tile=lambda config: CONFIGS[config].block_m),
    n=dims(tile=lambda config: CONFIGS[config].block_n),
    k=dims(multiple_of=32, tile=lambda config: CONFIGS[config].block_k),
    config=list(CONFIGS),
    dtype=list(DTYPES),
)
def gemm_afp4wfp4(mem, m, n, k, config, dtype):
    """Linear scales, any strides."""
    a = mem.mxfp4("a", (m, k), fg.STRIDED)
    b = mem.mxfp4("b", (n, k), fg.STRIDED)
    out = mem.output("out", (m, n), DTYPES[dtype], fg.STRIDED)
    launch(a.codes, b.codes, a.scales, b.scales, out, config=CONFIGS[config])
    mem.expect(out, oracle.gemm(a, b))
