"""The contract of the MXFP4 cast-transpose, as a target: what it is given, and what it has to answer."""

from __future__ import annotations

import torch

import fp4guard as fg
from fp4guard import dims, oracle
from fp4guard.formats import (
    LINEAR,
    SCALES_256X8,
    WEIGHTS_16X16,
    MXPolicy,
    NanBlock,
    NanElement,
    Rounding,
    ScaleRule,
    ZeroBlock,
    ZeroSign,
)

from .configs import CONFIGS
from .launch import DIRECTIONS, LAYOUTS, SCALES_PADDING, CastTransposed, Quantized, scales_shape
from .launch import cast_transpose_mxfp4 as launch

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}

POLICY = MXPolicy(
    scale_rule=ScaleRule.EVEN_FP32,
    rounding=Rounding.TIES_TO_EVEN,
    zero_block=ZeroBlock.SMALLEST,
    nan_block=NanBlock.POISON,
    nan_element=NanElement.MAX,
    zero_sign=ZeroSign.KEEP,
)


@fg.fuzz(
    m=dims(
        min=0,
        multiple_of=lambda codes, direction: multiple(codes, direction != "rowwise"),
        tile=lambda config: CONFIGS[config].block_m,
        max=384,
    ),
    n=dims(
        min=0,
        multiple_of=lambda codes, direction: multiple(codes, direction != "columnwise"),
        tile=lambda config: CONFIGS[config].block_n,
        max=384,
    ),
    leading=[(), (1,), (2,), (3, 1)],
    config=list(CONFIGS),
    dtype=list(DTYPES),
    direction=DIRECTIONS,
    codes=LAYOUTS,
    scales=LAYOUTS,
    out=["own", "given"],
)
def cast_transpose_mxfp4(mem, m, n, leading, config, dtype, direction, codes, scales, out):
    """Any strides that fold into a matrix; outputs of the launcher's own, or given."""
    # Axes in front fold into one with the last but one only where that is the outer one in memory.
    x = mem.quantizable("x", (*leading, m, n), DTYPES[dtype], layouts=fg.WIDE_ROWS if leading else fg.WIDE)
    m *= torch.Size(leading).numel()
    given = None
    if out == "given":
        given = CastTransposed(
            output(mem, "row", m, n, codes, scales) if direction != "columnwise" else None,
            output(mem, "col", n, m, codes, scales) if direction != "rowwise" else None,
        )
    result = launch(x, direction=direction, codes=codes, scales=scales, out=given, config=CONFIGS[config])
    storage = oracle.Storage(
        codes=WEIGHTS_16X16 if codes == "shuffled" else LINEAR,
        scales=SCALES_256X8 if scales == "shuffled" else LINEAR,
        scales_padding=SCALES_PADDING if scales == "shuffled" else None,
    )
    matrix = x.reshape(m, n)
    assert (result.rowwise is None, result.columnwise is None) == (direction == "columnwise", direction == "rowwise")
    for quantized, axis in ((result.rowwise, 1), (result.columnwise, 0)):
        if quantized is not None:
            expect(mem, quantized, matrix, axis, storage)


@fg.fuzz(
    m=dims(tile=64),
    n=dims(tile=64),
    config=list(CONFIGS),
    dtype=list(DTYPES),
    direction=DIRECTIONS,
    codes=LAYOUTS,
)
def cast_transpose_mxfp4_any_shape(mem, m, n, config, dtype, direction, codes):
    """What the contract excludes is refused, before anything is written."""
    x = mem.quantizable("x", (m, n), DTYPES[dtype], layouts=fg.STRIDED)
    units = multiple(codes, direction != "rowwise"), multiple(codes, direction != "columnwise")
    allowed = m % units[0] == 0 and n % units[1] == 0
    try:
        launch(x, direction=direction, codes=codes, config=CONFIGS[config])
    except ValueError:
        assert not allowed, f"M={m}, N={n} is refused"
    else:
        assert allowed, f"M={m}, N={n} is not refused"


def multiple(codes, packed):
    """What an extent is a multiple of: of a block, or, if codes are packed along it, of the 16x16 shuffle's bytes."""
    return 64 if codes == "shuffled" and packed else 32


def output(mem, name, rows, k, codes, scales):
    """Where the launcher is to write: shuffled outputs are contiguous, linear ones have any strides."""
    return Quantized(
        mem.output(f"{name}_codes", (rows, k // 2), torch.uint8, fg.PLAIN if codes == "shuffled" else fg.WIDE),
        mem.output(
            f"{name}_scales",
            scales_shape(rows, k, scales),
            torch.uint8,
            fg.PLAIN if scales == "shuffled" else fg.WIDE,
        ),
    )


def expect(mem, quantized, matrix, axis, storage):
    """The scales by the policy; the codes by the scales that the kernel wrote, so that a wrong scale is one mistake."""
    by_policy = oracle.quantize_mx(matrix, POLICY, axis=axis, storage=storage)
    for tensor, wanted in zip(quantized, by_policy, strict=True):
        assert tensor.shape == wanted.shape, f"shape {tuple(tensor.shape)}, where {wanted.shape} is needed"
    mem.expect(quantized.scales, by_policy.scales)
    written = by_policy.scales.logical(quantized.scales.cpu().numpy())
    mem.expect(quantized.codes, oracle.requantize_mx(matrix, written, POLICY, axis=axis, storage=storage))
