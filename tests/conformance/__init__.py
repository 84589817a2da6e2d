"""The simulator against a real GPU: the same kernels on both, bit for bit.

    python tests/conformance [--write] [--only TEXT] [--simulate]

Needs a CUDA GPU, and exits with 2 where there is none; 1 when a row differs by more than it allows.
"""
