"""PaddingContent: the padding of `made at launch.py:145` does not hold what it has to
  tensor  made at launch.py:145 uint8 [256, 8], guarded
  padding Mismatched padding: 2016 / 2016 (100.0%) bytes
          First at index (0, 2): row 0, column 4 of the 256 x 8 padded matrix, 32 x 1 without padding
              expected 0x7f, actual 0x00
          The padding holds 0x00 2016x.
PaddingContent: the padding of `made at launch.py:145#2` does not hold what it has to
  tensor  made at launch.py:145#2 uint8 [256, 8], guarded
  padding Mismatched padding: 2016 / 2016 (100.0%) bytes
          First at index (0, 2): row 0, column 4 of the 256 x 8 padded matrix, 32 x 1 without padding
              expected 0x7f, actual 0x00
          The padding holds 0x00 2016x.
  case    m=32 n=32 leading=() config=BM32_BN32 dtype=fp32 direction=both codes=linear scales=shuffled out=own regime=exact layout=0 seed=0

Found on device sim, arch sm_90, data seed 0, with Python 3.11.7, fp4guard 0.1.0, triton 3.9.0, torch 2.13.0+cpu, numpy 2.4.6.
Exit status: 0 fixed, 1 reproduces, 2 fails differently, 125 cannot run here.
"""

import sys

if __name__ == "__main__":  # pytest may import it: the name may begin as a test's does
    try:
        from fp4guard import Case, replay

        case = Case({'m': 32, 'n': 32, 'leading': (), 'config': 'BM32_BN32', 'dtype': 'fp32', 'direction': 'both', 'codes': 'linear', 'scales': 'shuffled', 'out': 'own'}, seed=0, regime='exact', layout=0)
    except Exception as error:
        print(f"cannot run here: {error}", file=sys.stderr)
        sys.exit(125)

    replay(
        target='kernels.cast_transpose_mxfp4::cast_transpose_mxfp4',
        case=case,
        kind='padding-content',
        offset=2,
        arch='sm_90',
        defect='pad-fill-dead',
    )
