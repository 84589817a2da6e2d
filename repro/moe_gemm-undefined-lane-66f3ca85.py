"""UndefinedLane: 15 lanes are masked off without `other` in a load of `sorted_token_ids_ptr`, and what they hold is used
  kernel  kernels/moe_mxfp4@block-table-masked-lane/kernel.py:106:17   offs_slot = tl.load(sorted_token_ids_ptr + offs_sorted, mask=offs_sorted < num_valid_tokens).to(tl.int64)
  tensor  sorted_token_ids_ptr int32 [31], not guarded
  access  program (0, 0, 0)
  effect  changes which addresses are accessed when they hold all ones
OutOfBoundsWrite: 15 lanes write `out` before its start
  kernel  kernels/moe_mxfp4@block-table-masked-lane/kernel.py:156:5   tl.store(c_ptrs, acc.to(c_ptr.type.element_ty), mask=c_mask)
  tensor  out bfloat16 [1, 1], guarded
  access  program (0, 0, 0), bytes -2..-1; the tensor is +0..+1
OutOfBoundsRead: 15 lanes read `a` before its start
  kernel  kernels/moe_mxfp4@block-table-masked-lane/kernel.py:135:18   a_even = tl.load(a_ptrs, mask=a_mask, other=0.0)
  tensor  a bfloat16 [1, 2], guarded
  access  program (0, 0, 0), bytes -4..-3; the tensor is +0..+3
  effect  no output changes with the bytes that were read
OutOfBoundsRead: 15 lanes read `a` before its start
  kernel  kernels/moe_mxfp4@block-table-masked-lane/kernel.py:136:17   a_odd = tl.load(a_ptrs + stride_ak, mask=a_mask, other=0.0)
  tensor  a bfloat16 [1, 2], guarded
  access  program (0, 0, 0), bytes -2..-1; the tensor is +0..+3
  effect  no output changes with the bytes that were read
  case    m=1 n=1 k=2 experts=1 top_k=1 routing=even placement=all bias=none weighted=False dtype=bf16 config=BM16_BN32_BK64 regime=exact layout=0 seed=0

Found on device sim, arch sm_90, data seed 0, with Python 3.11.7, fp4guard 0.1.0, triton 3.9.0, torch 2.13.0+cpu, numpy 2.4.6.
Exit status: 0 fixed, 1 reproduces, 2 fails differently, 125 cannot run here.
"""

import sys

if __name__ == "__main__":  # pytest may import it: the name may begin as a test's does
    try:
        from fp4guard import Case, replay

        case = Case({'m': 1, 'n': 1, 'k': 2, 'experts': 1, 'top_k': 1, 'routing': 'even', 'placement': 'all', 'bias': 'none', 'weighted': False, 'dtype': 'bf16', 'config': 'BM16_BN32_BK64'}, seed=0, regime='exact', layout=0)
    except Exception as error:
        print(f"cannot run here: {error}", file=sys.stderr)
        sys.exit(125)

    replay(
        target='kernels.moe_mxfp4::moe_gemm',
        case=case,
        kind='undefined-lane',
        offset=None,
        arch='sm_90',
        defect='block-table-masked-lane',
    )
