"""Who stands behind SEVERAL: by a search through everything that was noted."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from fp4guard.sim import accessors
from fp4guard.sim.accessors import SEVERAL, Accessors

COUNT, PROGRAMS = 6, 4

#: An access: elements, each by one program, in whatever order.
ACCESSES = st.lists(
    st.lists(st.tuples(st.integers(0, COUNT - 1), st.integers(1, PROGRAMS)), min_size=1, max_size=5), max_size=8
)


@given(ACCESSES, st.integers(1, 20))
def test_members_are_all_who_came_since_one_was_alone(accesses, fresh):
    found = Accessors(COUNT, remembering=True)
    known = {element: {} for element in range(COUNT)}
    most, accessors._FRESH = accessors._FRESH, fresh
    try:
        for when, lanes in enumerate(accesses, 1):
            index, me = (np.array(column, np.int32) for column in zip(*lanes, strict=True))
            shared = found.beside(index, me)
            found.note(index, me, when, shared)
            for element in {element for element, _ in lanes}:
                mine = [program for one, program in lanes if one == element]
                if not any(set(known[element]) - {program} for program in mine):
                    known[element] = {}
                known[element] |= dict.fromkeys(mine, when)
    finally:
        accessors._FRESH = most
    if found.history is None:
        assert not accesses
        return
    lane, program, when = found.history.members(np.arange(COUNT))
    assert sorted(zip(lane, program, when, strict=True)) == sorted(
        (element, who, time) for element, seen in known.items() for who, time in seen.items()
    )
    assert (np.diff(lane) >= 0).all(), "those of one element in a row"
    for element, seen in known.items():
        who = found.who[element]
        assert who == (0 if not seen else next(iter(seen)) if len(seen) == 1 else SEVERAL)


def test_elements_that_were_not_touched_have_nobody():
    found = Accessors(100, remembering=False)
    assert not found.knows(slice(0, 100)) and found.beside(np.array([3]), np.array([1])) is None
    found.note(slice(10, 20), np.full(10, 2, np.int32), 1, None)
    assert found.knows(slice(19, 30)) and not found.knows(slice(20, 30)) and not found.knows(np.array([3, 9]))
    assert found.beside(np.array([5, 12, 13]), np.array([1, 1, 2])).tolist() == [False, True, False]
    assert found.history is None


def noted(*accesses):
    """Accessors of elements (a list) by one program each, one access after the other."""
    found = Accessors(COUNT, remembering=True)
    for when, (elements, program) in enumerate(accesses, 1):
        index, me = np.array(elements), np.full(len(elements), program, np.int32)
        found.note(index, me, when, found.beside(index, me))
    return found


def test_who_has_been_there_is_known():
    history = noted([[0, 1], 1], [[1, 2], 2]).history
    assert history.knows(np.array([0, 0, 1, 1, 2, 5]), np.array([1, 2, 1, 2, 1, 1])).tolist() == [
        True, False, True, True, False, False,
    ]  # fmt: skip


def test_what_takes_too_much_memory_is_forgotten(monkeypatch):
    monkeypatch.setattr(accessors, "_MOST", 3)
    found = noted([[0, 1], 1], [[1, 2], 2])
    lane, _, _ = found.history.members(np.arange(COUNT))
    assert found.history.full and not len(lane) and not found.history.knows(np.array([0]), np.array([1])).any()
    found.note(np.array([0]), np.array([3], np.int32), 3, np.array([True]))
    assert not len(found.history.members(np.arange(COUNT))[0])
