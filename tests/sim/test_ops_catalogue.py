"""The catalogue lists exactly what is executed."""

from __future__ import annotations

from fp4guard.sim import lower
from fp4guard.sim.ops import EFFECTS, NO_OPS, RULES
from fp4guard.sim.ops.catalogue import supported_ops


def test_every_operation_once():
    rows = supported_ops()
    names = [row.name for row in rows if "." in row.name and row.what not in ("PTX", "libdevice, OCML")]
    executed = {*RULES, *EFFECTS, *NO_OPS, *lower._CONTROL, "arith.constant"}
    terminators = {"scf.condition", "scf.yield", "cf.br", "cf.cond_br", "tt.return"}
    assert len(names) == len(set(names))
    assert set(names) - terminators == executed - terminators
    assert all(row.what for row in rows)
