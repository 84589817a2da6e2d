"""IntegerOverflow: 32 lanes access `x` at an offset that overflowed its integer type
  kernel  kernels/cast_transpose_mxfp4@int32-offset/kernel.py:150:9   x = tl.load(x_ptrs, mask=x_mask, other=0.0).to(tl.float32)
  tensor  x float32 [32, 32] stride (69273680, 1), guarded
  access  program (0, 0, 0)
WrongValue: `made at launch.py:144` is not what it has to be
  tensor  made at launch.py:144 uint8 [32, 16], guarded
  values  Mismatched codes: 32 / 1024 (3.1%)
          Greatest difference: 11 steps at index (31, 3) [e2m1]
              expected -3.0 (0xd), actual 4.0 (0x6); high nibble of byte (31, 1), block 0, its scale byte 0x7d
              there is one right code, its block's scale given; bits must match
          First difference: 6 steps at index (31, 0)
              expected 0.0 (0x0), actual 4.0 (0x6); low nibble of byte (31, 0), block 0, its scale byte 0x7d
              there is one right code, its block's scale given; bits must match
          Every wrong code is 0x06.
          Every wrong element is in row 31, the last: all of them wrong.
          Map, a cell is 2 rows x 1 column; . right, + some wrong:
           0..29 ................................
          30..31 ++++++++++++++++++++++++++++++++
WrongValue: `made at launch.py:144#2` is not what it has to be
  tensor  made at launch.py:144#2 uint8 [32, 16], guarded
  values  Mismatched codes: 32 / 1024 (3.1%)
          Greatest difference: 11 steps at index (3, 31) [e2m1]
              expected -3.0 (0xd), actual 4.0 (0x6); high nibble of byte (3, 15), block 0, its scale byte 0x7d
              there is one right code, its block's scale given; bits must match
          First difference: 6 steps at index (0, 31)
              expected 0.0 (0x0), actual 4.0 (0x6); high nibble of byte (0, 15), block 0, its scale byte 0x7d
              there is one right code, its block's scale given; bits must match
          Every wrong code is 0x06.
          Every wrong element is in column 31, the last: all of them wrong.
          Map, a cell is 2 rows x 1 column; . right, # wrong:
          0..31 ...............................#
PoisonDependent: `made at launch.py:145` changes with bytes that are no input
  tensor  made at launch.py:145 uint8 [32, 1], guarded
  where   1 / 32 elements (3.1%), first at [31, 0]
PoisonDependent: `made at launch.py:145#2` changes with bytes that are no input
  tensor  made at launch.py:145#2 uint8 [32, 1], guarded
  where   32 / 32 elements (100.0%), first at [0, 0]
  case    m=32 n=32 leading=() config=BM32_BN32 dtype=fp32 direction=both codes=linear scales=linear out=own regime=exact layout=38 seed=0

Found on device sim, arch sm_90, data seed 0, with Python 3.11.7, fp4guard 0.1.0, triton 3.9.0, torch 2.13.0+cpu, numpy 2.4.6.
Exit status: 0 fixed, 1 reproduces, 2 fails differently, 125 cannot run here.
"""

import sys

if __name__ == "__main__":  # pytest may import it: the name may begin as a test's does
    try:
        from fp4guard import Case, replay

        case = Case({'m': 32, 'n': 32, 'leading': (), 'config': 'BM32_BN32', 'dtype': 'fp32', 'direction': 'both', 'codes': 'linear', 'scales': 'linear', 'out': 'own'}, seed=0, regime='exact', layout=38)
    except Exception as error:
        print(f"cannot run here: {error}", file=sys.stderr)
        sys.exit(125)

    replay(
        target='kernels.cast_transpose_mxfp4::cast_transpose_mxfp4',
        case=case,
        kind='int-overflow',
        offset=None,
        arch='sm_90',
        defect='int32-offset',
    )
