"""Wrong kernels, each with a correct twin: what is wrong is found, as what it is and where it is; the twin is silent.

A file of kernels per theme, a row a pair: its name; a function `(mem, variant)` that runs the wrong or the right
variant (a kernel, mostly) on memory; the two variants; the kind of the finding; the tensor that it names; and the kinds
of what follows from it, if anything does. The line to blame ends in `# wrong: <name>`; where no line says so, the
finding blames none. A file may say for which ARCH it is compiled.
"""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import pytest

import fp4guard as fg

HERE = Path(__file__).parent


def load(theme):
    spec = importlib.util.spec_from_file_location(f"selftest_{theme}", HERE / f"{theme}.py")
    module = sys.modules[spec.name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


THEMES = ("bounds", "indices", "addresses", "launches", "descriptors", "races", "ordering", "undefined", "results",
          "gluon_amd", "gluon_logits", "gluon_nvidia")  # fmt: skip
MODULES = {theme: load(theme) for theme in THEMES}
PAIRS = [(theme, *row[:6], row[6:]) for theme in THEMES for row in MODULES[theme].PAIRS]
every_pair = pytest.mark.parametrize(
    ("theme", "name", "host", "wrong", "right", "kind", "tensor", "then"), PAIRS, ids=[pair[1] for pair in PAIRS]
)


def examine(theme, host, variant):
    @fg.fuzz()
    def target(mem):
        host(mem, variant)

    return fg.examine(target, arch=getattr(MODULES[theme], "ARCH", "sm_90")).findings


def blamed_line(theme, name):
    lines = (HERE / f"{theme}.py").read_text().splitlines()
    found = [number for number, line in enumerate(lines, 1) if line.endswith(f"# wrong: {name}")]
    assert len(found) <= 1
    return found[0] if found else None


@every_pair
def test_the_wrong_one_is_found(theme, name, host, wrong, right, kind, tensor, then):
    first, *more = examine(theme, host, wrong)
    assert (first.kind, first.line, first.tensor) == (kind, blamed_line(theme, name), tensor)
    assert tuple(finding.kind for finding in more) == then


@every_pair
def test_the_right_one_is_silent(theme, name, host, wrong, right, kind, tensor, then):
    assert examine(theme, host, right) == ()


def test_every_kind_is_there():
    assert set(fg.KINDS) == {pair[5] for pair in PAIRS}
    assert len(PAIRS) == len({pair[1] for pair in PAIRS}) >= 40
