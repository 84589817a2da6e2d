"""Finding targets by what a user writes, and planting defects in the included ones."""

from __future__ import annotations

import importlib
import importlib.abc
import importlib.machinery
import importlib.util
import linecache
import sys
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

import torch

from .. import included
from ..errors import UsageError
from ..memory import ALL_ONES, Memory
from ..sim import Simulator
from ..sim.host import Emulation
from ..ttir import Arch, parse_arch
from .defects import Control, Defect, apply
from .target import DEFAULT_ARCH, Target

_INCLUDED = "fp4guard.included"


def load_targets(spec: str, arch: Arch | None = None) -> list[Target]:
    """The targets that a spec names: `kernels.<family>`, a module, a file, or one of them with `::function`.

    A module that asks for a GPU while it is imported finds one of `arch` (None: of the default), if there is no other.

    Raises UsageError when there is no such module, file or function, no target in it, or when importing it fails.
    """
    place, _, name = spec.partition("::")
    if place == "kernels" and not name:
        return included_targets()
    module = _load_module(place, arch or parse_arch(DEFAULT_ARCH))
    everything = _targets_in(module)
    found = {key: value for key, value in everything.items() if value.function.__module__ == module.__name__}
    if not name and found:
        return list(dict.fromkeys(found.values()))
    if name in everything:
        return [everything[name]]
    # A reproducer names the function, which may be bound to another name: test_it = fuzz(...)(check_it).
    if named := [target for target in found.values() if name and target.name == name]:
        return named[:1]
    known = ", ".join(found) or (
        "none; decorate a function with @fp4guard.fuzz(...), or run what knows nothing of fp4guard: fp4guard run FILE"
    )
    raise UsageError(f"{spec}: no target{f' called {name!r}' if name else ''} in {place}; its targets: {known}")


def _targets_in(module: ModuleType) -> dict[str, Target]:
    """The targets of a module and of its classes, by name."""
    scopes = [
        value for value in vars(module).values() if isinstance(value, type) and value.__module__ == module.__name__
    ]
    return {
        name: value for scope in (*scopes, module) for name, value in vars(scope).items() if isinstance(value, Target)
    }


def load_target(spec: str, arch: Arch | None = None) -> Target:
    """The one target that a spec names, or of a kernel family the one of its name; UsageError when it names several."""
    found = load_targets(spec, arch)
    if len(found) > 1:
        named = [target for target in found if target.name == family_of(target)]
        if named:
            return named[0]
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
    """The included kernel family that a target belongs to, however it was imported; None for a user's own."""
    file = target.file.resolve()
    if included.ROOT is None or not file.is_relative_to(included.ROOT):
        return None
    return file.relative_to(included.ROOT).parts[0].split("@")[0]


def defects_of(family: str) -> tuple[Defect, ...]:
    """The planted defects of an included family."""
    return tuple(importlib.import_module(f"{_INCLUDED}.{family}.defects").DEFECTS)


def families_with(defect: str) -> list[str]:
    """The included families that have a planted defect of that id."""
    return [family for family in included.families() if defect in {one.id for one in defects_of(family)}]


def controls_of(family: str) -> tuple[Control, ...]:
    """The controls of an included family."""
    return tuple(importlib.import_module(f"{_INCLUDED}.{family}.defects").CONTROLS)


def folder_of(family: str) -> Path:
    """Where the family's sources are."""
    assert included.ROOT is not None
    return included.ROOT / family


@cache
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


def _load_module(place: str, arch: Arch) -> ModuleType:
    path = Path(place)
    if place.startswith("kernels.") and place.split(".")[1] in included.families():
        return _load_family(place.split(".")[1])
    if included.ROOT is not None and path.exists() and path.resolve().is_relative_to(included.ROOT):
        parts = path.resolve().relative_to(included.ROOT).parts
        if parts and parts[0] in included.families():
            return _load_family(parts[0])
    if place.endswith(".py"):
        with _gpu(arch):
            return _load_file(path)
    known = ", ".join(f"kernels.{name}" for name in included.families())
    allowed = f"allowed are {known}, a module, FILE.py, or FILE.py::FUNCTION"
    if not all(part.isidentifier() for part in place.split(".")):
        raise UsageError(f"TARGET={place!r}: {allowed}")
    _look_first_in(Path.cwd())
    try:
        with _gpu(arch):
            return importlib.import_module(place)
    except ModuleNotFoundError as error:
        if error.name is not None and f"{place}.".startswith(f"{error.name}."):
            raise UsageError(f"TARGET={place!r}: {error}; {allowed}") from None
        raise _import_failed(place, error) from error
    except (Exception, SystemExit) as error:
        raise _import_failed(place, error) from error


@contextmanager
def _gpu(arch: Arch) -> Iterator[None]:
    """While active, there is a GPU: the machine's, or an emulated one, whose launches nobody judges."""
    if torch.cuda.is_available():
        yield
        return
    with Emulation(arch).active(), Simulator(Memory(ALL_ONES), arch).intercepting():
        yield


def _load_family(family: str) -> ModuleType:
    return importlib.import_module(f"{_INCLUDED}.{family}.target")


def _import_failed(place: str, error: BaseException) -> UsageError:
    """What a module raised while it was imported, with the line that was reached, in a syntax error's way or not."""
    what = "".join(traceback.format_exception_only(error)).strip()
    frames = [f for f in traceback.extract_tb(error.__traceback__) if not f.filename.startswith("<frozen")]
    inner = [f for f in frames if not Path(f.filename).is_relative_to(Path(__file__).parent)]
    where = f"\n  at {inner[-1].filename}:{inner[-1].lineno}   {inner[-1].line or ''}".rstrip() if inner else ""
    return UsageError(f"TARGET={place!r}: importing it fails: {what}{where}")


def _load_file(path: Path) -> ModuleType:
    """Import a file as `python FILE` would: its folder first on the path, its own name for nobody else.

    A file of a package becomes that package's module, so that its relative imports work.
    """
    if not path.is_file():
        raise UsageError(f"TARGET={str(path)!r}: there is no such file")
    path = path.resolve()
    if (module := _load_from_package(path)) is not None:
        return module
    name = f"_fp4guard_target_{path.stem}_{abs(hash(path)):x}"
    if name in sys.modules:
        return sys.modules[name]
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    _look_first_in(path.parent)
    try:
        spec.loader.exec_module(module)
    except BaseException as error:
        del sys.modules[name]
        if not isinstance(error, (Exception, SystemExit)):
            raise
        raise _import_failed(str(path), error) from error
    return module


def _load_from_package(path: Path) -> ModuleType | None:
    """The module of a file in a package; None for any other file, and where its package's name is another one's."""
    root = path.parent
    while (root / "__init__.py").is_file() and root.name.isidentifier():
        root = root.parent
    if root == path.parent or not path.stem.isidentifier():
        return None
    package = path.relative_to(root).parts[0]
    _look_first_in(root)
    try:
        loaded = importlib.import_module(package)
        if loaded.__file__ is None or Path(loaded.__file__).resolve() != root / package / "__init__.py":
            return None
        return importlib.import_module(".".join(path.relative_to(root).with_suffix("").parts))
    except (Exception, SystemExit) as error:
        raise _import_failed(str(path), error) from error


def _look_first_in(folder: Path) -> None:
    if str(folder) not in sys.path:
        sys.path.insert(0, str(folder))
        importlib.invalidate_caches()
