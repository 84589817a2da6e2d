import threading
from contextvars import ContextVar

from fp4guard.sim.hooks import Hooks


class Kernel:
    def run(self, value):
        return value


def doubling(original):
    return lambda kernel, value: 2 * original(kernel, value)


def test_methods_are_put_back_by_the_last_to_leave():
    hooks = Hooks((Kernel, "run", doubling))
    first, second = hooks.installed(), hooks.installed()
    with first:
        second.__enter__()
        assert Kernel().run(3) == 6, "replaced once, however many ask for it"
    assert Kernel().run(3) == 6
    second.__exit__(None, None, None)
    assert Kernel().run(3) == 3


def test_a_value_is_told_to_the_thread_that_gives_it():
    told = ContextVar("told", default=0)
    hooks = Hooks((Kernel, "run", lambda original: lambda kernel, value: original(kernel, value) + told.get()))
    seen = []
    with hooks.telling(told, 10):
        with hooks.telling(told, 20):
            seen.append(Kernel().run(1))
        seen.append(Kernel().run(1))
        other = threading.Thread(target=lambda: seen.append(Kernel().run(1)))
        other.start()
        other.join()
    assert [*seen, Kernel().run(1), told.get()] == [21, 11, 1, 1, 0]
