"""Operations of TTGIR on tensors that TTIR has none of, and those that only order what is in order here."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np

from ...errors import UnsupportedError
from ...formats import packing
from ...ttir import Operation
from ..elements import Array, element_of
from . import dot
from .arith import Rule
from .shape import materialise

#: The attribute `inputPrecision` of a product, by its number in TTGIR.
_PRECISIONS = ("tf32", "tf32x3", "ieee", "bf16x3", "bf16x6")

#: Of a byte, its two E2M1 elements, the low nibble first: float32 [256, 2], every one a float16 and a bfloat16 too.
_PAIRS = packing.decode_packed(np.arange(256, dtype=np.uint8)[:, None]).astype(np.float32)


def _warp_group_dot(op: Operation) -> Callable[..., Array]:
    """Wgmma: a * b + c, or a * b where the fourth operand is false."""
    precision = _PRECISIONS[int(op.attributes.get("inputPrecision", _PRECISIONS.index("ieee")))]
    product = dot.RULES["tt.dot"](replace(op, operands=op.operands[:3], words=(precision,)))
    if len(op.operands) == 3:
        return product
    rank = len(op.result.type.shape)

    def apply(a: Array, b: Array, c: Array, accumulates: Array) -> Array:
        if not accumulates.all():
            c = np.where(accumulates.reshape(-1, *(1,) * rank), c, np.zeros((), c.dtype))
        return product(a, b, c)

    return apply


def _fp4_to_fp(op: Operation) -> Callable[..., Array]:
    """Bytes of two E2M1 elements -> twice as many along an axis."""
    source, target, axis = op.operands[0].type, op.result.type, op.attributes["axis"] + 1
    if target.element not in ("f16", "bf16", "f32"):
        raise UnsupportedError(f"{op.name} to {target.element}", op.location)
    held = element_of(target).held

    def apply(x: Array) -> Array:
        x = materialise(x, source)
        pairs = np.moveaxis(_PAIRS.astype(held)[x.view(np.uint8)], -1, axis + 1)
        return pairs.reshape(len(x), *target.shape)

    return apply


def _handed_on(op: Operation) -> Callable[..., Array | Sequence[Array]]:
    return (lambda x: x) if len(op.results) == 1 else (lambda *values: values)


RULES: dict[str, Rule] = {
    "ttg.fp4_to_fp": _fp4_to_fp,
    "ttng.warp_group_dot": _warp_group_dot,
    "ttng.warp_group_dot_wait": _handed_on,  # type: ignore[dict-item]
}

#: Barriers, waits, fences and hints. What they wait for is done where it is issued, so there is nothing to do.
NO_OPS = (
    "amdg.async_copy_mbarrier_arrive",
    "amdg.async_tdm_intrinsic_wait",
    "amdg.async_tdm_wait",
    "amdg.async_wait",
    "amdg.cluster_barrier_arrive",
    "amdg.cluster_barrier_wait",
    "amdg.cond_barrier",
    "amdg.init_barrier",
    "amdg.tdm_prefetch",
    "amdg.wait_barrier",
    "amdgpu.memory_counter_wait",
    "amdgpu.sched_barrier",
    "gpu.barrier",
    "rocdl.iglp.opt",
    "rocdl.s.barrier",
    "rocdl.s.nop",
    "rocdl.s.setprio",
    "rocdl.sched.barrier",
    "rocdl.sched.group.barrier",
    "ttg.async_commit_group",
    "ttg.async_wait",
    "ttg.barrier",
    "ttng.arrive_barrier",
    "ttng.async_copy_mbarrier_arrive",
    "ttng.async_tma_store_wait",
    "ttng.barrier_expect",
    "ttng.cluster_barrier",
    "ttng.fence_async_shared",
    "ttng.tc_gen5_commit",
    "ttng.tmem_wait",
    "ttng.fence_mbarrier_init_release_cluster",
    "ttng.init_barrier",
    "ttng.inval_barrier",
    "ttng.wait_barrier",
)
