"""OutOfBoundsWrite: 15 lanes write `out` beyond its end
  kernel  kernels/mqa_logits@logits-store-upper-fixed-tail-1/kernel.py:141:5   tl.store(out_row_ptr + tail_1, logits, mask=tail_1 >= split_start)
  tensor  out float32 [1, 1], guarded
  access  program (0, 0, 0), bytes +4..+63; the tensor is +0..+3
  case    batch=1 next_n=1 max_model_len=1 shape=H4_D32 cache='16' lengths=edges extra=0 schedule=fixed config=CK32_SK1_P1 regime=exact layout=0 seed=0

Found on device sim, arch sm_90, data seed 0, with Python 3.11.7, fp4guard 0.1.0, triton 3.9.0, torch 2.13.0+cpu, numpy 2.4.6.
Exit status: 0 fixed, 1 reproduces, 2 fails differently, 125 cannot run here.
"""

import sys

if __name__ == "__main__":  # pytest may import it: the name may begin as a test's does
    try:
        from fp4guard import Case, replay

        case = Case({'batch': 1, 'next_n': 1, 'max_model_len': 1, 'shape': 'H4_D32', 'cache': '16', 'lengths': 'edges', 'extra': 0, 'schedule': 'fixed', 'config': 'CK32_SK1_P1'}, seed=0, regime='exact', layout=0)
    except Exception as error:
        print(f"cannot run here: {error}", file=sys.stderr)
        sys.exit(125)

    replay(
        target='kernels.mqa_logits::mqa_logits',
        case=case,
        kind='oob-write',
        offset=4,
        arch='sm_90',
        defect='logits-store-upper-fixed-tail-1',
    )
