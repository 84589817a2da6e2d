"""MXFP4 quantization of a matrix along both axes in one pass, after Transformer Engine's `cast_transpose_mxfp4`."""
