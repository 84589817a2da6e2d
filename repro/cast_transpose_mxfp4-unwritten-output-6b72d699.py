"""UnwrittenOutput: `made at launch.py:144#2` is not wholly written
  tensor  made at launch.py:144#2 uint8 [32, 16], guarded
  where   512 / 512 elements (100.0%), first at [0, 0]
  case    m=32 n=32 leading=() config=BM32_BN32 dtype=fp32 direction=both codes=linear scales=linear out=own regime=exact layout=0 seed=0

Found on device sim, arch sm_90, data seed 0, with Python 3.11.7, fp4guard 0.1.0, triton 3.9.0, torch 2.13.0+cpu, numpy 2.4.6.
Exit status: 0 fixed, 1 reproduces, 2 fails differently, 125 cannot run here.
"""

import sys

if __name__ == "__main__":  # pytest may import it: the name may begin as a test's does
    try:
        from fp4guard import Case, replay

        case = Case({'m': 32, 'n': 32, 'leading': (), 'config': 'BM32_BN32', 'dtype': 'fp32', 'direction': 'both', 'codes': 'linear', 'scales': 'linear', 'out': 'own'}, seed=0, regime='exact', layout=0)
    except Exception as error:
        print(f"cannot run here: {error}", file=sys.stderr)
        sys.exit(125)

    replay(
        target='kernels.cast_transpose_mxfp4::cast_transpose_mxfp4',
        case=case,
        kind='unwritten-output',
        offset=None,
        arch='sm_90',
        defect='colwise-odd-m',
    )
