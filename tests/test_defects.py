"""A part of `fp4guard defects` for every change: of each kernel the first defect of each kind that is expected first,
and 40 cases of its controls. All of it is nightly's.
"""

import pytest

from fp4guard import included
from fp4guard.fuzzing.loading import controls_of, defects_of
from fp4guard.fuzzing.selftest import Selftest

FAMILIES = included.families()
FIRST = [
    (family, next(defect.id for defect in defects_of(family) if defect.kinds[0] == kind))
    for family in FAMILIES
    for kind in dict.fromkeys(defect.kinds[0] for defect in defects_of(family))
]


@pytest.mark.parametrize(("family", "defect"), FIRST)
def test_defect_is_found(family, defect):
    (row,) = Selftest(family, (defect,), max_cases=2000, seed=0, arch=None).run()
    assert row.found, row


@pytest.mark.parametrize("family", FAMILIES)
def test_controls_are_clean(family):
    controls = tuple(control.id for control in controls_of(family))
    assert controls
    for row in Selftest(family, controls, max_cases=40, seed=0, arch=None).run():
        assert row.clean, row
