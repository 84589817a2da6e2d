"""All rows, and the table of how they compare."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import torch

from . import elementwise, whole
from .compare import Outcome, examined, simulated
from .row import Row

ARCH = "sm_90"


@lru_cache(maxsize=1)
def all_rows() -> list[Row]:
    """Every row there is, in the table's order."""
    return [*elementwise.rows(), *whole.rows()]


def compare_row(index: int) -> Outcome:
    """A row on both sides."""
    major, minor = torch.cuda.get_device_capability()
    return examined(all_rows()[index], f"sm_{major}{minor}")


def simulate(index: int) -> Outcome:
    """The simulator's side of a row."""
    torch.set_num_threads(1)
    row = all_rows()[index]
    try:
        got, undefined = simulated(row, row.make(), ARCH)
    except Exception as error:
        return Outcome(row.name, error=f"simulator: {type(error).__name__}: {str(error).strip()[:200]}")
    return Outcome(row.name, len(got), undefined=int(undefined.sum()))


def rendered(header: dict[str, str], rows: Sequence[Row], outcomes: Sequence[Outcome]) -> str:
    """Markdown."""
    total, wrong = sum(o.values for o in outcomes), sum(not o.right for o in outcomes)
    differing = sum(o.differing > 0 for o in outcomes)
    lines = [
        "# The simulator and a real GPU",
        "",
        "Written by `python tests/conformance --write`; see there for what is compared.",
        "",
        *(f"- {name}: {value}" for name, value in header.items()),
        f"- {len(outcomes)} rows, {total} values; {len(outcomes) - differing} rows without a difference, "
        f"{differing - wrong} with differences that they allow and explain, {wrong} wrong",
        "",
        "`NaN` counts results that are NaN on both sides, with other bits; `undefined` what TTIR leaves open and",
        "the simulator poisons, which are not compared; `worst` is the largest distance in ulp where",
        "the row promises something. PTX's conversions to E2M1 and from E8M0 need a GPU newer than Hopper.",
        "",
        "| operation | what | types | values | equal bits | NaN | undefined | differing | worst | allowed "
        "| explanation |",
        "|---|---|---|--:|--:|--:|--:|--:|--:|---|---|",
    ]
    for row, o in zip(rows, outcomes):
        what = row.what.replace("|", "\\|")
        types = f"{', '.join(row.types)} → {row.out}"
        worst = f"{o.worst:.3g}" if o.worst else ""
        note = f"**{o.error or 'WRONG'}**" if not o.right else row.allowed.why if o.differing else ""
        cells = (
            f"`{row.ops}`", what, types, o.values, o.equal, o.nans or "", o.undefined or "", o.differing or "", worst,
            row.allowed, note.replace("|", "\\|"),
        )  # fmt: skip
        lines.append(f"| {' | '.join(str(cell) for cell in cells)} |")
    return "\n".join(lines) + "\n"
