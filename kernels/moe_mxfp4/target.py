"""The contract of the MXFP4 mixture of experts, as targets: what it is given, and what it has to answer.

Every stage is held against what its predecessor left in fact. Policies: scale byte 0 is 0.0 and 255 is Inf; the bias
comes before the router's weight; activations are fp32; slots of no expert here are zeros.
"""

from __future__ import annotations

import zlib
from dataclasses import replace
from functools import lru_cache

import numpy as np
import torch

import fp4guard as fg
from fp4guard import dims, oracle
from fp4guard.formats import MXFP4, BlockScaled
from fp4guard.formats.blocks import per_element
from fp4guard.oracle import generate

from .align import moe_align_block_size
from .configs import CONFIGS
from .launch import ACTIVATIONS, moe_gemm_mxfp4
from .layer import Workspace, fused_moe_mxfp4, permuted_experts_mxfp4
from .routing import PLACEMENTS, ROUTINGS, placed, routed
from .weights import ExpertWeights, pad_intermediate

#: Tensor cores add so.
ADDER = oracle.FP32_TRUNCATING
BIASES = {"none": None, "bf16": torch.bfloat16, "fp32": torch.float32}
OUT_DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16, "fp32": torch.float32}
EXPERTS = (1, 2, 5, 8)
TOP_K = (1, 2, 4)
#: Sizes that the intermediate one is padded to; 2 leaves it as it is.
MULTIPLES = (2, 16, 48)


def _tile(field, count=1, divisor=1):
    """A size from the configuration."""
    return lambda config: getattr(CONFIGS[config], field) * count // divisor


@fg.fuzz(
    m=dims(tile=_tile("block_m"), max=_tile("block_m", 2), min=0),
    n=dims(tile=_tile("block_n"), multiple_of=2, max=_tile("block_n", 2)),
    k=dims(tile=_tile("block_k"), multiple_of=2, max=_tile("block_k", 2)),
    d=dims(tile=_tile("block_k"), multiple_of=2, max=_tile("block_k", 2)),
    experts=EXPERTS,
    top_k=TOP_K,
    routing=ROUTINGS,
    placement=PLACEMENTS,
    activation=ACTIVATIONS,
    bias=list(BIASES),
    weight_on_input=[False, True],
    pad_to=MULTIPLES,
    dead_codes=[False, True],
    config=list(CONFIGS),
)
def moe_mxfp4(
    mem,
    m,
    n,
    k,
    d,
    experts,
    top_k,
    routing,
    placement,
    activation,
    bias,
    weight_on_input,
    pad_to,
    dead_codes,
    config,
):
    """The whole layer, its intermediate size padded. `dead_codes`: a block of scale byte 0 is 0 whatever its codes."""
    layout = "interleaved" if activation == "swiglu_oai" else "halves"
    given1, matrix1, bias1 = expert_weights(mem, "w1", (experts, 2 * d, k), BIASES[bias], dead_codes)
    given2, matrix2, bias2 = expert_weights(mem, "w2", (experts, n, d), BIASES[bias], dead_codes)
    w1, w2 = pad_intermediate(given1, given2, pad_to, layout)
    d_padded = -(-d // pad_to) * pad_to
    gates = 1 if layout == "interleaved" else 2
    matrix1, bias1 = padded_rows(matrix1, bias1, gates, d_padded)
    matrix2 = padded_columns(matrix2, d_padded)

    a = mem.tensor("a", (m, k), torch.bfloat16, fg.WIDE)
    weights = mem.tensor("topk_weights", (m, top_k), torch.float32)
    ids, known = routes(mem, routing, placement, m, top_k, experts)
    topk_ids = mem.input("topk_ids", ids.astype(np.int32), fg.STRIDED)
    expert_map = None if known is None else mem.input("expert_map", known.astype(np.int32))
    rows = m * top_k
    workspace = Workspace(
        mem.output("gate_up", (rows, 2 * d_padded), torch.bfloat16, fg.ROWS),
        mem.output("activated", (rows, d_padded), torch.bfloat16, fg.ROWS),
        mem.output("down", (rows, n), torch.bfloat16, fg.ROWS),
    )
    out = mem.output("out", (m, n), torch.bfloat16, fg.WIDE)
    fused_moe_mxfp4(
        a,
        w1,
        w2,
        weights,
        topk_ids,
        out,
        activation=activation,
        expert_map=expert_map,
        apply_router_weight_on_input=weight_on_input,
        config=CONFIGS[config],
        workspace=workspace,
    )

    first, second = (weights, None) if weight_on_input else (None, weights)
    ids, known = none_for_unknown(ids, known, experts)
    gate_up = oracle.moe_gemm(a, matrix1, ids, first, bias1, expert_map=known, accumulator=ADDER)
    mem.expect(workspace.gate_up, gate_up.reshape(rows, 2 * d_padded))
    mem.expect(workspace.activated, oracle.activate(oracle.exactly(workspace.gate_up), activation))
    down = oracle.moe_gemm(workspace.activated, matrix2, ids, second, bias2, expert_map=known, accumulator=ADDER)
    mem.expect(workspace.down, down.reshape(rows, n))
    mem.expect(out, oracle.moe_sum(oracle.exactly(workspace.down).reshape(m, top_k, n)))


@fg.fuzz(
    m=dims(tile=_tile("block_m"), max=_tile("block_m", 2), min=0),
    n=dims(tile=_tile("block_n"), max=_tile("block_n", 3)),
    k=dims(tile=_tile("block_k"), multiple_of=2, max=_tile("block_k", 4)),
    experts=EXPERTS,
    top_k=TOP_K,
    routing=ROUTINGS,
    placement=PLACEMENTS,
    bias=list(BIASES),
    weighted=[False, True],
    dtype=list(OUT_DTYPES),
    config=list(CONFIGS),
)
def moe_gemm(mem, m, n, k, experts, top_k, routing, placement, bias, weighted, dtype, config):
    """One grouped GEMM alone, any N."""
    given, matrix, values = expert_weights(mem, "w", (experts, n, k), BIASES[bias])
    a = mem.tensor("a", (m, k), torch.bfloat16, fg.WIDE)
    weights = mem.tensor("topk_weights", (m, top_k), torch.float32) if weighted else None
    ids, known = routes(mem, routing, placement, m, top_k, experts)
    topk_ids = mem.input("topk_ids", ids)
    expert_map = None if known is None else mem.input("expert_map", known)
    out = mem.output("out", (m * top_k, n), OUT_DTYPES[dtype], fg.WIDE)
    alignment = moe_align_block_size(topk_ids, CONFIGS[config].block_m, experts, expert_map)
    c = out.unflatten(0, (m, top_k))
    moe_gemm_mxfp4(a, given, alignment, c, topk_weights=weights, config=CONFIGS[config])
    ids, known = none_for_unknown(ids, known, experts)
    expected = oracle.moe_gemm(a, matrix, ids, weights, values, expert_map=known, accumulator=ADDER)
    mem.expect(out, expected.reshape(m * top_k, n))


@fg.fuzz(
    rows=dims(tile=_tile("block_m"), max=_tile("block_m", 4), min=0),
    spare=(0, 1, 17),
    n=dims(tile=_tile("block_n"), max=_tile("block_n", 2)),
    k=dims(tile=_tile("block_k"), multiple_of=2, max=_tile("block_k", 2)),
    d=dims(tile=_tile("block_k"), multiple_of=2, max=_tile("block_k", 2)),
    experts=EXPERTS,
    routing=ROUTINGS[:3],
    activation=ACTIVATIONS,
    bias=list(BIASES),
    weighted=[False, True],
    config=list(CONFIGS),
)
def permuted_experts(mem, rows, spare, n, k, d, experts, routing, activation, bias, weighted, config):
    """Rows that are grouped by expert, and `spare` ones behind them, of which nobody knows anything."""
    w1, matrix1, bias1 = expert_weights(mem, "w1", (experts, 2 * d, k), BIASES[bias])
    w2, matrix2, bias2 = expert_weights(mem, "w2", (experts, n, d), BIASES[bias])
    ids = np.sort(routed(routing, rows, 1, experts, mem.case.seed), axis=0)
    counts = mem.input("expert_num_tokens", np.bincount(ids.ravel(), minlength=experts).astype(np.int32))
    a = with_spare_rows(mem, "a", mem.tensor("a_rows", (rows, k), torch.bfloat16), spare)
    weights = None
    if weighted:
        weights = with_spare_rows(mem, "row_weights", mem.tensor("weights", (rows, 1), torch.float32), spare, fg.PLAIN)
    workspace = Workspace(
        mem.scratch("gate_up", (rows + spare, 2 * d), torch.bfloat16, fg.STRIDED),
        mem.scratch("activated", (rows + spare, d), torch.bfloat16, fg.STRIDED),
    )
    out = mem.scratch("out", (rows + spare, n), torch.bfloat16, fg.STRIDED)
    permuted_experts_mxfp4(
        a,
        counts,
        w1,
        w2,
        out,
        row_weights=weights,
        activation=activation,
        config=CONFIGS[config],
        workspace=workspace,
    )
    gate_up, activated = workspace.gate_up[:rows], workspace.activated[:rows]
    mem.expect(gate_up, oracle.moe_gemm(a[:rows], matrix1, ids, bias=bias1, accumulator=ADDER)[:, 0])
    mem.expect(activated, oracle.activate(oracle.exactly(gate_up), activation))
    factors = None if weights is None else weights[:rows]
    mem.expect(out[:rows], oracle.moe_gemm(activated, matrix2, ids, factors, bias2, accumulator=ADDER)[:, 0])


def expert_weights(mem, name, shape, bias_dtype, dead_codes=False):
    """Weights of all experts (E, N, K); the same as a matrix and a bias for the oracle.

    With `dead_codes`, a fifth of the blocks more than the regime's have scale byte 0, and the codes of such are poison.
    """
    matrix = expert_matrix(mem.case.regime, mem.case.seed, name, shape, dead_codes)
    undefined = per_element(matrix.scales == 0, shape[2] // 2, MXFP4.length // 2) if dead_codes else None
    codes = mem.input(name, matrix.codes.copy(), fg.WIDE, undefined)
    scales = mem.input(f"{name}_scales", matrix.scales.copy(), fg.STRIDED)
    bias = None if bias_dtype is None else mem.tensor(f"{name}_bias", shape[:2], bias_dtype, fg.STRIDED)
    return ExpertWeights(codes, scales, bias), matrix, bias


@lru_cache(maxsize=4)
def expert_matrix(regime, seed, name, shape, dead_codes):
    """The matrix of `expert_weights`: the same in every run of a case."""
    experts, n, k = shape
    rng = np.random.default_rng([seed, zlib.crc32(name.encode())])
    matrix = generate.blocks(regime, experts * n, k, rng)
    elements, scales = matrix.elements.reshape(shape), matrix.scales.reshape(experts, n, -1)
    if dead_codes:
        scales = np.where(rng.random(scales.shape) < 0.2, 0, scales).astype(np.uint8)
    return BlockScaled(MXFP4, elements, scales)


def routes(mem, routing, placement, m, top_k, experts):
    """Ids (m, top_k), and the map of global experts or None."""
    known = placed(placement, experts, mem.case.seed)
    return routed(routing, m, top_k, experts if known is None else len(known), mem.case.seed), known


def none_for_unknown(ids, known, experts):
    """Ids of no expert become the id of one more, which is not here: the oracle takes ids that its map knows."""
    known = np.arange(experts) if known is None else known
    return np.where((ids >= 0) & (ids < len(known)), ids, len(known)), np.append(known, -1)


def with_spare_rows(mem, name, values, spare, layouts=fg.STRIDED):
    """An input of `spare` rows more than `values`, whose content is left open."""
    padded = torch.cat([values, values.new_zeros((spare, values.shape[1]))])
    undefined = np.zeros(tuple(padded.shape), bool)
    undefined[len(values) :] = True
    return mem.input(name, padded, layouts, undefined)


def padded_rows(matrix, bias, gates, d):
    """The first GEMM's matrix (E, 2 D', K) and bias, each of `gates` parts of the rows padded: to 2 d in all."""
    experts, rows, _ = matrix.shape

    def pad(array, fill):
        parts = array.reshape(experts, gates, rows // gates, *array.shape[2:])
        result = np.full((experts, gates, 2 * d // gates, *array.shape[2:]), fill, array.dtype)
        result[:, :, : rows // gates] = parts
        return result.reshape(experts, 2 * d, *array.shape[2:])

    padded = replace(matrix, elements=pad(matrix.elements, 0), scales=pad(matrix.scales, 127))
    return padded, None if bias is None else pad(bias.double().cpu().numpy(), 0.0)


def padded_columns(matrix, d):
    """The second GEMM's matrix (E, N, D'), padded to d columns."""
    experts, n, columns = matrix.shape
    elements = np.zeros((experts, n, d), np.uint8)
    elements[..., :columns] = matrix.elements
    scales = np.full((experts, n, MXFP4.blocks(d)), 127, np.uint8)
    scales[..., : matrix.scales.shape[-1]] = matrix.scales
    return replace(matrix, elements=elements, scales=scales)
