"""Finding targets by what a user writes, and planting defects in the included ones."""

from __future__ import annotations

import importlib
import importlib.abc
import importlib.machinery
import importlib.util
import linecache
import sys
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from types import ModuleType
from typing import Any

from .. import included
from ..errors import UsageError
from .defects import Control, Defect, apply
from .target import Target

_INCLUDED = "fp4guard.included"


def load_targets(spec: str) -> list[Target]:
    """The targets that a spec names: `kernels.<family>`, a module, a file, or one of them with `::function`.

    Raises UsageError when there is no such module, file or function, or no target in it.
    """
    place, _, name = spec.partition("::")
    module = _load_module(place)
    found = {
        key: value
        for key, value in vars(module).items()
        if isinstance(value, Target) and value.function.__module__ == module.__name__
    }
    if not name and found:
        return list(found.values())
    if name in found:
        return [found[name]]
    known = ", ".join(found) or "none; decorate a function with @fp4guard.fuzz(...)"
    raise UsageError(f"{spec}: no target{f' called {name!r}' if name else ''} in {place}; its targets: {known}")


def load_target(spec: str) -> Target:
    """The one target that a spec names; UsageError when it names several."""
    found = load_targets(spec)
    if len(found) > 1:
        raise UsageError(f"{spec}: names {len(found)} targets; add one of {', '.join('::' + t.name for t in found)}")
    return found[0]


def included_targets() -> list[Target]:
    """Every target of every included kernel family."""
    return [target for family in included.families() for target in load_targets(f"kernels.{family}")]


def spec_of(target: Target) -> str:
    """A spec that `load_target` finds the target by, from the folder at hand."""
    family = family_of(target)
    if family is not None:
        return f"kernels.{family}::{target.name}"
    file = target.file.resolve()
    shown = file.relative_to(Path.cwd()) if file.is_relative_to(Path.cwd()) else file
    return f"{shown.as_posix()}::{target.name}"


def family_of(target: Target) -> str | None:
    """The included kernel family that a target belongs to; None for a user's own."""
    module = target.function.__module__
    return module.split(".")[2].split("@")[0] if module.startswith(f"{_INCLUDED}.") else None


def defects_of(family: str) -> tuple[Defect, ...]:
    """The planted defects of an included family."""
    return tuple(importlib.import_module(f"{_INCLUDED}.{family}.defects").DEFECTS)


def controls_of(family: str) -> tuple[Control, ...]:
    """The controls of an included family."""
    return tuple(importlib.import_module(f"{_INCLUDED}.{family}.defects").CONTROLS)


def folder_of(family: str) -> Path:
    """Where the family's sources are."""
    assert included.ROOT is not None
    return included.ROOT / family


@lru_cache(maxsize=None)
def with_defect(target: Target, defect: str) -> Target:
    """The same target over a copy of its kernel family in which a defect is planted.

    Raises UsageError for a defect that the family does not have, DefectError when it no longer fits the source.
    """
    family = family_of(target)
    known = {d.id: d for d in defects_of(family)} if family is not None else {}
    if family is None or defect not in known:
        raise UsageError(f"defect={defect!r}: {target.name} has {', '.join(known) or 'none, it is no included kernel'}")
    package = f"{_INCLUDED}.{family}@{defect}"
    folder = folder_of(family)
    sources = apply(known[defect].edits, folder)
    sys.meta_path.insert(0, _EditedModules(package, folder, defect, sources))
    parent = ModuleType(package)
    parent.__path__ = [str(folder)]
    sys.modules[package] = parent
    found: Target = getattr(importlib.import_module(f"{package}.target"), target.name)
    return found


class _EditedModules(importlib.abc.MetaPathFinder, importlib.abc.InspectLoader):
    """Finds the edited modules of one package; the others are loaded from their files as ever."""

    def __init__(self, package: str, folder: Path, defect: str, sources: dict[str, str]) -> None:
        self._files: dict[str, tuple[str, str]] = {}
        for file, source in sources.items():
            # A path that exists nowhere: the compiler reads the edited text, never the file of that name.
            path = str(folder.with_name(f"{folder.name}@{defect}") / file)
            self._files[f"{package}.{Path(file).stem}"] = path, source
            linecache.cache[path] = len(source), None, source.splitlines(keepends=True), path

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        if fullname not in self._files:
            return None
        return importlib.util.spec_from_loader(fullname, self, origin=self._files[fullname][0])

    def get_source(self, fullname: str) -> str:
        return self._files[fullname][1]

    def get_code(self, fullname: str) -> Any:
        path, source = self._files[fullname]
        return compile(source, path, "exec")


def _load_module(place: str) -> ModuleType:
    path = Path(place)
    if place.startswith("kernels.") or place in ("kernels", "kernels/"):
        return _load_family(place.partition(".")[2], place)
    if included.ROOT is not None and path.exists() and path.resolve().is_relative_to(included.ROOT):
        parts = path.resolve().relative_to(included.ROOT).parts
        return _load_family(parts[0] if parts else "", place)
    if place.endswith(".py"):
        return _load_file(path)
    try:
        if (here := str(Path.cwd())) not in sys.path:
            sys.path.insert(0, here)
        return importlib.import_module(place)
    except ModuleNotFoundError as error:
        known = ", ".join(f"kernels.{name}" for name in included.families())
        raise UsageError(
            f"TARGET={place!r}: {error}; allowed are {known}, a module, FILE.py, or FILE.py::FUNCTION"
        ) from None


def _load_family(dotted: str, place: str) -> ModuleType:
    family = dotted.split(".")[0]
    if family not in included.families():
        known = ", ".join(f"kernels.{name}" for name in included.families())
        raise UsageError(f"TARGET={place!r}: there is no such included kernel; allowed are {known}")
    return importlib.import_module(f"{_INCLUDED}.{family}.target")


def _load_file(path: Path) -> ModuleType:
    """Import a file as `python FILE` would: its folder first on the path, its own name for nobody else."""
    if not path.is_file():
        raise UsageError(f"TARGET={str(path)!r}: there is no such file")
    path = path.resolve()
    name = f"_fp4guard_target_{path.stem}_{abs(hash(path)):x}"
    if name in sys.modules:
        return sys.modules[name]
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    if (folder := str(path.parent)) not in sys.path:
        sys.path.insert(0, folder)
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    return module
