"""An NVFP4 linear layer, after vLLM's: quantization, swizzled scales, padding for tensor parallelism, the GEMM."""
