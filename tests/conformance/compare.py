"""Runs a row on both sides and compares bits."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import torch

from fp4guard.memory import ALL_ONES, ORDINARY, Memory, Poison
from fp4guard.sim import Simulator
from fp4guard.ttir import parse_arch

from .inputs import WIDTH, is_float, raw, tensor, values_of
from .row import Row


@dataclass
class Outcome:
    """What a comparison counted. `beyond` is how many values differ by more than the row allows."""

    name: str
    values: int = 0
    equal: int = 0
    nans: int = 0
    undefined: int = 0
    differing: int = 0
    beyond: int = 0
    worst: float = 0.0
    example: str = ""
    error: str = ""
    #: Lanes that differ: where, the GPU's bits, the simulator's, the operands'.
    lanes: list[np.ndarray] = field(default_factory=list)

    @property
    def right(self) -> bool:
        """Whether the row holds."""
        return not self.error and self.beyond == 0


def _output(row: Row, inputs: Sequence[np.ndarray], device: str) -> torch.Tensor:
    shape = row.shape if row.shape is not None else inputs[0].shape
    return tensor(np.zeros(shape, f"u{WIDTH[row.out]}"), row.out).to(device)


def on_gpu(row: Row, inputs: Sequence[np.ndarray]) -> np.ndarray:
    """The bits that the GPU gives."""
    out = _output(row, inputs, "cuda")
    row.launch(*(tensor(x, t).to("cuda") for x, t in zip(inputs, row.types)), out)
    torch.cuda.synchronize()
    return raw(out).reshape(-1)


def simulated(row: Row, inputs: Sequence[np.ndarray], arch: str) -> tuple[np.ndarray, np.ndarray]:
    """The bits that the simulator gives, and which of them it calls undefined: they are the poison's."""
    once, noted = _simulated(row, inputs, arch, ALL_ONES)
    if not noted:
        return once, np.zeros(len(once), bool)
    return once, once != _simulated(row, inputs, arch, ORDINARY)[0]


def _simulated(row: Row, inputs: Sequence[np.ndarray], arch: str, poison: Poison) -> tuple[np.ndarray, bool]:
    out = _output(row, inputs, "cpu")
    simulator = Simulator(Memory(poison), parse_arch(arch))
    with simulator.intercepting():
        row.launch(*(tensor(x, t) for x, t in zip(inputs, row.types)), out)
    kinds = {incident.kind for incident in simulator.trace.incidents.values()}
    if kinds - {"undefined-value"}:
        raise AssertionError(f"the simulator finds {', '.join(sorted(kinds))}")
    return raw(out).reshape(-1), bool(kinds)


def compared(
    row: Row, gpu: np.ndarray, sim: np.ndarray, undefined: np.ndarray, inputs: Sequence[np.ndarray] = ()
) -> Outcome:
    """Counts."""
    allowed = row.allowed
    equal = (gpu == sim) & ~undefined
    differs = ~equal & ~undefined
    found = Outcome(row.name, len(gpu), int(equal.sum()), undefined=int(undefined.sum()))
    excused = _excused(row, len(gpu), inputs)
    beyond = differs & ~excused
    if is_float(row.out):
        a, b = values_of(gpu, row.out), values_of(sim, row.out)
        nans = differs & np.isnan(a) & np.isnan(b)
        found.nans = int(nans.sum())
        differs = differs & ~nans
        if allowed.flushed:
            least = _LEAST.get(row.out, 2.0**-126)
            excused = excused | ((np.abs(a) <= least) & (np.abs(b) <= least))
        apart = np.where(differs & ~excused & np.isfinite(a) & np.isfinite(b), _ulps(gpu, sim), 0)
        found.worst = float(apart.max(initial=0))
        with np.errstate(all="ignore"):
            near = (np.abs(a - b) <= allowed.absolute) & (allowed.absolute > 0)
        # An overflow is as far from the greatest number as the next one would be.
        beyond = differs & ~excused & ~near & (_ulps(gpu, sim) > allowed.ulps)
    found.differing = int(differs.sum())
    found.beyond = max(0, int(beyond.sum()) - allowed.lanes)
    shown = np.flatnonzero(beyond if beyond.any() else differs)
    few = shown[:: max(1, len(shown) // 1000)]
    found.lanes = [few, gpu[few], sim[few]]
    if len(shown):
        chosen = shown[:: max(1, len(shown) // 3)][:4]
        found.example = "; ".join(f"[{i}] {int(gpu[i]):#x} not {int(sim[i]):#x}" for i in chosen)
    return found


_LEAST = {"f16": 2.0**-14, "f64": 2.0**-1022}


def _excused(row: Row, count: int, inputs: Sequence[np.ndarray]) -> np.ndarray:
    """Where the row promises nothing, for its operands."""
    excused = np.zeros(count, bool)
    for bits, t in zip(inputs, row.types):
        if not is_float(t) or bits.size != count:
            continue
        magnitude = np.abs(values_of(bits.reshape(-1), t))
        if row.allowed.flushed and t == "f32":
            excused |= (magnitude < 2.0**-126) & (magnitude > 0)
        if row.allowed.within:
            excused |= ~(magnitude <= row.allowed.within)
    return excused


def _ulps(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """How many floats apart, from their bits; the two zeros are one apart."""
    top = np.array(1 << (8 * a.dtype.itemsize - 1), a.dtype)
    first, second = (np.where(x & top, ~x, x | top) for x in (a, b))
    return np.maximum(first, second) - np.minimum(first, second)


def examined(row: Row, arch: str) -> Outcome:
    """One row on both sides."""
    outcome = Outcome(row.name)
    for side in ("GPU", "simulator"):
        try:
            if side == "GPU":
                inputs = row.make()
                gpu = on_gpu(row, inputs)
            else:
                outcome = compared(row, gpu, *simulated(row, inputs, arch), inputs)
                if inputs[0].size == len(gpu):
                    outcome.lanes += [x.reshape(-1)[outcome.lanes[0]] for x in inputs if x.size == len(gpu)]
                if outcome.example and len(inputs) < 4 and inputs[0].size == len(gpu):
                    places = [int(part[part.index("[") + 1 : part.index("]")]) for part in outcome.example.split("; ")]
                    given = [", ".join(f"{int(x.reshape(-1)[i]):#x}" for x in inputs) for i in places]
                    outcome.example += "; of " + " | ".join(given)
        except Exception as error:  # the table says so
            line = (str(error).strip() or "?").splitlines()[-1][:150]
            return Outcome(row.name, error=f"{side}: {type(error).__name__}: {line}")
    return outcome
