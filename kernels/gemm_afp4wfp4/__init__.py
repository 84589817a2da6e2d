"""MXFP4 x MXFP4 GEMM with split-K, after AITER's `gemm_afp4wfp4`."""
