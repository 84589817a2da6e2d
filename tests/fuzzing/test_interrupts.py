import gc
import os
import signal
import threading

import pytest

from fp4guard.fuzzing.interrupts import check, interruptible


def strike():
    os.kill(os.getpid(), signal.SIGINT)


def test_interrupt_is_raised_where_it_strikes():
    with pytest.raises(KeyboardInterrupt), interruptible():
        strike()
    check()


def test_interrupt_in_a_callback_of_the_garbage_collector_is_raised_later():
    def gc_callback(phase, info):
        if phase == "start":
            gc.callbacks.remove(gc_callback)
            os.kill(os.getpid(), signal.SIGINT)

    with interruptible():
        gc.callbacks.append(gc_callback)
        gc.collect()
        with pytest.raises(KeyboardInterrupt):
            check()
        check()


def test_interrupt_that_another_error_replaces_is_raised_at_the_end():
    with pytest.raises(KeyboardInterrupt), interruptible():
        try:
            strike()
        finally:
            raise AssertionError("clean-up that had not begun")
    check()


def test_errors_pass_through():
    with pytest.raises(AssertionError), interruptible():
        raise AssertionError


def test_handler_is_restored():
    before = signal.getsignal(signal.SIGINT)
    with interruptible():
        assert signal.getsignal(signal.SIGINT) is not before
    assert signal.getsignal(signal.SIGINT) is before


def test_other_threads_are_left_alone():
    def run():
        with interruptible():
            done.append(signal.getsignal(signal.SIGINT))

    done = []
    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    assert done == [signal.getsignal(signal.SIGINT)]
