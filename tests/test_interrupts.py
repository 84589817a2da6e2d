import contextlib
import gc
import os
import signal
import textwrap
import threading
import time

import pytest

from fp4guard.interrupts import at_once, check, interruptible


def strike():
    os.kill(os.getpid(), signal.SIGINT)


def test_interrupt_is_raised_where_it_strikes():
    with pytest.raises(KeyboardInterrupt), interruptible():
        strike()
    check()


def test_interrupt_in_a_callback_of_the_garbage_collector_is_raised_soon():
    def gc_callback(phase, info):
        if phase == "start":
            gc.callbacks.remove(gc_callback)
            os.kill(os.getpid(), signal.SIGINT)

    gc.collect()  # finalizers of what other tests left behind would swallow it once more
    with pytest.raises(KeyboardInterrupt), interruptible():
        gc.callbacks.append(gc_callback)
        gc.collect()
        time.sleep(30)
    check()


def test_interrupt_that_another_error_replaces_is_raised_at_the_end():
    with pytest.raises(KeyboardInterrupt), interruptible():
        try:
            strike()
        finally:
            raise AssertionError("clean-up that had not begun")
    check()


def test_interrupt_that_is_swallowed_is_raised_by_the_next_check():
    with interruptible():
        with contextlib.suppress(KeyboardInterrupt):
            strike()
        with pytest.raises(KeyboardInterrupt):
            check()
        check()


def test_interrupt_that_is_swallowed_strikes_again():
    class Deaf:
        def __del__(self):
            with contextlib.suppress(KeyboardInterrupt):
                strike()

    with pytest.raises(KeyboardInterrupt), interruptible():
        Deaf()
        time.sleep(30)


def test_errors_pass_through():
    with pytest.raises(AssertionError), interruptible():
        raise AssertionError


@pytest.mark.parametrize("context", [interruptible, at_once])
def test_handler_is_restored(context):
    before = signal.getsignal(signal.SIGINT)
    with context():
        assert signal.getsignal(signal.SIGINT) is not before
    assert signal.getsignal(signal.SIGINT) is before


@pytest.mark.parametrize("context", [interruptible, at_once])
def test_other_threads_are_left_alone(context):
    def run():
        with context():
            done.append(signal.getsignal(signal.SIGINT))

    done = []
    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    assert done == [signal.getsignal(signal.SIGINT)]


def test_interrupt_where_an_exception_would_not_be_heard_ends_the_process(run_python, tmp_path):
    code = """
        import os, signal
        from fp4guard.interrupts import at_once

        class Deaf:
            def __del__(self):
                os.kill(os.getpid(), signal.SIGINT)

        with at_once():
            Deaf()
            print("heard by nobody")
    """
    done = run_python("-c", textwrap.dedent(code), cwd=tmp_path)
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "fp4guard: interrupted\n")
