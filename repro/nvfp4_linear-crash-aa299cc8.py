"""Crash: ValueError: a has shape (1, 8), b (32, 16); allowed: the same number of bytes a row. Are both padded, or none?
  raised  kernels/nvfp4_linear/launch.py:187   raise ValueError(
  case    m=1 n=1 k=16 batch=None parts=1 backend=cutlass config=BM16_BN16_BK64 dtype=bf16 out_dtype=None arithmetic=fast global_scale=this bias=None regime=exact layout=0 seed=0

Found on device sim, arch sm_90, data seed 0, with Python 3.11.7, fp4guard 0.1.0, triton 3.9.0, torch 2.13.0+cpu, numpy 2.4.6.
Exit status: 0 fixed, 1 reproduces, 2 fails differently, 125 cannot run here.
"""

import sys

if __name__ == "__main__":  # pytest may import it: the name may begin as a test's does
    try:
        from fp4guard import Case, replay

        case = Case({'m': 1, 'n': 1, 'k': 16, 'batch': None, 'parts': 1, 'backend': 'cutlass', 'config': 'BM16_BN16_BK64', 'dtype': 'bf16', 'out_dtype': None, 'arithmetic': 'fast', 'global_scale': 'this', 'bias': None}, seed=0, regime='exact', layout=0)
    except Exception as error:
        print(f"cannot run here: {error}", file=sys.stderr)
        sys.exit(125)

    replay(
        target='kernels.nvfp4_linear::nvfp4_linear',
        case=case,
        kind='crash',
        offset=None,
        arch='sm_90',
        defect='act-not-padded',
    )
