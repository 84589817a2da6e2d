"""What a run left in what its target answers for, in few bytes: to be held against what another device leaves there."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from .. import oracle
from .record import Checked, Record


@dataclass(frozen=True, slots=True)
class Answered:
    """A tensor with expectations: how many elements are certified, each with one right answer, how many are not, with a
    bound or, where float32 may overflow on the way, nothing; and hashes of their bits.

    Bits that the expectation leaves open do not count, and one NaN is as good as another.
    """

    certified: int
    uncertified: int
    certified_bits: str
    uncertified_bits: str


def answers_of(record: Record) -> dict[str, Answered]:
    """Of each expectation of a run, by its name."""
    return {name: _answered(record.checked[name], expected) for name, expected in record.expectations.items()}


def _answered(checked: Checked, expected: Any) -> Answered:
    bits = np.ravel(checked.bits if checked.left_open is None else checked.bits & ~checked.left_open)
    if checked.dtype.is_floating_point:
        values = torch.from_numpy(np.ravel(checked.bits).view(np.uint8)).view(checked.dtype)
        bits = np.where(values.isnan().numpy(), np.array(-1).astype(bits.dtype), bits)
    certified = np.ravel(expected.certified) if isinstance(expected, oracle.Expected) else np.ones(len(bits), np.bool_)
    return Answered(int(certified.sum()), int((~certified).sum()), _hash(bits[certified]), _hash(bits[~certified]))


def _hash(bits: np.ndarray[Any, Any]) -> str:
    return hashlib.sha256(bits.tobytes()).hexdigest()[:16]
