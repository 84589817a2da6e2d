"""Data regimes: one kind of input a function, for block-scaled matrices, dense tensors and what is to be quantized."""
