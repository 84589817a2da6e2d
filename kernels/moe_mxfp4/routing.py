"""Routings to try: which experts the tokens get, and which of them this device has."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

#: How tokens choose: evenly, mostly the first few, all the same ones (the last expert first), with ids of no expert.
ROUTINGS = ("even", "skewed", "one", "outside")

#: Which global experts are local: all of them, no map given; a run of them, first or last; any; none.
PLACEMENTS = ("all", "first", "last", "scattered", "elsewhere")


def routed(routing: str, tokens: int, top_k: int, experts: int, seed: int) -> NDArray[np.int64]:
    """Ids int64 (tokens, top_k) of `experts` global experts: a token's are different, unless there are too few."""
    rng = np.random.default_rng([seed, 1])
    if routing == "one":
        return np.broadcast_to((experts - 1 - np.arange(top_k)) % experts, (tokens, top_k)).copy()
    preference = np.zeros(experts) if routing != "skewed" else -3.0 * np.arange(experts)
    # The largest of noisy preferences: sampling without replacement.
    order = np.argsort(-(preference + rng.gumbel(size=(tokens, experts))), axis=1)
    ids = order[:, np.arange(top_k) % experts]
    if routing == "outside":
        wrong = rng.choice([-1, -(2**31), experts, experts + 1, 2**31 - 1], ids.shape)
        ids = np.where(rng.random(ids.shape) < 0.2, wrong, ids)
    return ids


def placed(placement: str, experts: int, seed: int) -> NDArray[np.int64] | None:
    """A map of global experts to `experts` local ones, -1 elsewhere; None where all are local."""
    rng = np.random.default_rng([seed, 2])
    if placement == "all":
        return None
    map_ = np.full(2 * experts + 1, -1)
    if placement == "elsewhere":
        return map_
    starts = {"first": 0, "last": len(map_) - experts}
    chosen = (
        rng.permutation(len(map_))[:experts] if placement == "scattered" else np.arange(experts) + starts[placement]
    )
    map_[chosen] = np.arange(experts)
    return map_
