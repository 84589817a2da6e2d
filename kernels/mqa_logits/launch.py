"""The launcher of the FP8 paged MQA logits: checks, one launch of a Triton or of a Gluon kernel."""

from __future__ import annotations

import importlib
from types import ModuleType
from typing import Any

import torch
import triton

from . import kernel
from .checks import check_cache, check_output, check_strides, check_tensors
from .configs import Config, default_config

SCHEDULES = ("fixed", "variable")
BACKENDS = ("triton", "gluon")
#: The first release of Triton with the Gluon operations that kernel_gluon.py uses.
GLUON_SINCE = (3, 7, 1)
#: Positions are 32-bit in the kernels, and a chunk or a block may reach past the last.
MAX_MODEL_LEN = 2**31 - 2**16
#: Batches whose lengths are summed at a time by the variable-context kernel.
_BLOCK_BATCH = 16
#: Compute units to plan for where no device is at hand.
_UNITS = 80


def fp8_paged_mqa_logits(
    q: torch.Tensor,
    kv_cache: torch.Tensor,
    weights: torch.Tensor,
    context_lens: torch.Tensor,
    block_tables: torch.Tensor,
    max_model_len: int,
    out: torch.Tensor | None = None,
    *,
    schedule: str = "fixed",
    preshuffled: bool = False,
    backend: str = "triton",
    config: Config | None = None,
) -> torch.Tensor:
    """out[b * next_n + n, t] = sum_h weights[b * next_n + n, h] * max(0, scale[t] * dot(q[b, n, h], k[t])).

    q is float8_e4m3fn (B, next_n, H, D), D a power of two from 32 to 256, next_n the new tokens of a sequence.
    kv_cache is uint8 (blocks, KB, 1, D + 4): of each block KB * D bytes of E4M3 values, token after token, then KB fp32
    scales. A block is contiguous; blocks may have gaps between them of a multiple of 4 bytes. preshuffled=True: the
    values of a block are tiles of 16 tokens x 16 values, view(KB/16, 16, D/32, 2, 16).permute(0, 2, 3, 1, 4);
    KB is then a multiple of 16. KB divides the chunk of `config`, or the chunk divides it.
    weights is fp32 (B * next_n, H). context_lens is int32 (B,), the new tokens included; block_tables int32
    (B, columns), of each row the first ceil(length / KB) entries are read. What lies on the device is not checked:
    0 <= length <= min(max_model_len, columns * KB), and entries that are read are numbers of blocks.

    Row b * next_n + n gets logits at t <= length - next_n + n, and -inf behind them up to the end of the context's last
    block or to max_model_len, whichever comes first. No other element of out is written; a new out is filled with -inf.
    out is fp32 (B * next_n, max_model_len or more). The last axis of every tensor is contiguous, other
    strides are free (q, weights and block_tables may be expanded).

    schedule="fixed": config.split_kv programs a row, equal shares of each. "variable": config.num_programs programs
    share the chunks of all rows. backend="gluon" is for CDNA4 (gfx950) and takes caches of less than 2 GiB; it raises
    RuntimeError where the installed Triton is too old. Raises TypeError for another dtype, ValueError for what else is
    not as said here.
    """
    _check_choice("schedule", schedule, SCHEDULES)
    _check_choice("backend", backend, BACKENDS)
    check_tensors(q, kv_cache, weights, context_lens, block_tables)
    check_strides(q, weights, context_lens, block_tables)
    batch, next_n, heads, d = q.shape
    rows, kv_block = batch * next_n, kv_cache.shape[1]
    if not 0 <= max_model_len <= MAX_MODEL_LEN:
        raise ValueError(f"max_model_len is {max_model_len}; allowed: 0 to {MAX_MODEL_LEN}")
    config = config or default_config(rows, max_model_len, _compute_units(q.device))
    check_cache(kv_cache, d, config.chunk_k, preshuffled)
    if out is None:
        out = torch.full((rows, max_model_len), float("-inf"), dtype=torch.float32, device=q.device)
    inputs = {"q": q, "kv_cache": kv_cache, "weights": weights}
    inputs |= {"context_lens": context_lens, "block_tables": block_tables}
    check_output(out, rows, max_model_len, inputs)
    module = _module(backend, kv_cache)
    programs = rows * config.split_kv if schedule == "fixed" else config.num_programs
    if programs >= 2**31:
        raise ValueError(f"config {config.name} needs {programs} programs for {rows} rows; allowed: < 2**31")
    if rows == 0 or max_model_len == 0 or kv_cache.shape[0] == 0 or block_tables.shape[1] == 0:
        return out

    flat = kv_cache.flatten(1)
    keys = flat.view(torch.float8_e4m3fn)
    scales = flat.view(torch.float32)[:, kv_block * d // 4 :]
    strides = (
        *q.stride()[:3],
        keys.stride(0),
        scales.stride(0),
        weights.stride(0),
        block_tables.stride(0),
        out.stride(0),
    )
    options: dict[str, Any] = {
        "D": d,
        "HEADS": max(triton.next_power_of_2(heads), 16),
        "KV_BLOCK": kv_block,
        "CHUNK_K": config.chunk_k,
        "PRESHUFFLED": preshuffled,
        "num_warps": config.num_warps,
        "num_stages": config.num_stages,
    }
    tensors = (q, keys, scales, weights, context_lens, block_tables, out)
    if schedule == "fixed":
        module.mqa_logits_fixed_kernel[(programs,)](
            *tensors, next_n, heads, config.split_kv, max_model_len, *strides, **options
        )
    else:
        module.mqa_logits_variable_kernel[(programs,)](
            *tensors, batch, next_n, heads, max_model_len, *strides, BLOCK_BATCH=_BLOCK_BATCH, **options
        )
    return out


def gluon_is_there() -> bool:
    """Whether the installed Triton has the Gluon that the CDNA4 kernels are written in."""
    return tuple(int(part) for part in triton.__version__.split("+")[0].split(".")[:3]) >= GLUON_SINCE


def _module(backend: str, kv_cache: torch.Tensor) -> ModuleType:
    """The module of the kernels. Gluon's is imported when it is asked for: older Tritons have no such thing."""
    if backend == "triton":
        return kernel
    if not gluon_is_there():
        since = ".".join(map(str, GLUON_SINCE))
        raise RuntimeError(f"backend is 'gluon' with Triton {triton.__version__}; allowed: Triton {since} or later")
    span = kv_cache.shape[0] * kv_cache.stride(0)
    if span >= 2**31:
        # Offsets of the buffer instructions are 32-bit.
        raise ValueError(f"kv_cache spans {span} bytes; allowed with backend='gluon': < 2**31")
    return importlib.import_module(f"{__package__}.kernel_gluon")


def _check_choice(name: str, value: str, allowed: tuple[str, ...]) -> None:
    if value not in allowed:
        raise ValueError(f"{name} is {value!r}; allowed: {', '.join(allowed)}")


def _compute_units(device: torch.device) -> int:
    if device.type == "cuda":
        return int(torch.cuda.get_device_properties(device).multi_processor_count)
    return _UNITS
