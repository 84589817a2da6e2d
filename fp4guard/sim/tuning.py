"""Autotuned kernels: which configuration a launch takes. Nothing is measured; the configuration is part of the case."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from contextvars import ContextVar
from typing import Any

from hypothesis.errors import UnsatisfiedAssumption
from triton.runtime import Autotuner

from ..errors import UnsupportedError, UsageError
from .callers import launching_line
from .hooks import Hooks

#: Triton's own launch options; a configuration's name says them only where they tell configurations apart.
_OPTIONS = ("num_warps", "num_stages", "num_ctas", "maxnreg", "ir_override")

#: The configurations that `tuned` has given to tuners.
_pinned: ContextVar[dict[Any, Any] | None] = ContextVar("pinned", default=None)

#: Whether the launches of this thread are simulated, so that no tuner may measure.
_deciding: ContextVar[bool] = ContextVar("deciding", default=False)


def configs(kernel: Any) -> dict[str, Any]:
    """The `triton.Config`s of an autotuned kernel, by names such as `BLOCK=64,num_warps=8`, in the kernel's order.

        CONFIGS = fg.configs(my_kernel)

        @fg.fuzz(config=list(CONFIGS), n=dims(tile=lambda config: CONFIGS[config].kwargs["BLOCK"]))
        def test_my_kernel(mem, config, n):
            with fg.tuned(my_kernel, config):
                my_kernel[grid](...)

    Raises UsageError when the kernel is not decorated with `triton.autotune`.
    """
    tuner = _tuner(kernel)
    every = [config.all_kwargs() for config in tuner.configs]
    telling = [option for option in _OPTIONS if len({str(one.get(option)) for one in every}) > 1]
    found: dict[str, Any] = {}
    for config, given in zip(tuner.configs, every):
        shown = {**config.kwargs, **{option: given.get(option) for option in telling}}
        name = base = ",".join(f"{key}={_shown(value)}" for key, value in shown.items()) or "default"
        count = 1
        while name in found:  # they differ in a hook
            count += 1
            name = f"{base}#{count}"
        found[name] = config
    return found


def _shown(value: Any) -> str:
    return str(getattr(value, "__name__", value))


@contextmanager
def tuned(kernel: Any, name: str) -> Iterator[None]:
    """While active, launches of an autotuned kernel take its configuration of that name (see `configs`).

    A case whose configuration the kernel's own `early_config_prune` rules out is rejected: it never occurs. A simulated
    kernel that is not given one takes the first that its `prune_configs_by` leaves.

    Raises UsageError for a name that is not one of `configs(kernel)`.
    """
    tuner, found = _tuner(kernel), configs(kernel)
    if name not in found:
        allowed = ", ".join(map(repr, found))
        raise UsageError(f"tuned({tuner.base_fn.__name__}, {name!r}): allowed are {allowed}")
    with _HOOKS.telling(_pinned, {**(_pinned.get() or {}), tuner: found[name]}):
        yield


def deciding() -> AbstractContextManager[None]:
    """While active, no tuner of this thread measures anything."""
    return _HOOKS.telling(_deciding, True)


def _tuner(kernel: Any) -> Any:
    found = kernel
    while not isinstance(found, Autotuner):
        if not hasattr(found, "fn"):
            raise UsageError(f"{kernel!r} is not autotuned: allowed are kernels decorated with triton.autotune")
        found = found.fn
    return found


def _run(original: Callable[..., Any]) -> Callable[..., Any]:
    """`Autotuner.run` as it is when an earlier launch has made the choice: the configuration's own hook runs, and those
    that prepare a measurement (`reset_to_zero`, `restore_value`, the tuner's `pre_hook`) do not.
    """

    def run(tuner: Any, *args: Any, **kwargs: Any) -> Any:
        pinned = (_pinned.get() or {}).get(tuner)
        if pinned is None and not _deciding.get():
            return original(tuner, *args, **kwargs)
        tuner.nargs = dict(zip(tuner.arg_names, args))
        try:
            tuner.best_config = config = _first(tuner, kwargs) if pinned is None else _allowed(tuner, pinned, kwargs)
            if config.pre_hook is not None:
                config.pre_hook({**tuner.nargs, **kwargs, **config.all_kwargs()})
            return tuner.fn.run(*args, **kwargs, **config.all_kwargs())
        finally:
            tuner.nargs = None

    return run


def _first(tuner: Any, kwargs: dict[str, Any]) -> Any:
    left = tuner.prune_configs(kwargs) if len(tuner.configs) > 1 else tuner.configs
    if not left:
        raise UsageError(
            f"prune_configs_by of {tuner.base_fn.__name__} leaves none of {len(tuner.configs)} configurations"
        )
    return left[0]


def _allowed(tuner: Any, config: Any, kwargs: dict[str, Any]) -> Any:
    """The configuration, as the kernel's pruning of impossible ones hands it on; which are fast is not asked."""
    if tuner.early_config_prune is None:
        return config
    for one in tuner.early_config_prune(tuner.configs, tuner.nargs, **kwargs):
        if one is config or one.all_kwargs() == config.all_kwargs():
            return one
    raise UnsatisfiedAssumption


def _bench(original: Callable[..., Any]) -> Callable[..., Any]:
    def bench(tuner: Any, *args: Any, **kwargs: Any) -> Any:
        if not _deciding.get():
            return original(tuner, *args, **kwargs)
        raise UnsupportedError(
            f"{type(tuner).__name__}, which measures the configurations of {tuner.base_fn.__name__} in its own way",
            launching_line(),
            f"launch one of them: {tuner.base_fn.__name__}.fn[grid](..., **config.all_kwargs())",
        )

    return bench


_HOOKS = Hooks((Autotuner, "run", _run), (Autotuner, "_bench", _bench))
