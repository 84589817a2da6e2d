"""The included kernels, importable as `fp4guard.included.<family>`.

They live in the project's `kernels` folder, a name that a package on PyPI also has; under this name they load whichever
is installed. A wheel carries the folder inside the package, a checkout has it beside the package.
"""

from __future__ import annotations

from pathlib import Path

_HERE = Path(__file__).resolve().parent

ROOT = next((p for p in (_HERE / "_included", _HERE.parent / "kernels") if (p / "__init__.py").exists()), None)

# A module with a search path is a package: its submodules are found there.
__path__ = [str(ROOT)] if ROOT is not None else []


def families() -> list[str]:
    """Names of the included kernel families, sorted."""
    return sorted(p.parent.name for p in ROOT.glob("*/target.py")) if ROOT is not None else []
