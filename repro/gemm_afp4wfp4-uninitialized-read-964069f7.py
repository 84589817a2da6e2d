"""UninitializedRead: 3 lanes read `made at launch.py:62` where nothing was written
  kernel  kernels/gemm_afp4wfp4/kernel.py:218:16   partials = tl.load(partial_ptrs, mask=offs_k[:, None, None] < NUM_KSPLIT, other=0.0)
  tensor  made at launch.py:62 float32 [4, 1, 1], guarded
  access  program (0, 0, 0), bytes +4..+15; the tensor is +0..+15
  effect  changes 1 of 1 elements of `out` (NaN) when the bytes read are 0xFF
  case    m=1 n=1 k=128 config=BM4_BN32_BK128_KS4 dtype=bf16 regime=exact layout=0 seed=0

Found on device sim, arch sm_90, data seed 0, with Python 3.11.7, fp4guard 0.1.0, triton 3.9.0, torch 2.13.0+cpu, numpy 2.4.6.
Exit status: 0 fixed, 1 reproduces, 2 fails differently, 125 cannot run here.
"""

import sys

if __name__ == "__main__":  # pytest may import it: the name may begin as a test's does
    try:
        from fp4guard import Case, replay

        case = Case({'m': 1, 'n': 1, 'k': 128, 'config': 'BM4_BN32_BK128_KS4', 'dtype': 'bf16'}, seed=0, regime='exact', layout=0)
    except Exception as error:
        print(f"cannot run here: {error}", file=sys.stderr)
        sys.exit(125)

    replay(
        target='kernels.gemm_afp4wfp4::gemm_afp4wfp4',
        case=case,
        kind='uninitialized-read',
        offset=4,
        arch='sm_90',
        defect='split-k-stale',
    )
