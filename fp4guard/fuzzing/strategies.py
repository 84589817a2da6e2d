"""What arguments are drawn from: `dims()` with its taste for edges, and any strategy of hypothesis."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy

from ..errors import UsageError

_PRIMES = (2, 3, 5, 7, 11, 13, 17, 31, 37, 61, 97, 101, 127, 131, 257)

#: Sizes go up to this many tiles; without a tile to go by, up to so many units.
_TILES, _DEFAULT_MAX = 4, 160

#: A number, or a function of other arguments by their names.
Size = int | Callable[..., int]


@dataclass(frozen=True, slots=True)
class Dims:
    """A dimension's sizes; `dims` makes it. Its tile, its unit and its maximum may depend on arguments drawn before.

    A `min` of None is one unit.
    """

    tile: Size | None
    multiple_of: Size
    min: int | None
    max: Size | None

    @property
    def needs(self) -> tuple[str, ...]:
        """The arguments that the tile, the unit and the maximum are computed from."""
        return tuple({name: None for size in (self.tile, self.multiple_of, self.max) for name in _parameters(size)})

    def resolve(self, drawn: Mapping[str, Any]) -> SearchStrategy[int]:
        """The strategy, given the arguments that `needs` names; UsageError when what they make is no size."""
        tile, most = _value("tile", self.tile, drawn), _value("max", self.max, drawn)
        unit = _value("multiple_of", self.multiple_of, drawn)
        assert unit is not None
        least = unit if self.min is None else -(-self.min // unit) * unit
        if most is None:
            most = max(_TILES * tile if tile else _DEFAULT_MAX * unit, least)
        elif most < least:
            raise UsageError(f"dims: no size is left between {least} and the max that is computed, {most}")
        most = most // unit * unit
        kinds = ([n for n in sorted(sizes) if least <= n <= most] for sizes in _edges(tile, unit))
        anything = st.integers(least // unit, most // unit).map(lambda units: units * unit)
        # Hypothesis shrinks towards the first alternative and towards small numbers: both mean a small size.
        return st.one_of(*(st.sampled_from(sizes) for sizes in kinds if sizes), anything)


def _edges(tile: int | None, unit: int) -> tuple[set[int], ...]:
    """Sizes at which kernels break, by kind, each kind drawn as often: small ones and primes, both sides of half a
    tile, of one and of two, and a few whole tiles.

    With `multiple_of`, the neighbours are one unit away: a multiple of the group that is no multiple of the tile.
    """
    small = {0, unit} | {prime * unit for prime in _PRIMES}  # 0 where the minimum allows it
    if tile is None:
        return (small,)
    wholes = [size // unit * unit for size in (tile // 2, tile, 2 * tile)]
    near = {whole + step for whole in wholes for step in (-unit, 0, unit)}
    return small, near, {count * tile for count in range(1, _TILES + 1) if tile % unit == 0}


def _value(name: str, size: Size | None, drawn: Mapping[str, Any]) -> int | None:
    if not callable(size):
        return size
    needed = {need: drawn[need] for need in _parameters(size)}
    value = size(**needed)
    if value is not None and not (isinstance(value, int) and value >= 1):
        shown = ", ".join(f"{key}={given!r}" for key, given in needed.items())
        raise UsageError(f"dims: the {name} that is computed from {shown} is {value!r}; allowed are integers from 1")
    return value


def _parameters(size: Size | None) -> tuple[str, ...]:
    return tuple(inspect.signature(size).parameters) if callable(size) else ()


def dims(*, tile: Size | None = None, multiple_of: Size = 1, min: int | None = None, max: Size | None = None) -> Dims:
    """Sizes of a dimension, edges first: 1, primes, tile - 1, tile, tile + 1, 2 * tile - 1, ...

    `tile`: the kernel's block size along this dimension, or a function of other arguments by their names
    (`tile=lambda config: CONFIGS[config].block_k`). `multiple_of`: only its multiples are drawn. `min` (default: one
    unit) and `max` (default: four tiles, or 160 units without a tile) are inclusive. `multiple_of` and `max` may be
    functions too.

    Raises UsageError when a number is below 1 (`min`: below 0) or no size is left.
    """
    if not callable(multiple_of) and not (isinstance(multiple_of, int) and multiple_of >= 1):
        raise UsageError(
            f"dims(multiple_of={multiple_of!r}): allowed are integers of 1 or more, and functions of arguments"
        )
    for name, value in (("tile", tile), ("max", max)):
        if value is not None and not callable(value) and not (isinstance(value, int) and value >= 1):
            raise UsageError(f"dims({name}={value!r}): allowed are integers of 1 or more, and functions of arguments")
    if min is not None and not (isinstance(min, int) and min >= 0):
        raise UsageError(f"dims(min={min!r}): allowed are integers of 0 or more")
    if isinstance(max, int) and isinstance(multiple_of, int):
        least = multiple_of if min is None else min
        if max // multiple_of * multiple_of < least:
            raise UsageError(f"dims(min={least}, max={max}, multiple_of={multiple_of}): no size is left")
    return Dims(tile, multiple_of, min, max)


def draw_arguments(
    draw: Callable[[SearchStrategy[Any]], Any], recipes: Mapping[str, Dims | SearchStrategy[Any]]
) -> dict[str, Any]:
    """Draw every argument, those that others need first; the result keeps the order of `recipes`."""
    drawn: dict[str, Any] = {}
    for name in drawing_order(recipes):
        recipe = recipes[name]
        drawn[name] = draw(recipe.resolve(drawn) if isinstance(recipe, Dims) else recipe)
    return {name: drawn[name] for name in recipes}


def drawing_order(recipes: Mapping[str, Any]) -> Sequence[str]:
    """Names so that each comes after those its sizes need; UsageError for an unknown name or a circle."""
    order: list[str] = []
    waiting = dict.fromkeys(recipes)
    while waiting:
        ready = [n for n in waiting if all(need in order for need in _needs(recipes[n]))]
        if not ready:
            name = next(iter(waiting))
            raise UsageError(
                f"dims({name}): its sizes need {', '.join(_needs(recipes[name]))}; allowed are the names of other "
                f"arguments ({', '.join(recipes)}) that do not need it in turn"
            )
        for name in ready:
            order.append(name)
            del waiting[name]
    return order


def _needs(recipe: Any) -> tuple[str, ...]:
    return recipe.needs if isinstance(recipe, Dims) else ()
