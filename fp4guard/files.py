"""Writing files whole or not at all."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path


def obstacle(path: Path) -> str | None:
    """Why a file cannot be written there, or None: asked before hours of work whose result it is to hold.

    Nothing is made or changed.
    """
    if path.is_dir():
        return "it is a folder"
    folder = next(above for above in path.absolute().parents if above.exists())
    if not folder.is_dir():
        return f"{folder} is no folder"
    return None if os.access(folder, os.W_OK | os.X_OK) else f"{folder} may not be written to"


def write_atomically(path: Path, text: str) -> None:
    """Write beside the file and rename; whoever reads `path` sees the old text or the new one. Makes the folder."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    temporary = Path(name)
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(text)
        umask = os.umask(0)
        os.umask(umask)
        temporary.chmod(0o666 & ~umask)  # mkstemp makes it private
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
