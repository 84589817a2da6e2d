"""Targets: fuzzable functions with the strategies of their arguments."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import update_wrapper
from pathlib import Path
from typing import Any

from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy

from ..errors import UsageError
from ..oracle import REGIMES
from ..ttir import Arch, parse_arch
from .case import LAYOUT_SEEDS, Case
from .strategies import Dims, draw_arguments, drawing_order

#: What is compiled for where nothing else is said.
DEFAULT_ARCH = "sm_90"

#: Names that a case or `examine` uses itself.
_RESERVED = ("mem", "target", "arch", "defect", "seed", "regime", "layout")


@dataclass(frozen=True, slots=True)
class Few:
    """`count` of the values of each list, others in each `turn`: after as many turns as that takes, all were there."""

    count: int
    turn: int

    def of(self, values: Sequence[Any]) -> list[Any]:
        """The turn's values, in the order of the list."""
        start = self.turn * self.count
        places = sorted({(start + i) % len(values) for i in range(self.count)})
        return [values[place] for place in places]


@dataclass(eq=False)  # not frozen: pytest keeps the marks of a test on the test
class Target:
    """A function `(mem, **arguments)` that runs the code under test once, and says what it expects of it.

    `recipes` are the strategies of its arguments, in the function's order; `choices` the values of those that are drawn
    from a list. `arch` is the one architecture that the code under test is written for; None where it runs on any.
    """

    function: Callable[..., None]
    recipes: dict[str, Dims | SearchStrategy[Any]]
    choices: dict[str, tuple[Any, ...]] = field(default_factory=dict)
    arch: Arch | None = None

    def __post_init__(self) -> None:
        update_wrapper(self, self.function)  # it looks like the function to whoever asks: a mark of pytest, help()

    @property
    def name(self) -> str:
        return self.function.__name__

    @property
    def file(self) -> Path:
        return Path(inspect.unwrap(self.function).__code__.co_filename)

    def cases(self, few: Few | None = None) -> SearchStrategy[Case]:
        """Strategy of the target's cases, or of those that have few different configurations."""
        recipes, layouts = dict(self.recipes), st.integers(0, LAYOUT_SEEDS - 1)
        if few is not None:
            recipes |= {name: st.sampled_from(few.of(values)) for name, values in self.choices.items()}
            layouts = st.sampled_from(few.of(range(LAYOUT_SEEDS)))

        @st.composite
        def draw_case(draw: Any) -> Case:
            arguments = draw_arguments(draw, recipes)
            regime = draw(st.sampled_from(list(REGIMES)))
            layout = draw(layouts)
            return Case(arguments, draw(st.integers(0, 2**16 - 1)), regime, layout)

        # Hypothesis spends five of six examples on copies of the one before in which one drawn value replaces
        # another of its sort: 300 examples then try 31 to 35 of 42 configurations. It leaves the elements of a
        # unique collection alone, and so tries all 42.
        return st.lists(draw_case(), min_size=1, max_size=1, unique=True).map(lambda cases: cases[0])

    def arch_for(self, wanted: Arch | None) -> Arch:
        """What to compile for: the target's own architecture, else the one wanted, else the default.

        Raises UsageError when another one is wanted than the target's own.
        """
        if self.arch is not None and wanted is not None and wanted != self.arch:
            raise UsageError(f"arch={wanted.name!r}: {self.name} is written for {self.arch.name}, and allows no other")
        return self.arch or wanted or parse_arch(DEFAULT_ARCH)

    def check_arguments(self, arguments: Mapping[str, Any]) -> None:
        """Raise UsageError unless exactly the target's arguments are given, and those drawn from a list are of it."""
        if set(arguments) != set(self.recipes):
            given, wanted = ", ".join(arguments) or "none", ", ".join(self.recipes) or "none"
            raise UsageError(f"arguments of {self.name}: given are {given}; needed are {wanted}")
        for name, allowed in self.choices.items():
            if arguments[name] not in allowed:
                raise UsageError(f"{name}={arguments[name]!r}: allowed are {', '.join(map(repr, allowed))}")

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Call the function itself, with a memory of one's own."""
        return self.function(*args, **kwargs)


def fuzz(
    *functions: Any, arch: str | None = None, **recipes: Dims | SearchStrategy[Any] | Sequence[Any]
) -> Callable[[Callable[..., None]], Target]:
    """Make a target of a function `(mem, **arguments)`.

    Each argument is drawn from `dims(...)`, from a strategy of hypothesis, or from a sequence of values. The function
    is called several times per case, with the same inputs and different poison; it must run the code under test
    once, and depend on nothing but its arguments. The same object is a pytest test, if its name is that of a test.
    `arch="gfx950"` is for code that is written for one architecture, as a kernel in Gluon is.

    Raises UsageError when arguments and signature do not fit together, for what is no plain function, and for an
    unknown architecture.
    """
    if functions:
        raise UsageError("@fuzz takes strategies by the names of arguments: write @fuzz(), or @fuzz(m=dims(), ...)")
    if arch is not None and not isinstance(arch, str):
        raise UsageError(f"@fuzz(arch=...): the names {', '.join(_RESERVED)} are taken; arch names an architecture")
    own_arch = None if arch is None else parse_arch(arch)

    def decorate(function: Callable[..., None]) -> Target:
        wanted = _parameters(function)
        if set(wanted) != set(recipes):
            raise UsageError(
                f"@fuzz({', '.join(recipes)}) def {function.__name__}({', '.join(['mem', *wanted])}): a strategy is "
                "needed for every parameter but mem, and for no other"
            )
        for name in wanted:
            if name in _RESERVED:
                raise UsageError(f"@fuzz({name}=...): the names {', '.join(_RESERVED)} are taken")
        choices = {n: tuple(v) for n, v in recipes.items() if isinstance(v, Sequence) and not isinstance(v, str)}
        target = Target(function, {name: _recipe(name, recipes[name]) for name in wanted}, choices, own_arch)
        drawing_order(target.recipes)
        return target

    return decorate


def _parameters(function: Any) -> list[str]:
    """The names of a function's parameters behind `mem`."""
    if isinstance(function, Target):
        raise UsageError(f"@fuzz on {function.name}: it is a target already; give one @fuzz(...) all the strategies")
    plain = inspect.unwrap(function)  # below a static method, or a decorator that uses functools.wraps
    if not inspect.isfunction(plain) or plain.__name__ == "<lambda>":
        raise UsageError(f"@fuzz on {function!r}: allowed are functions made with def")
    name = function.__name__
    if inspect.iscoroutinefunction(plain) or inspect.isgeneratorfunction(plain) or inspect.isasyncgenfunction(plain):
        raise UsageError(f"@fuzz def {name}: allowed are plain functions; calling any other runs nothing")
    parameters = inspect.signature(function).parameters.values()
    names = [_STARS.get(parameter.kind, "") + parameter.name for parameter in parameters]
    if names[:1] != ["mem"]:
        raise UsageError(f"@fuzz def {name}({', '.join(names)}): the first parameter must be mem")
    for parameter in list(parameters)[1:]:
        if parameter.kind not in (parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY):
            raise UsageError(f"@fuzz def {name}({', '.join(names)}): {parameter} cannot be given by name")
    return names[1:]


_STARS: dict[Any, str] = {inspect.Parameter.VAR_POSITIONAL: "*", inspect.Parameter.VAR_KEYWORD: "**"}


def _recipe(name: str, value: Any) -> Dims | SearchStrategy[Any]:
    if isinstance(value, (Dims, SearchStrategy)):
        return value
    if isinstance(value, Sequence) and not isinstance(value, str) and value:
        for one in value:
            Case({name: one})  # UsageError unless a reproducer can print it
        return st.sampled_from(list(value))
    raise UsageError(f"@fuzz({name}={value!r}): allowed are dims(...), a strategy of hypothesis, or a list of values")
