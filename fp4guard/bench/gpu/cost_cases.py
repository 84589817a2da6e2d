"""What is measured on a GPU: cases of the included kernels at sizes of production, one for each kernel."""

from __future__ import annotations

from typing import Any

#: Spec of a target, and the arguments of the case.
CASES: tuple[tuple[str, dict[str, Any]], ...] = (
    (
        "kernels.gemm_afp4wfp4::gemm_afp4wfp4",
        {"m": 512, "n": 4096, "k": 4096, "config": "BM256_BN256_BK256_GM4", "dtype": "bf16"},
    ),
    (
        "kernels.nvfp4_linear::scaled_fp4_quant",
        {
            "m": 4096, "k": 8192, "pad_k": 0, "scale_layout": "128x4", "config": "BM16_BG16", "dtype": "bf16",
            "arithmetic": "fast", "global_scale": "this", "scale_dtype": "fp32", "outputs": "given",
        },
    ),
    (
        "kernels.nvfp4_linear::scaled_fp4_mm",
        {
            "m": 512, "n_units": 128, "k_units": 128, "backend": "cutlass", "config": "BM128_BN256_BK64_GM4",
            "a_layout": "128x4", "b_layout": "128x4", "dtype": "bf16", "alpha": 1.0, "bias": None, "outputs": "given",
        },
    ),
    (
        "kernels.cast_transpose_mxfp4::cast_transpose_mxfp4",
        {
            "m": 4096, "n": 4096, "leading": (), "config": "BM128_BN128", "dtype": "bf16", "direction": "both",
            "codes": "linear", "scales": "shuffled", "out": "given",
        },
    ),
    (
        "kernels.moe_mxfp4::moe_gemm",
        {
            "m": 512, "n": 2048, "k": 2048, "experts": 8, "top_k": 2, "routing": "even", "placement": "all",
            "bias": "none", "weighted": False, "dtype": "bf16", "config": "BM64_BN128_BK128_GM8",
        },
    ),
    (
        "kernels.mqa_logits::mqa_logits",
        {
            "batch": 17, "next_n": 2, "max_model_len": 16384, "shape": "H64_D128", "cache": "64", "lengths": "full",
            "extra": 0, "schedule": "fixed", "config": "CK256_SK5_P80",
        },
    ),
)  # fmt: skip
