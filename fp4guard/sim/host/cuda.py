"""`torch.cuda`, and what else of torch asks for a GPU, as one of the emulated architecture answers."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial, wraps
from types import ModuleType, SimpleNamespace
from typing import TYPE_CHECKING, Any, NoReturn

import torch
import torch.amp.autocast_mode
import torch.autograd
import torch.cuda.nvtx
from torch.utils._pytree import tree_map_only

from ...errors import UnsupportedError
from ...memory.placement import put
from ..callers import launching_line
from . import streams
from .current import Patch, answering, current
from .devices import is_gpu

if TYPE_CHECKING:
    from .emulation import Emulation

#: Releases of CUDA and ROCm that know every architecture there is.
_CUDA, _HIP = "12.9", "7.0.0"


def _checked(device: Any) -> None:
    """AssertionError, as torch's own, for a device that is no GPU or not there."""
    if isinstance(device, int) and device < 0:
        return
    if device is not None and not is_gpu(device):
        raise AssertionError(f"Invalid device id: {device!r}; allowed are 0, 'cuda' and 'cuda:0'")


def _index(device: Any) -> int:
    _checked(device)
    return 0


def _constant(value: Any) -> Callable[..., Any]:
    return lambda emulation, *args, **kwargs: value


def _of_device(answer: Callable[[Emulation], Any]) -> Callable[..., Any]:
    """The answer to a question about one device, which is checked."""

    def ask(emulation: Emulation, device: Any = None) -> Any:
        _checked(device)
        return answer(emulation)

    return ask


def _properties(emulation: Emulation) -> SimpleNamespace:
    card = emulation.card
    found = SimpleNamespace(
        name=card.name,
        major=card.capability[0],
        minor=card.capability[1],
        total_memory=card.memory,
        multi_processor_count=card.processors,
        warp_size=card.warp,
        max_threads_per_multi_processor=card.threads,
        max_threads_per_block=1024,
        regs_per_multiprocessor=65536,
        shared_memory_per_block=min(card.shared, 48 << 10) if card.warp == 32 else card.shared,
        shared_memory_per_block_optin=card.shared,
        shared_memory_per_multiprocessor=card.shared_all,
        L2_cache_size=card.l2,
        clock_rate=card.clock,
        memory_clock_rate=card.memory_clock,
        memory_bus_width=card.bus,
        is_integrated=False,
        is_multi_gpu_board=False,
    )
    if not emulation.nvidia:
        found.gcnArchName = emulation.arch.name
    return found


def _set_stream(emulation: Emulation, stream: Any) -> None:
    emulation.stream = emulation.default_stream if stream is None else stream


def _refused(what: str) -> Callable[..., NoReturn]:
    def refuse(emulation: Emulation, *args: Any, **kwargs: Any) -> NoReturn:
        raise UnsupportedError(what, launching_line(), "there is no GPU; call what is to be captured itself")

    return refuse


def _seed(emulation: Emulation, seed: int) -> None:
    torch.default_generator.manual_seed(seed)


_NOTHING, _ZERO = _constant(None), _constant(0)

#: Functions of `torch.cuda` by name; each is given the emulation first.
_ANSWERS: dict[str, Callable[..., Any]] = {
    "is_available": _constant(True),
    "is_initialized": _constant(True),
    "init": _NOTHING,
    "_lazy_init": _NOTHING,
    "device_count": _constant(1),
    "current_device": _ZERO,
    "set_device": _of_device(lambda e: None),
    "_get_device_index": lambda e, device=None, *a, **k: _index(device),
    "get_device_name": _of_device(lambda e: e.card.name),
    "get_device_capability": _of_device(lambda e: e.card.capability),
    "get_device_properties": _of_device(_properties),
    "get_arch_list": lambda e: [e.arch.name],
    "get_gencode_flags": lambda e: "",
    "can_device_access_peer": _constant(False),
    "is_bf16_supported": _constant(True),
    "is_tf32_supported": lambda e: e.nvidia,
    "current_stream": _of_device(lambda e: e.stream),
    "default_stream": _of_device(lambda e: e.default_stream),
    "set_stream": _set_stream,
    "stream": streams.entered_stream,
    "device": streams.entered,
    "device_of": streams.entered,
    "synchronize": _of_device(lambda e: None),
    "is_current_stream_capturing": _constant(False),
    "CUDAGraph": _refused("torch.cuda.CUDAGraph"),
    "graph": _refused("torch.cuda.graph"),
    "make_graphed_callables": lambda e, callables, *a, **k: callables,
    "manual_seed": _seed,
    "manual_seed_all": _seed,
    "seed": lambda e: torch.default_generator.seed(),
    "seed_all": lambda e: torch.default_generator.seed(),
    "initial_seed": lambda e: torch.default_generator.initial_seed(),
    "get_rng_state": lambda e, device=None: torch.default_generator.get_state(),
    "get_rng_state_all": lambda e: [torch.default_generator.get_state()],
    "set_rng_state": lambda e, state, device=None: torch.default_generator.set_state(state) and None,
    "set_rng_state_all": lambda e, states: torch.default_generator.set_state(states[0]) and None,
    "mem_get_info": _of_device(lambda e: (e.card.memory, e.card.memory)),
    "memory_stats": _of_device(lambda e: {}),
    "memory_summary": _constant(""),
    "get_allocator_backend": _constant("native"),
    "utilization": _ZERO,
    "temperature": _ZERO,
    "clock_rate": lambda e, device=None: e.card.clock // 1000,
    "_sleep": _NOTHING,
    **dict.fromkeys(
        ("memory_allocated", "max_memory_allocated", "memory_reserved", "max_memory_reserved", "memory_cached",
         "max_memory_cached", "device_memory_used"), _ZERO,
    ),
    **dict.fromkeys(
        ("empty_cache", "ipc_collect", "reset_peak_memory_stats", "reset_max_memory_allocated",
         "reset_max_memory_cached", "reset_accumulated_memory_stats", "set_per_process_memory_fraction",
         "set_sync_debug_mode"), _NOTHING,
    ),
}  # fmt: skip

#: Of `torch.accelerator`, which newer code asks instead.
_ACCELERATOR: dict[str, Callable[..., Any]] = {
    "is_available": _constant(True),
    "current_accelerator": lambda e, check_available=False: torch.device("cuda"),
    "device_count": _constant(1),
    "current_device_index": _ZERO,
    "current_device_idx": _ZERO,
    "set_device_index": _NOTHING,
    "set_device_idx": _NOTHING,
    "current_stream": _of_device(lambda e: e.stream),
    "set_stream": _set_stream,
    "synchronize": _NOTHING,
    "empty_cache": _NOTHING,
    "get_device_capability": _of_device(lambda e: {}),
}

_CLASSES = {"Stream": streams.Stream, "Event": streams.Event, "ExternalStream": streams.Stream}


def patches() -> list[Patch]:
    """What is replaced in torch."""
    found: list[Patch] = [
        (torch.version, "__class__", lambda original: _Version),
        (torch, "Generator", lambda original: streams.standing_for(streams.Generator, original)),
        (torch, "compile", answering(_compile)),
        (torch, "load", _load),
        (torch, "is_autocast_enabled", _autocast_question),
        (torch, "get_autocast_dtype", _autocast_question),
        (torch.amp.autocast_mode.autocast, "__init__", _autocast),
        (torch.autograd, "_engine_run_backward", _called_back),
        (torch._C._autograd, "_push_saved_tensors_default_hooks", _hooks),
        *[(torch.cuda.nvtx, name, answering(_NOTHING)) for name in ("range_push", "range_pop", "mark")],
        (torch.cuda.nvtx, "range", answering(streams.entered)),
    ]
    for module, table in ((torch.cuda, _ANSWERS), (getattr(torch, "accelerator", None), _ACCELERATOR)):
        if module is not None:
            found += [(module, name, answering(table[name])) for name in table if hasattr(module, name)]
    for name, standin in _CLASSES.items():
        found.append((torch.cuda, name, partial(streams.standing_for, standin)))
    found.append((torch.cuda, "default_generators", lambda original: _Generators(original)))
    return found


class _Generators(tuple[Any, ...]):
    """`torch.cuda.default_generators`: the CPU's, under an emulation."""

    def __getitem__(self, index: Any) -> Any:
        return super().__getitem__(index) if current() is None else (torch.default_generator,)[index]

    def __len__(self) -> int:
        return super().__len__() if current() is None else 1


class _Version(ModuleType):
    """`torch.version`, in which `cuda` and `hip` say whose GPU there is."""

    @property
    def cuda(self) -> str | None:
        emulation = current()
        return self.__dict__["cuda"] if emulation is None else _CUDA if emulation.nvidia else None

    @property
    def hip(self) -> str | None:
        emulation = current()
        return self.__dict__["hip"] if emulation is None else None if emulation.nvidia else _HIP


def _compile(emulation: Emulation, model: Any = None, **options: Any) -> Any:
    """`torch.compile`: the code as it is, for a compiler's kernels are not those under test."""
    return (lambda model: model) if model is None else model


def _load(original: Callable[..., Any]) -> Callable[..., Any]:
    """`torch.load`: what lay on the GPU lies on the CPU, and says it does not."""

    @wraps(original)
    def load(f: Any, map_location: Any = None, *args: Any, **kwargs: Any) -> Any:
        if current() is None or not isinstance(map_location, (str, torch.device)) or not is_gpu(map_location):
            return original(f, map_location, *args, **kwargs)
        found = original(f, "cpu", *args, **kwargs)
        return tree_map_only(torch.Tensor, lambda tensor: put(tensor, True), found)

    return load


def _autocast(original: Callable[..., Any]) -> Callable[..., Any]:
    """Autocasting on the GPU is autocasting on the CPU, to the type that the GPU's would choose."""

    @wraps(original)
    def __init__(self: Any, device_type: Any, dtype: Any = None, *args: Any, **kwargs: Any) -> None:  # noqa: N807
        if current() is not None and device_type == "cuda":
            device_type, dtype = "cpu", torch.get_autocast_dtype("cuda") if dtype is None else dtype
        original(self, device_type, dtype, *args, **kwargs)

    return __init__


def _autocast_question(original: Callable[..., Any]) -> Callable[..., Any]:
    """`is_autocast_enabled` and `get_autocast_dtype`: the CPU's, while it autocasts."""

    @wraps(original)
    def ask(*args: Any) -> Any:
        if current() is not None and args in ((), ("cuda",)) and enabled("cpu"):
            return original("cpu")
        return original(*args)

    enabled = original if original.__name__ == "is_autocast_enabled" else torch._C.is_autocast_enabled
    return ask


def _called_back(original: Callable[..., Any]) -> Callable[..., Any]:
    """What torch runs while it handles a function, with the devices out of force: `Tensor.backward`, and hooks."""

    @wraps(original)
    def run(*args: Any, **kwargs: Any) -> Any:
        emulation = current()
        if emulation is None:
            return original(*args, **kwargs)
        with emulation.again():
            return original(*args, **kwargs)

    return run


def _hooks(original: Callable[..., Any]) -> Callable[..., Any]:
    """Hooks of what autograd saves, such as those of checkpoints, are asked on behalf of an operator."""

    @wraps(original)
    def push(pack: Callable[..., Any], unpack: Callable[..., Any]) -> Any:
        if current() is None:
            return original(pack, unpack)
        return original(_called_back(pack), _called_back(unpack))

    return push
