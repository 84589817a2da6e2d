"""What is included, as plain data for `fp4guard list`."""

from __future__ import annotations

from typing import Any

from .. import included
from .loading import controls_of, defects_of, load_targets, spec_of


def included_kernels() -> list[dict[str, Any]]:
    """Every included target with its arguments, its named configurations, and its family's defects and controls."""
    rows = []
    for family in included.families():
        for target in load_targets(f"kernels.{family}"):
            rows.append(
                {
                    "target": spec_of(target),
                    "summary": (target.function.__doc__ or "").strip().split("\n")[0],
                    "arguments": list(target.recipes),
                    "configurations": list(target.choices.get("config", ())),
                    "defects": [{"id": d.id, "kinds": list(d.kinds), "provenance": d.provenance, "summary": d.summary}
                                for d in defects_of(family)],
                    "controls": [{"id": c.id, "summary": c.summary} for c in controls_of(family)],
                }
            )  # fmt: skip
    return rows
