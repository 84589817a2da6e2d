"""A target's launches alone: none is left out, and the oracle is not asked."""

import pytest

from fp4guard import oracle
from fp4guard.bench.gpu.cost_cases import CASES
from fp4guard.bench.gpu.launches import launches_of, unanswered
from fp4guard.fuzzing.case import Case
from fp4guard.fuzzing.loading import load_target
from fp4guard.fuzzing.memory import CaseMemory
from fp4guard.memory import ORDINARY, GuardAllocations
from fp4guard.sim import Simulator
from fp4guard.ttir import parse_arch

#: Sizes that a test has the time for.
SMALL = {"m": 3, "n": 40, "k": 64, "n_units": 1, "k_units": 1, "max_model_len": 40, "batch": 2}


@pytest.mark.parametrize(("spec", "arguments"), CASES, ids=[spec.split("::")[1] for spec, _ in CASES])
def test_target_launches_as_often_as_with_its_answers(spec, arguments):
    if "cast_transpose" in spec:
        arguments = arguments | {"m": 32, "n": 64}
    else:
        arguments = {name: SMALL.get(name, value) for name, value in arguments.items()}
    arguments = {name: arguments[name] for name in load_target(spec).recipes}
    counts = []
    for target, answers in ((load_target(spec), True), (launches_of(load_target(spec)), False)):
        memory = CaseMemory(Case(arguments), ORDINARY, {})
        simulator = Simulator(memory, parse_arch("sm_90"))
        with GuardAllocations(memory), simulator.intercepting():
            if answers:
                target.function(memory, **arguments)
            else:
                with unanswered():
                    target.function(memory, **arguments)
        counts.append(simulator.launches)
        assert bool(memory.expectations) == answers
    assert counts[0] == counts[1] > 0


def test_oracle_answers_again_afterwards():
    before = oracle.gemm
    with unanswered():
        assert oracle.gemm is not before
    assert oracle.gemm is before
