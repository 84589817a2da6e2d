"""Real bugs of AITER's paged MQA logits, to plant in these kernels; and their legitimate tricks, to leave alone."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fp4guard.fuzzing import Control, Defect, Edit

from .configs import CONFIGS
from .launch import gluon_is_there

_TRITON, _GLUON = "kernel.py", "kernel_gluon.py"
_SEED = "AITER #2866, vLLM #40643"

#: The lower bound of each kernel's stores, and which positions the four of them store.
_LOWER = {"fixed": "split_start", "variable": "0"}
_SITES = {"loop-0": "column_0", "loop-1": "column_1", "tail-0": "tail_0", "tail-1": "tail_1"}


def _suffix(file: str) -> str:
    return "-gluon" if file == _GLUON else ""


def _bounds(schedule: str, column: str) -> str:
    return f"mask=({column} >= {_LOWER[schedule]}) & ({column} < max_model_len)"


def _store_upper(file: str, schedule: str, site: str) -> Defect:
    column = _SITES[site]
    return Defect(
        id=f"logits-store-upper-{schedule}-{site}{_suffix(file)}",
        edits=(Edit(file, _bounds(schedule, column), f"mask={column} >= {_LOWER[schedule]}"),),
        kinds=("oob-write", "race", "wrong-value"),
        provenance=_SEED,
        summary=f"The store of {column} has no upper bound. Blocks are written whole, and the last one reaches past "
        "max_model_len where that is no multiple of the block: into the next row, or beyond the output.",
    )


def _store_lower(file: str, schedule: str) -> Defect:
    columns = _SITES.values()
    return Defect(
        id=f"logits-store-lower-{schedule}{_suffix(file)}",
        edits=tuple(Edit(file, _bounds(schedule, column), f"mask={column} < max_model_len") for column in columns),
        kinds=("oob-write", "race", "wrong-value"),
        provenance=f"{_SEED}, review",
        summary="No store has a lower bound. The residual chunk begins before its row, and what was computed of block "
        "0 lands in the row before, or before the output.",
    )


def _edit_both(file: str, before: str, after: str, indents: tuple[int, int] = (4, 12)) -> tuple[Edit, ...]:
    """The same line in the fixed-context and in the variable-context kernel, told apart by its indentation."""
    return tuple(Edit(file, f"\n{' ' * n}{before}", f"\n{' ' * n}{after}") for n in indents)


def _numbers(file: str) -> tuple[Defect, ...]:
    """Wrong rows, masks and sums, in the Triton or the Gluon kernels."""
    lang = "tl" if file == _TRITON else "gl"
    suffix = _suffix(file)
    return (
        Defect(
            id=f"causal-off-by-one{suffix}",
            edits=_edit_both(
                file,
                f"last_visible = context_length - next_n + n.to({lang}.int32)",
                f"last_visible = context_length - n.to({lang}.int32)",
            ),
            kinds=("wrong-value",),
            provenance="AITER, class",
            summary="A new token n sees up to length - n, as if tokens were counted from the end: later tokens than "
            "itself, and what no token has written yet.",
        ),
        Defect(
            id=f"zero-length-batch{suffix}",
            edits=(
                Edit(
                    file,
                    "        row_chunk += chunks\n",
                    "        row_chunk += chunks\n"
                    f"        chunk_end = {lang}.where(chunks == 0, next_chunk, chunk_end)\n",
                ),
            ),
            kinds=("wrong-value", "unwritten-output"),
            provenance="AITER, class",
            summary="The variable-context kernel takes an empty context for the end of the batch: rows behind it are "
            "left as they were.",
        ),
        Defect(
            id=f"absolute-mask{suffix}",
            edits=(
                Edit(
                    file,
                    f"split_length = {lang}.minimum(split_length, context_length - split_start)",
                    f"split_length = {lang}.minimum(split_length, context_length)",
                ),
            ),
            kinds=("oob-read", "oob-write", "undefined-lane", "uninitialized-read", "poison-dependent", "wrong-value"),
            provenance="AITER 13e5a53229",
            summary="The length of a split is held against the absolute end of the context: the last of several splits "
            "goes on behind it, by block numbers that nobody wrote.",
        ),
        Defect(
            id=f"stricter-store-mask{suffix}",
            edits=tuple(
                Edit(file, _bounds(schedule, column), f"mask=({column} >= {low}) & ({column} <= last_visible)")
                for schedule, low in _LOWER.items()
                for column in _SITES.values()
            ),
            kinds=("wrong-value", "unwritten-output"),
            provenance=f"{_SEED}: the alternative that its author offers",
            summary="Stores end at the last visible position. No store is out of bounds, and the -inf behind the "
            "context are whatever the caller left there.",
        ),
        Defect(
            id=f"weights-row{suffix}",
            edits=(Edit(file, "weights_ptr + row * stride_w", "weights_ptr + batch * stride_w"),),
            kinds=("wrong-value",),
            provenance="class: a row of B * next_n taken for one of B",
            summary="The weights are those of the batch's number, not of the row's. Triggered by next_n > 1.",
        ),
        Defect(
            id=f"int32-offset-rows{suffix}",
            edits=(
                Edit(
                    file,
                    f"row = {lang}.program_id(0).to({lang}.int64) // split_kv",
                    f"row = {lang}.program_id(0) // split_kv",
                ),
            ),
            kinds=("int-overflow", "oob-write", "oob-read"),
            provenance="AITER 8fd26e3d13, 9791b8c150; FlashInfer 6c18be5b9",
            summary="Row times stride is computed in 32 bits, and wraps where the rows are far apart.",
        ),
    )


_TRITON_DEFECTS = (
    Defect(
        id="block-table-masked-lane",
        edits=(Edit(_TRITON, "mask=places >= 0, other=0)", "mask=places >= 0)"),),
        kinds=("undefined-lane", "oob-read"),
        provenance="AITER 3b290a3158",
        summary="Block numbers before the context are masked off without a value for them, and then every lane "
        "gathers keys by its own.",
    ),
    Defect(
        id="int32-offset-blocks",
        edits=(Edit(_TRITON, "return blocks.to(tl.int64)", "return blocks"),),
        kinds=("int-overflow", "oob-read"),
        provenance="AITER 8fd26e3d13, 9791b8c150; FlashInfer 6c18be5b9",
        summary="Block number times the stride of a block is computed in 32 bits: a cache of 2 GiB is read from before "
        "its start.",
    ),
    Defect(
        id="int32-offset-heads",
        edits=(Edit(_TRITON, "head = tl.arange(0, HEADS).to(tl.int64)", "head = tl.arange(0, HEADS)"),),
        kinds=("int-overflow", "oob-read"),
        provenance="this kernel, before fp4guard found it; the class of AITER 8fd26e3d13",
        summary="The number of a head is 32-bit, and so is its product with a stride that fits into 32 bits: all other "
        "offsets are 64-bit.",
    ),
    Defect(
        id="inferred-stride-batch",
        edits=(Edit(_TRITON, "q_ptr + batch * stride_qb + n * stride_qn", "q_ptr + row * stride_qn"),),
        kinds=("oob-read", "wrong-value"),
        provenance="AITER 6740fb7911 class",
        summary="The tokens of one batch are taken to follow those of the batch before without a gap.",
    ),
    Defect(
        id="inferred-stride-out",
        edits=(Edit("launch.py", "        out.stride(0),\n", "        max_model_len,\n"),),
        kinds=("oob-write", "wrong-value", "race"),
        provenance="AITER 6740fb7911",
        summary="The rows of the output are taken to follow each other at max_model_len; callers pad them.",
    ),
    Defect(
        id="inferred-stride-cache",
        edits=(Edit("launch.py", "        keys.stride(0),\n", "        kv_block * (d + 4),\n"),),
        kinds=("oob-read", "uninitialized-read", "poison-dependent", "wrong-value"),
        provenance="AITER 6740fb7911",
        summary="Cache blocks are taken to follow each other without a gap.",
    ),
    Defect(
        id="inferred-stride-table",
        edits=(
            Edit(
                "launch.py",
                "        block_tables.stride(0),\n",
                "        triton.cdiv(max_model_len, kv_block),\n",
            ),
        ),
        kinds=("oob-read", "uninitialized-read", "poison-dependent", "wrong-value"),
        provenance="AITER 6740fb7911",
        summary="A row of the block table is taken to be as long as max_model_len asks for.",
    ),
    Defect(
        id="scale-offset-from-data",
        edits=(
            Edit(
                "launch.py",
                "flat.view(torch.float32)[:, kv_block * d // 4 :]",
                "flat.view(torch.float32)[:, flat.stride(0) // 4 - kv_block :]",
            ),
        ),
        kinds=("oob-read", "uninitialized-read", "poison-dependent", "wrong-value", "crash"),
        provenance="AITER ab978d999d",
        summary="The scales of a block are looked for at the end of the data's stride. Triggered by a gap between "
        "blocks.",
    ),
    Defect(
        id="second-stage-skipped",
        edits=(Edit(_TRITON, _bounds("variable", "column_1"), "mask=column_1 < 0"),),
        kinds=("wrong-value", "unwritten-output"),
        provenance="class: two stages a chunk",
        summary="The second stage of every chunk but the last is computed and not stored.",
    ),
    Defect(
        id="second-stage-stale-blocks",
        edits=_edit_both(
            _TRITON,
            "blocks_1 = _load_blocks(table_ptr, first + CHUNK_K + STAGE, KV_BLOCK, STAGE)",
            "blocks_1 = _load_blocks(table_ptr, first + CHUNK_K, KV_BLOCK, STAGE)",
            (8, 16),
        ),
        kinds=("wrong-value",),
        provenance="class: block numbers loaded ahead for each stage",
        summary="The block numbers that are loaded ahead for the second stage are those of the first.",
    ),
    Defect(
        id="split-floor-cdiv",
        edits=(Edit(_TRITON, "units = tl.cdiv(context_length, UNIT)", "units = context_length // UNIT"),),
        kinds=("wrong-value", "unwritten-output"),
        provenance="class: floor for cdiv, vLLM #34632",
        summary="A context's last chunk, which is not full, is given to no split.",
    ),
    Defect(
        id="split-start-remainder",
        edits=(
            Edit(
                _TRITON,
                "split_start = (pid_split * share + tl.minimum(pid_split, left)) * UNIT",
                "split_start = pid_split * share * UNIT",
            ),
        ),
        kinds=("wrong-value", "unwritten-output", "race"),
        provenance="class: uneven splits",
        summary="Splits begin as if the ones before had no chunk more: a context's end is given to no split.",
    ),
    Defect(
        id="split-not-rounded",
        edits=(
            Edit(
                _TRITON,
                "split_end = split_start + tl.cdiv(split_length, KV_BLOCK) * KV_BLOCK",
                "split_end = split_start + split_length",
            ),
        ),
        kinds=("wrong-value", "oob-read", "undefined-lane", "uninitialized-read", "poison-dependent"),
        provenance="AITER pa_mqa_logits: LoadBlockIndiceForEachStage",
        summary="The length of a split is not rounded up to whole blocks: chunks begin within one, and the keys are "
        "those of other tokens.",
    ),
    Defect(
        id="chunks-counted-by-tokens",
        edits=(Edit(_TRITON, "tl.cdiv(tl.cdiv(lengths, KV_BLOCK) * KV_BLOCK, CHUNK_K)", "tl.cdiv(lengths, CHUNK_K)"),),
        kinds=("wrong-value", "unwritten-output"),
        provenance="class: the schedule and the kernel count differently",
        summary="The variable-context schedule counts chunks of tokens, the kernel those of whole blocks: the last "
        "rows are left as they were. Triggered by blocks of two chunks.",
    ),
    Defect(
        id="preshuffle-tile-stride",
        edits=(Edit(_TRITON, "token // 16 * (16 * D)", "token // 16 * 256"),),
        kinds=("wrong-value", "oob-read", "uninitialized-read", "poison-dependent"),
        provenance="AITER #2900, class",
        summary="Preshuffled tiles of 16 tokens are taken to be 256 bytes apart, as if D were 16.",
    ),
    Defect(
        id="relu-after-sum",
        edits=(
            Edit(
                _TRITON,
                "tl.sum(tl.maximum(scores, 0.0) * weights[:, None], axis=0)",
                "tl.maximum(tl.sum(scores * weights[:, None], axis=0), 0.0)",
            ),
        ),
        kinds=("wrong-value",),
        provenance="class",
        summary="The sum over the heads is taken before max(0, .), not after.",
    ),
    Defect(
        id="masked-undefined-weights",
        edits=(Edit(_TRITON, "+ head, mask=head < heads, other=0.0)", "+ head, mask=head < heads)"),),
        kinds=("undefined-lane", "poison-dependent"),
        provenance="AITER c17f867ad5, 44146e6ef2",
        summary="Weights of heads that are only padding are left undefined. Their scores are 0, and 0 * NaN is NaN.",
    ),
)

_GLUON_DEFECTS = (
    Defect(
        id="block-table-masked-lane-gluon",
        edits=(Edit(_GLUON, "mask=position >= 0, other=0)", "mask=position >= 0)"),),
        kinds=("undefined-lane", "oob-read"),
        provenance="AITER 3b290a3158",
        summary="A masked buffer_load of block numbers without a value for the other lanes, which then gather too.",
    ),
    Defect(
        id="scale-column-gluon",
        edits=(
            Edit(
                _GLUON,
                "block_columns * stride_scale_block + token)",
                "block_columns * stride_scale_block + token % 16)",
            ),
        ),
        kinds=("wrong-value", "uninitialized-read"),
        provenance="class",
        summary="Every 16 tokens of a block take the scales of its first 16.",
    ),
)


def _of(file: str) -> tuple[Defect, ...]:
    """The defects that the Triton and the Gluon kernels share."""
    uppers = [_store_upper(file, schedule, site) for schedule in _LOWER for site in _SITES]
    return (*uppers, *(_store_lower(file, schedule) for schedule in _LOWER), *_numbers(file))


DEFECTS = (
    *_of(_TRITON),
    *_TRITON_DEFECTS,
    *((*_of(_GLUON), *_GLUON_DEFECTS) if gluon_is_there() else ()),
)


def _block(arguments: Mapping[str, Any]) -> int:
    return int(str(arguments["cache"]).split()[0])


def _full(arguments: Mapping[str, Any]) -> bool:
    """Whether every context is known from the arguments: as long as the output."""
    return arguments["lengths"] == "full"


def _has_residual(arguments: Mapping[str, Any]) -> bool:
    blocks = -(-arguments["max_model_len"] // _block(arguments))
    return _full(arguments) and blocks * _block(arguments) % CONFIGS[arguments["config"]].chunk_k != 0


def _ends_within_a_block(arguments: Mapping[str, Any]) -> bool:
    return _full(arguments) and arguments["max_model_len"] % _block(arguments) != 0


def _pads_heads(arguments: Mapping[str, Any]) -> bool:
    return not str(arguments["shape"]).startswith(("H16", "H64"))


def _has_idle_splits(arguments: Mapping[str, Any]) -> bool:
    config = CONFIGS[arguments["config"]]
    units = -(-arguments["max_model_len"] // max(config.chunk_k, _block(arguments)))
    return arguments["schedule"] == "fixed" and units < config.split_kv


CONTROLS = (
    Control(
        id="residual-of-block-0",
        present=(
            (_TRITON, "tl.load(table_ptr + places, mask=places >= 0, other=0)"),
            (_TRITON, "keys = tl.load(keys_ptr + (blocks * stride_block)[None, :] + within)"),
        ),
        exercised=_has_residual,
        summary="Positions before the context load the keys of block 0, whoever it belongs to; none of it is stored.",
    ),
    Control(
        id="keys-behind-the-context",
        present=((_TRITON, "scales = tl.load(scales_ptr + blocks * stride_scale_block + token)"),),
        exercised=_ends_within_a_block,
        summary="Keys and scales that nobody has written yet are loaded with their block, and replaced by -inf.",
    ),
    Control(
        id="padded-heads",
        present=((_TRITON, "q = tl.load(q_ptrs, mask=head[:, None] < heads, other=0.0)"),),
        exercised=_pads_heads,
        summary="Heads are padded to what a matrix instruction takes. NaN in a key makes NaN of their scores too, and "
        "max(0, NaN) is 0.",
    ),
    Control(
        id="idle-splits",
        present=((_TRITON, "    if split_length <= 0:\n        return\n"),),
        exercised=_has_idle_splits,
        summary="There are more splits than chunks, and programs that return at once.",
    ),
)
