"""The contract of the NVFP4 linear layer, as targets: the whole, and its parts."""

from __future__ import annotations

import numpy as np
import torch

import fp4guard as fg
from fp4guard import dims, oracle
from fp4guard.formats import E4M3, LINEAR, NVFP4, SCALES_8X4, SCALES_128X4, NanBlock, NibbleOrder, nvfp4
from fp4guard.oracle import ExpectedCodes, Storage

from .backends import BACKENDS
from .configs import CONFIGS, QUANTIZE_CONFIGS
from .launch import scaled_fp4_mm as multiply
from .launch import scaled_fp4_quant as quantize
from .linear import nvfp4_linear as linear
from .linear import prepare_weight as prepare
from .scales import SCALE_LAYOUTS

DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16, "fp32": torch.float32}
NARROW = ["bf16", "fp16"]
LAYOUTS = {"linear": LINEAR, "128x4": SCALES_128X4, "8x4": SCALES_8X4}
ORDERS = {"fast": nvfp4.FAST, "exact": nvfp4.EXACT}
POLICY = nvfp4.NVPolicy(nan_block=NanBlock.POISON)

#: What the global scale was calibrated on: this tensor, one of larger or of smaller numbers, an amax of 2688 or of 7.
#: Under the last two (1 and 384) a block's scale can lie exactly between two of E4M3's.
GLOBAL_SCALES = {
    "this": lambda amax: nvfp4.SPAN / amax,
    "larger": lambda amax: nvfp4.SPAN / (7 * amax),
    "smaller": lambda amax: nvfp4.SPAN / (amax / 8),
    "2688": lambda amax: 1.0,
    "7": lambda amax: 384.0,
}
#: Powers of two, which are exact, and others.
ALPHAS = [1.0, 0.5, 2.0**-9, 3.0, float(np.float32(1 / 3)), float(np.float32(1e-3))]

#: (N, K) of one rank of a tensor-parallel model. K = 464 is a quarter of an intermediate size of 1856, 672 of a hidden
#: size of 2688; none of them aligns to 128, most not even to 32.
SHARDS = {
    "down 1856/4": (336, 464),
    "down 1856/4, N odd": (173, 464),
    "up 1856/8": (232, 336),
    "qkv 2688/4": (104, 672),
    "out 2880/8": (90, 368),
    "80": (96, 80),
    "1040": (130, 1040),
}


@fg.fuzz(
    m=dims(tile=lambda config: CONFIGS[config].block_m, max=160),
    n=dims(tile=lambda config: CONFIGS[config].block_n, max=320),
    k=dims(multiple_of=16, tile=lambda config: CONFIGS[config].block_k, max=512),
    batch=[None, 1, 3],
    parts=[1, 2],
    backend=list(BACKENDS),
    config=list(CONFIGS),
    dtype=NARROW,
    out_dtype=[None, *NARROW],
    arithmetic=list(ORDERS),
    global_scale=list(GLOBAL_SCALES),
    bias=[None, *DTYPES],
)
def nvfp4_linear(mem, m, n, k, batch, parts, backend, config, dtype, out_dtype, arithmetic, global_scale, bias):
    """The whole layer, on any N and on K in groups of 16: both align to nothing else."""
    leading = (m,) if batch is None else (batch, -(-m // batch))
    options = {"dtype": DTYPES.get(out_dtype), "arithmetic": arithmetic, "config": CONFIGS[config]}
    run_layer(mem, leading, -(-n // parts) * parts, k, dtype, global_scale, bias, backend, parts, options)


@fg.fuzz(
    m=dims(
        tile=lambda scale_layout, config: max(SCALE_LAYOUTS[scale_layout].row_tile, QUANTIZE_CONFIGS[config].block_m),
        max=lambda scale_layout: SCALE_LAYOUTS[scale_layout].max_rows or 300,
    ),
    k=dims(multiple_of=16, tile=lambda config: 16 * QUANTIZE_CONFIGS[config].block_groups),
    pad_k=[0, 16, 48],
    scale_layout=list(LAYOUTS),
    config=list(QUANTIZE_CONFIGS),
    dtype=NARROW,
    arithmetic=list(ORDERS),
    global_scale=list(GLOBAL_SCALES),
    scale_dtype=["fp32", "bf16"],
    outputs=["given", "new"],
)
def scaled_fp4_quant(mem, m, k, pad_k, scale_layout, config, dtype, arithmetic, global_scale, scale_dtype, outputs):
    """Bit for bit, scales and codes; every byte of the scales' padding is 0."""
    x = mem.quantizable("x", (m, k), DTYPES[dtype], NVFP4, fg.WIDE)
    scale = global_scale_of(x, global_scale, scale_dtype)
    given = {}
    if outputs == "given":
        shape = SCALE_LAYOUTS[scale_layout].shape(m, (k + pad_k) // 16)
        given["codes"] = mem.output("codes", (m, k // 2), torch.uint8, fg.WIDE)
        given["scales"] = mem.output("scales", shape, torch.uint8, fg.WIDE if scale_layout == "linear" else fg.PLAIN)
    codes, scales = quantize(
        x,
        mem.input("global_scale", scale),
        layout=scale_layout,
        arithmetic=arithmetic,
        padded_k=k + pad_k,
        config=QUANTIZE_CONFIGS[config],
        **given,
    )
    storage = Storage(scales=LAYOUTS[scale_layout], scales_padding=0)
    # Groups behind K are groups of zeros.
    padded = torch.nn.functional.pad(x, (0, pad_k))
    order, g = ORDERS[arithmetic], float(scale)
    mem.expect(codes, oracle.quantize_nvfp4(x, order, g, POLICY, storage=storage).codes)
    mem.expect(scales, oracle.quantize_nvfp4(padded, order, g, POLICY, storage=storage).scales)


@fg.fuzz(
    m=dims(tile=lambda config: CONFIGS[config].block_m, max=lambda a_layout: SCALE_LAYOUTS[a_layout].max_rows or 260),
    n_units=dims(tile=lambda config, backend: max(CONFIGS[config].block_n // BACKENDS[backend].n_multiple, 1)),
    k_units=dims(tile=lambda config, backend: max(CONFIGS[config].block_k // BACKENDS[backend].k_multiple, 1)),
    backend=list(BACKENDS),
    config=list(CONFIGS),
    a_layout=list(LAYOUTS),
    b_layout=["128x4", "linear"],
    dtype=NARROW,
    alpha=ALPHAS,
    bias=[None, *DTYPES],
    outputs=["given", "new"],
)
def scaled_fp4_mm(mem, m, n_units, k_units, backend, config, a_layout, b_layout, dtype, alpha, bias, outputs):
    """N and K in the units that a backend asks for. The padding of the scales may be anything."""
    n, k = n_units * BACKENDS[backend].n_multiple, k_units * BACKENDS[backend].k_multiple
    a, b = mem.nvfp4("a", (m, k), fg.WIDE), mem.nvfp4("b", (n, k), fg.WIDE)
    added = None if bias is None else mem.tensor("bias", (n,), DTYPES[bias])
    given = {"dtype": DTYPES[dtype]}
    if outputs == "given":
        given = {"out": mem.output("out", (m, n), DTYPES[dtype], fg.WIDE)}
    out = multiply(
        a.codes,
        b.codes,
        stored_scales(mem, "a_swizzled", a, a_layout),
        stored_scales(mem, "b_swizzled", b, b_layout),
        mem.input("alpha", torch.tensor([alpha])),
        bias=added,
        backend=backend,
        a_layout=a_layout,
        b_layout=b_layout,
        config=CONFIGS[config],
        **given,
    )
    mem.expect(out, oracle.gemm(a, b, oracle.FP32_TRUNCATING, alpha=alpha, bias=added))


@fg.fuzz(
    m=[1, 3, 17, 33],
    shard=list(SHARDS),
    backend=list(BACKENDS),
    dtype=NARROW,
    global_scale=list(GLOBAL_SCALES),
    bias=[None, "bf16"],
)
def nvfp4_linear_shards(mem, m, shard, backend, dtype, global_scale, bias):
    """The whole layer on shards of tensor-parallel models, with the configurations that it picks itself."""
    n, k = SHARDS[shard]
    run_layer(mem, (m,), n, k, dtype, global_scale, bias, backend, 1, {})


@fg.fuzz(
    n=dims(tile=lambda backend, parts: parts * BACKENDS[backend].n_multiple, max=320),
    k=dims(multiple_of=16, tile=lambda backend: BACKENDS[backend].k_multiple),
    parts=[1, 2],
    backend=list(BACKENDS),
    bias=[False, True],
)
def prepare_weight(mem, n, k, parts, backend, bias):
    """Zeros behind the rows of each part and behind the columns, in the codes, the scales and the bias."""
    n = -(-n // parts) * parts
    w = mem.nvfp4("w", (n, k), fg.STRIDED)
    added = mem.tensor("bias", (n,), torch.bfloat16) if bias else None
    weight = prepare(w.codes, w.scales, added, backend=backend, parts=parts)
    rules = BACKENDS[backend]
    rows = -(-n // parts // rules.n_multiple) * rules.n_multiple - n // parts
    columns = -(-k // rules.k_multiple) * rules.k_multiple - k

    def padded(matrix, columns):
        split = matrix.reshape(parts, -1, matrix.shape[-1])
        return np.pad(split, ((0, 0), (0, rows), (0, columns))).reshape(-1, matrix.shape[-1] + columns)

    codes, scales = padded(w.matrix.elements, columns), padded(w.matrix.scales, columns // 16)
    mem.expect(weight.codes, ExpectedCodes(NVFP4.element, codes, packing=NibbleOrder.LOW_FIRST))
    mem.expect(weight.scales, ExpectedCodes(E4M3, scales, layout=SCALES_128X4, padding=0))
    if bias:
        mem.expect(weight.bias, padded(added.float().cpu().numpy()[:, None], 0)[:, 0])


def run_layer(mem, leading, n, k, dtype, global_scale, bias, backend, parts, options):
    """Prepare a weight, run the layer, and say what it has to answer."""
    x = mem.quantizable("x", (*leading, k), DTYPES[dtype], NVFP4, fg.STRIDED)
    w = mem.nvfp4("w", (n, k), fg.STRIDED)
    added = None if bias is None else mem.tensor("bias", (n,), DTYPES[bias])
    scale = global_scale_of(x, global_scale, "fp32")
    alpha = 1 / scale
    weight = prepare(w.codes, w.scales, added, backend=backend, parts=parts)
    out = linear(x, weight, mem.input("global_scale", scale), mem.input("alpha", alpha), **options)

    order = ORDERS[options.get("arithmetic", "fast")]
    rows = nvfp4.quantize(x.float().reshape(-1, k).cpu().numpy(), order, float(scale), POLICY)
    product = oracle.gemm(rows, w, oracle.FP32_TRUNCATING, alpha=float(alpha), bias=added)
    mem.expect(out.reshape(-1, n), product)


def global_scale_of(x, name, dtype):
    """One element of `dtype`, within what the contract allows: beyond it reciprocals overflow."""
    amax = float(torch.where(x.isfinite(), x.abs(), 0).max()) or 1.0
    return torch.tensor([GLOBAL_SCALES[name](amax)]).clamp(2.0**-120, 2.0**100).to(DTYPES[dtype])


def stored_scales(mem, name, operand, layout):
    """An operand's scales in a layout. The GEMM's contract says nothing of their padding: it is poison."""
    if layout == "linear":
        return operand.scales
    scales = operand.matrix.scales
    stored = LAYOUTS[layout].pack(scales)
    return mem.input(name, stored, undefined=LAYOUTS[layout].padding(scales.shape))
