"""Real bugs of mixtures of experts, to plant in this one; and its legitimate tricks, to leave alone."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fp4guard.fuzzing import Control, Defect, Edit

from .configs import CONFIGS

_NUMBERS = ("wrong-value",)
_READS = ("oob-read", "uninitialized-read", "poison-dependent", "wrong-value")

_ADDRESSES = (
    Defect(
        id="n-unmasked",
        edits=(Edit("kernel.py", "offs_bn = offs_cn % N", "offs_bn = offs_cn"),),
        kinds=("oob-read",),
        provenance="vLLM #34632, of the kind that its review looked for",
        summary="Columns no longer wrap around at N, and no mask takes their place: weights, scales and bias of the "
        "last expert are read beyond their end. Triggered by N % BLOCK_SIZE_N != 0.",
    ),
    Defect(
        id="scale-k-unmasked",
        edits=(Edit("kernel.py", "tl.load(b_scale_ptrs, mask=b_mask, other=127)", "tl.load(b_scale_ptrs)"),),
        kinds=("oob-read", "wrong-value"),
        provenance="AITER gemm_afp4wfp4 #1864 and #2671, in this kernel",
        summary="The last K step loads scales beyond the last group of the row. Triggered by K % BLOCK_SIZE_K != 0.",
    ),
    Defect(
        id="a-mask-units",
        edits=(Edit("kernel.py", "(2 * offs_byte[None, :] < k_left)", "(offs_byte[None, :] < k_left)"),),
        kinds=("oob-read",),
        provenance="AITER fdfb73c56e",
        summary="The mask of A compares bytes of B with elements: A is read beyond K, where B is zero. Triggered by "
        "K % BLOCK_SIZE_K != 0.",
    ),
    Defect(
        id="scale-floor-cdiv",
        edits=(
            Edit(
                "weights.py",
                "    groups = triton.cdiv(padded, SCALE_GROUP_SIZE)\n",
                "    groups = max(padded // SCALE_GROUP_SIZE, w2.scales.shape[2])\n",
            ),
            Edit(
                "weights.py",
                "(self.experts, self.n, groups)",
                '(self.experts, self.n, "K / 32")',
            ),
        ),
        kinds=("oob-read", "uninitialized-read", "wrong-value"),
        provenance="vLLM #34632, of that class",
        summary="A row of padded scales has floor(K/32) of them, and the kernel reads ceil(K/32): the last one is the "
        "next row's. Triggered by a padding to K % 32 != 0 that begins a new group.",
    ),
    Defect(
        id="expert-id-unchecked",
        edits=(
            Edit(
                "align.py",
                "    expert_ids = torch.where(block_expert < num_experts, block_expert, -1)\n",
                "    expert_ids = block_expert\n",
            ),
        ),
        kinds=_READS,
        provenance="sglang #30245",
        summary="Blocks without an expert here carry the number behind the last one, and the kernel computes with the "
        "weights that would be there. Triggered by a map, or an id that is no expert.",
    ),
    Defect(
        id="expert-id-global",
        edits=(
            Edit("align.py", "ids = torch.where(known, mapped, none)", "ids = torch.where(mapped < 0, none, ids)"),
            Edit("align.py", "torch.where((ids >= 0) & (ids < num_experts), ids, none)", "ids.clamp(0, none)"),
        ),
        kinds=_NUMBERS,
        provenance="vLLM's expert map, of that class",
        summary="The map says who is here, but the global id is what counts from there on. Triggered by a map that "
        "does not begin with this device's experts.",
    ),
    Defect(
        id="sorted-ids-tail",
        edits=(Edit("kernel.py", "offs_slot < num_valid_tokens", "offs_slot <= num_valid_tokens"),),
        kinds=("oob-write", "oob-read"),
        provenance="AITER ck_moe_stage1",
        summary="The id that fills up blocks counts as a row: A is read and C written one row beyond the last. "
        "Triggered by nearly everything.",
    ),
    Defect(
        id="sentinel-negative",
        edits=(Edit("align.py", "padding = order.new_full((1,), slots)", "padding = order.new_full((1,), -1)"),),
        kinds=("oob-write", "oob-read", "race"),
        provenance="vLLM's moe_align_block_size, of that class: the mask checks `<` alone",
        summary="Blocks are filled up with -1, which passes a mask that only asks for less than the number of slots: "
        "the row before C's first is written.",
    ),
    Defect(
        id="moe-out-n-padded",
        edits=(Edit("kernel.py", "slot_mask[:, None] & (offs_cn[None, :] < N)", "slot_mask[:, None]"),),
        kinds=("oob-write", "race"),
        provenance="AITER 810bb82310",
        summary="The output has N columns and the kernel stores whole tiles. Triggered by N % BLOCK_SIZE_N != 0.",
    ),
    Defect(
        id="absolute-mask",
        edits=(Edit("kernel.py", "b_mask = offs_byte[:, None] < k_left // 2", "b_mask = offs_byte[:, None] < K // 2"),),
        kinds=_READS,
        provenance="AITER 13e5a53229",
        summary="The end of K is compared with an offset from the start of the K block: from the second block on "
        "nothing is masked. Triggered by K > BLOCK_SIZE_K that is no multiple of it.",
    ),
    Defect(
        id="masked-undefined",
        edits=(
            Edit("kernel.py", "tl.load(a_ptrs, mask=a_mask, other=0.0)", "tl.load(a_ptrs, mask=a_mask)"),
            Edit(
                "kernel.py",
                "tl.load(a_ptrs + stride_ak, mask=a_mask, other=0.0)",
                "tl.load(a_ptrs + stride_ak, mask=a_mask)",
            ),
        ),
        kinds=("undefined-lane", "poison-dependent", "wrong-value"),
        provenance="AITER c17f867ad5 and 44146e6ef2",
        summary="A's lanes beyond K are undefined. B is 0 there, and 0 * NaN is NaN. Triggered by "
        "K % BLOCK_SIZE_K != 0.",
    ),
    Defect(
        id="block-table-masked-lane",
        edits=(
            Edit(
                "kernel.py",
                "tl.load(sorted_token_ids_ptr + offs_sorted).to(tl.int64)",
                "tl.load(sorted_token_ids_ptr + offs_sorted, mask=offs_sorted < num_valid_tokens).to(tl.int64)",
            ),
        ),
        kinds=("undefined-lane", "oob-read", "oob-write", "unwritten-output", "uninitialized-read"),
        provenance="AITER 3b290a3158, where the table is one of blocks",
        summary="The load of the ids has a mask, of the wrong count, and no `other`: undefined ids become rows. "
        "Triggered by padding in any block but the last.",
    ),
    Defect(
        id="post-padded-unchecked",
        edits=(
            Edit(
                "kernel.py",
                "if pid_m * BLOCK_SIZE_M >= num_tokens_post_padded:",
                "if pid_m * BLOCK_SIZE_M >= EM:",
            ),
        ),
        kinds=("oob-read",),
        provenance="vLLM's fused_moe, of that class",
        summary="Programs go on to the end of the buffer of ids, the last of them beyond it: that end is no whole "
        "block. They have no expert, so no number shows it.",
    ),
    Defect(
        id="align-other-block",
        edits=(Edit("launch.py", "BLOCK_SIZE_M=config.block_m,", "BLOCK_SIZE_M=max(config.block_m, 32),"),),
        kinds=("oob-read", "wrong-value"),
        provenance="vLLM's fused_moe, of that class: two configurations, one alignment",
        summary="Slots are aligned to one BLOCK_SIZE_M and the kernel is launched with another: two experts' rows "
        "share a tile. Triggered by configurations of 16 rows.",
    ),
    Defect(
        id="em-trimmed-to-slots",
        edits=(
            Edit(
                "launch.py",
                "min(len(alignment.sorted_token_ids), m * top_k * config.block_m)",
                "min(len(alignment.sorted_token_ids), m * top_k)",
            ),
        ),
        kinds=("unwritten-output", "uninitialized-read", "poison-dependent"),
        provenance="vLLM's fused_moe, of that class",
        summary="The grid is for the slots, and their padding is forgotten: the last experts' blocks are not computed. "
        "Triggered by more experts than blocks of slots.",
    ),
    Defect(
        id="zeros-not-written",
        edits=(
            Edit(
                "kernel.py",
                "zeros = tl.zeros((BLOCK_SIZE_M, BLOCK_SIZE_N), dtype=c_ptr.type.element_ty)\n"
                "        tl.store(c_ptrs, zeros, mask=c_mask)\n"
                "        return\n",
                "return\n",
            ),
        ),
        kinds=("unwritten-output", "uninitialized-read", "poison-dependent"),
        provenance="vLLM, before `write_zeros_to_output`",
        summary="Slots of experts that live elsewhere are left as they were, and the sum over the experts reads them. "
        "Triggered by a map, or an id that is no expert.",
    ),
    Defect(
        id="slots-dropped",
        edits=(
            Edit(
                "align.py",
                "scatter_add_(0, experts, torch.ones_like(experts))",
                "scatter_add_(0, experts, (experts < none).to(torch.int64))",
            ),
        ),
        kinds=("unwritten-output", "uninitialized-read", "poison-dependent"),
        provenance="vLLM's moe_align_block_size, of that class",
        summary="Slots of no expert here are left out of the alignment, and nobody writes their rows.",
    ),
    Defect(
        id="inferred-stride",
        edits=(
            Edit("kernel.py", "(2 * offs_byte)[None, :] * stride_ak", "(2 * offs_byte)[None, :]"),
            Edit("kernel.py", "tl.load(a_ptrs + stride_ak,", "tl.load(a_ptrs + 1,"),
            Edit("kernel.py", "a_ptrs += BLOCK_SIZE_K * stride_ak", "a_ptrs += BLOCK_SIZE_K"),
        ),
        kinds=("oob-read", "wrong-value"),
        provenance="AITER 6740fb7911",
        summary="A's rows are taken to be contiguous. Triggered by a transposed A.",
    ),
    Defect(
        id="inferred-stride-experts",
        edits=(Edit("kernel.py", "b_ptr + expert * stride_be", "b_ptr + expert * (stride_bn * N)"),),
        kinds=("oob-read", "wrong-value"),
        provenance="AITER 6740fb7911 class",
        summary="The weights of an expert are taken to begin where the rows of the one before end.",
    ),
    Defect(
        id="scale-offset-from-data",
        edits=(
            Edit("kernel.py", "expert * stride_bse", "expert * (stride_be // 16)"),
            Edit("kernel.py", "offs_bn[None, :] * stride_bsn", "offs_bn[None, :] * (stride_bn // 16)"),
        ),
        kinds=("oob-read", "wrong-value"),
        provenance="AITER ab978d999d",
        summary="The scales' strides are derived from the weights', a sixteenth of them. Triggered by weights whose "
        "rows have gaps, are transposed, or are no multiple of 32 long.",
    ),
    Defect(
        id="int32-offset",
        edits=(
            Edit("kernel.py", "    stride_am = tl.cast(stride_am, tl.int64)\n", ""),
            Edit(
                "kernel.py",
                "    offs_token = offs_slot // TOP_K\n",
                "    offs_token = (offs_slot // TOP_K).to(tl.int32)\n",
            ),
        ),
        kinds=("int-overflow", "oob-read"),
        provenance="AITER 8fd26e3d13 and 9791b8c150, FlashInfer 6c18be5b9",
        summary="Offsets of A's rows are 32-bit. Triggered by rows that are far apart.",
    ),
    Defect(
        id="int32-offset-experts",
        edits=(
            Edit(
                "kernel.py",
                "expert = tl.load(expert_ids_ptr + pid_m).to(tl.int64)",
                "expert = tl.load(expert_ids_ptr + pid_m)",
            ),
            Edit("kernel.py", "    stride_be = tl.cast(stride_be, tl.int64)\n", ""),
        ),
        kinds=("int-overflow", "oob-read"),
        provenance="AITER 8fd26e3d13 and 9791b8c150, FlashInfer 6c18be5b9",
        summary="Expert times the stride of an expert is 32-bit: the weights of the last experts are read from before "
        "the first.",
    ),
)

_VALUES = (
    Defect(
        id="gate-up-end-pad",
        edits=(
            Edit(
                "weights.py",
                'gates = (rows,) if gate_layout == "interleaved" else (rows[:, :d], rows[:, d:])',
                "gates = (rows,)",
            ),
        ),
        kinds=_NUMBERS,
        provenance="vLLM #48624 (352 padded to 384)",
        summary="Gate and up are padded behind both, so that the half where up begins still belongs to gate. Triggered "
        "by an intermediate size that needs padding, in halves.",
    ),
    Defect(
        id="e8m0-shift",
        edits=(
            Edit(
                "kernel.py",
                "    return (scales.to(tl.uint16) << 7).to(tl.bfloat16, bitcast=True)\n",
                "    bits = tl.where(scales == 0xFF, 0x7FC0, scales.to(tl.uint16) << 7)\n"
                "    return bits.to(tl.uint16).to(tl.bfloat16, bitcast=True)\n",
            ),
        ),
        kinds=_NUMBERS,
        provenance="several; here the other way round, since a shift is what the contract states",
        summary="Scale byte 255 is NaN, as the standard has it, and not the Inf of the stated policy.",
    ),
    Defect(
        id="e8m0-shift-zero",
        edits=(
            Edit(
                "kernel.py",
                "    return (scales.to(tl.uint16) << 7).to(tl.bfloat16, bitcast=True)\n",
                "    bits = tl.where(scales == 0, 0x0040, scales.to(tl.uint16) << 7)\n"
                "    return bits.to(tl.uint16).to(tl.bfloat16, bitcast=True)\n",
            ),
        ),
        kinds=("wrong-value", "uninitialized-read", "poison-dependent"),
        provenance="several; here the other way round, since a shift is what the contract states",
        summary="Scale byte 0 is 2^-127, as the standard has it, and not the 0.0 of the stated policy.",
    ),
    Defect(
        id="scale-pad-inf",
        edits=(Edit("kernel.py", "mask=b_mask, other=127", "mask=b_mask, other=255"),),
        kinds=_NUMBERS,
        provenance="vLLM #34632, of that class",
        summary="Scales beyond K are Inf instead of 1.0, and 0 * Inf is NaN. Triggered by K % BLOCK_SIZE_K != 0.",
    ),
    Defect(
        id="scale-group-mask",
        edits=(
            Edit(
                "kernel.py",
                "mask=b_mask, other=127",
                "mask=offs_group[:, None] < tl.cdiv(k_left, 32), other=127",
            ),
        ),
        kinds=_NUMBERS,
        provenance="vLLM #34632 as proposed",
        summary="Scales are masked group by group: what K leaves of its last group meets the group's scale, and 0 "
        "times one of Inf is NaN where the sum is Inf. Triggered by K % 32 != 0 and scale byte 255.",
    ),
    Defect(
        id="nibble-swap",
        edits=(
            Edit("kernel.py", "b_even = _decode_e2m1(packed) * scales", "b_even = _decode_e2m1(packed >> 4) * scales"),
            Edit("kernel.py", "b_odd = _decode_e2m1(packed >> 4) * scales", "b_odd = _decode_e2m1(packed) * scales"),
        ),
        kinds=_NUMBERS,
        provenance="torchao 28612d00e",
        summary="The high nibble is taken for the even k.",
    ),
    Defect(
        id="subnormal-code",
        edits=(
            Edit(
                "kernel.py", "tl.where(magnitude < 2, magnitude * 0x3F00, normal)", "tl.where(magnitude < 1, 0, normal)"
            ),
        ),
        kinds=_NUMBERS,
        provenance="inline E2M1 decoders, of that class",
        summary="E2M1's subnormal number, 0.5, is decoded like the normal ones, as 0.75.",
    ),
    Defect(
        id="scale-group-units",
        edits=(Edit("kernel.py", "offs_group = offs_byte // 16", "offs_group = offs_byte // 32"),),
        kinds=_NUMBERS,
        provenance="AITER fdfb73c56e, of the scales",
        summary="32 bytes share a scale, as if they were elements. Triggered by K > 32.",
    ),
    Defect(
        id="k-in-bytes",
        edits=(Edit("launch.py", "        weights.k,\n        em,", "        weights.codes.shape[2],\n        em,"),),
        kinds=_NUMBERS,
        provenance="AITER c6f82199ea, of K itself",
        summary="K is handed over in bytes of B: half of every sum is missing.",
    ),
    Defect(
        id="top-k-not-divided",
        edits=(
            Edit(
                "layer.py",
                "    down = workspace.down.unsqueeze(1)\n"
                "    moe_gemm_mxfp4(workspace.activated, w2, alignment, down, topk_weights=second, config=config)\n",
                "    down = workspace.down.unflatten(0, (m, top_k))\n"
                "    second = None if second is None else second.view(m, top_k)\n"
                "    tokens = workspace.activated[:m]\n"
                "    moe_gemm_mxfp4(tokens, w2, alignment, down, topk_weights=second, config=config)\n",
            ),
        ),
        kinds=_NUMBERS,
        provenance="vLLM's fused_moe, of that class",
        summary="The second GEMM is given top_k as the first was, and reads the activations of its slots divided by "
        "it: rows of other tokens. Triggered by top_k > 1.",
    ),
    Defect(
        id="weight-before-bias",
        edits=(
            Edit(
                "kernel.py",
                "        acc += bias[None, :].to(tl.float32)\n    if MUL_ROUTED_WEIGHT:\n"
                "        weight = tl.load(topk_weights_ptr + offs_slot, mask=slot_mask, other=0.0)\n"
                "        acc *= weight[:, None]\n",
                "        bias = bias[None, :].to(tl.float32)\n    if MUL_ROUTED_WEIGHT:\n"
                "        weight = tl.load(topk_weights_ptr + offs_slot, mask=slot_mask, other=0.0)\n"
                "        acc *= weight[:, None]\n    if HAS_BIAS:\n        acc += bias\n",
            ),
        ),
        kinds=_NUMBERS,
        provenance="the order that vLLM's fused_moe states",
        summary="The router's weight multiplies the sum before the bias is added.",
    ),
    Defect(
        id="weight-twice",
        edits=(
            Edit(
                "layer.py",
                "(topk_weights, None) if apply_router_weight_on_input",
                "(topk_weights, topk_weights.view(rows, 1)) if apply_router_weight_on_input",
            ),
        ),
        kinds=_NUMBERS,
        provenance="vLLM's apply_router_weight_on_input, of that class",
        summary="Applied on input, the router's weights multiply the output as well.",
    ),
    Defect(
        id="bias-of-another-expert",
        edits=(Edit("kernel.py", "b_bias_ptr + expert * stride_bbe", "b_bias_ptr + pid_m * stride_bbe"),),
        kinds=("oob-read", "uninitialized-read", "wrong-value"),
        provenance="vLLM's fused_moe, of that class",
        summary="The bias is that of the block's number, not of its expert.",
    ),
    Defect(
        id="bias-per-slice",
        edits=(
            Edit("kernel.py", "    if HAS_BIAS:\n        bias", "        if HAS_BIAS:\n            bias"),
            Edit(
                "kernel.py",
                "        acc += bias[None, :].to(tl.float32)",
                "            acc += bias[None, :].to(tl.float32)",
            ),
        ),
        kinds=_NUMBERS,
        provenance="split-K GEMMs, of that class",
        summary="The bias is added with every K block. Triggered by K > BLOCK_SIZE_K.",
    ),
    Defect(
        id="swiglu-one-limit",
        edits=(Edit("kernel.py", "up = tl.minimum(tl.maximum(up, -LIMIT), LIMIT)", "up = tl.minimum(up, LIMIT)"),),
        kinds=_NUMBERS,
        provenance="gpt-oss's SwiGLU, of that class",
        summary="`up` is limited from above alone, as `gate` is.",
    ),
    Defect(
        id="swiglu-halves",
        edits=(
            Edit(
                "kernel.py",
                "offs_gate, offs_up = 2 * offs_n, 2 * offs_n + 1",
                "offs_gate, offs_up = offs_n, offs_n + D",
            ),
        ),
        kinds=_NUMBERS,
        provenance="gpt-oss's SwiGLU, of that class",
        summary="SwiGLU takes gate and up from halves, where the weights have them interleaved.",
    ),
)

DEFECTS = (*_ADDRESSES, *_VALUES)


def _extent(arguments: Mapping[str, Any], name: str) -> tuple[int, int]:
    """A size of a case, and that of its tile."""
    return arguments[name], getattr(CONFIGS[arguments["config"]], f"block_{name}")


def _wraps(arguments: Mapping[str, Any]) -> bool:
    n, block_n = _extent(arguments, "n")
    return _rows(arguments) > 0 and n % block_n != 0


def _rows(arguments: Mapping[str, Any]) -> int:
    return arguments["rows"] if "rows" in arguments else arguments["m"] * arguments["top_k"]


CONTROLS = (
    Control(
        id="wrapped-columns",
        present=(
            ("kernel.py", "offs_bn = offs_cn % N"),
            ("kernel.py", "c_mask = slot_mask[:, None] & (offs_cn[None, :] < N)"),
        ),
        exercised=_wraps,
        summary="Columns beyond the edge are loaded at % N and never stored: what a review took for wrong results.",
    ),
    Control(
        id="unread-rows-activated",
        present=(("layer.py", "those that have none go along, and lead nowhere"),),
        exercised=lambda arguments: arguments.get("spare", 0) > 0,
        summary="Permuted rows of no expert: the first GEMM leaves theirs unwritten, the activation reads them all the "
        "same, and the second GEMM never reads what comes of it.",
    ),
    Control(
        id="dead-codes",
        present=(("kernel.py", "(scales.to(tl.uint16) << 7).to(tl.bfloat16, bitcast=True)"),),
        exercised=lambda arguments: arguments.get("dead_codes", False) and _rows(arguments) > 0,
        summary="Blocks of scale byte 0 are zero, so that their codes are don't-care: undefined here.",
    ),
    Control(
        id="padding-slots",
        present=(
            ("kernel.py", "offs_slot = tl.load(sorted_token_ids_ptr + offs_sorted)"),
            ("kernel.py", "slot_mask = offs_slot < num_valid_tokens"),
        ),
        exercised=lambda arguments: _rows(arguments) % CONFIGS[arguments["config"]].block_m != 0,
        summary="Slots that fill up a block are one beyond the last row: their addresses are formed, loaded masked, "
        "and never stored.",
    ),
    Control(
        id="idle-programs",
        present=(("kernel.py", "if pid_m * BLOCK_SIZE_M >= num_tokens_post_padded:\n        return"),),
        exercised=lambda arguments: _rows(arguments) > 0 and arguments["experts"] > 1,
        summary="The grid is for the most blocks there can be, and most programs leave at once.",
    ),
)
