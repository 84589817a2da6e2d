"""A fused mixture of experts that dequantizes MXFP4 weights inline, after vLLM's `fused_moe_mxfp4`."""
