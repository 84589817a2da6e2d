"""Work spread over processes, which share the visible GPUs out among themselves."""

from __future__ import annotations

import atexit
import multiprocessing
import os
import signal
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from contextlib import suppress
from functools import cache
from typing import Any, TypeVar

import torch

from ...fuzzing.setting import Setting
from ...isolation import IsolatedExaminer
from ...isolation.pinning import pin

Item = TypeVar("Item")
Result = TypeVar("Result")


#: Seconds for a process to end when it is told to.
_PATIENCE = 20.0


def spread(work: Callable[[Item], Result], items: Sequence[Item], jobs: int) -> Iterator[Result]:
    """The results of a module's function, as they come. What it raises is raised here, and ends the rest.

    Raises BrokenProcessPool when a process has died.
    """
    context = multiprocessing.get_context("spawn")  # what has started CUDA cannot be forked
    places = context.SimpleQueue()
    jobs = max(min(jobs, len(items)), 1)
    for place in range(jobs):
        places.put(place)
    others = set(context.active_children())
    with ProcessPoolExecutor(jobs, context, _begin, (places,)) as pool:
        try:
            for done in as_completed([pool.submit(work, item) for item in items]):
                yield done.result()
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            processes = set(context.active_children()) - others
            for process in processes:
                process.terminate()
            for process in processes:
                process.join(_PATIENCE)
                process.kill()
            raise


@cache
def examiner_of(setting: Setting) -> IsolatedExaminer:
    """An examiner for all the work that this process does; its server ends when the process does.

    Where many processes start a GPU at a time, that takes longer than a share of the work.
    """
    return IsolatedExaminer(setting)


def at_end(stop: Callable[[], None]) -> None:
    """Call it when this process of a pool is ended, or ends."""
    atexit.register(stop)
    _AT_END.append(stop)


_AT_END: list[Callable[[], None]] = []


def _end(number: int, frame: object) -> None:
    """Not by an exception: whatever runs may catch it, and go on. And once: the pool, too, ends what is left of it."""
    signal.signal(number, signal.SIG_IGN)
    for stop in _AT_END:
        with suppress(Exception):
            stop()
    os._exit(128 + number)


def _begin(places: Any) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # an interrupt is for the caller to act upon
    signal.signal(signal.SIGTERM, _end)
    pin(places.get(), "cuda")
    # Together the processes keep every CPU busy, and those that they start do.
    torch.set_num_threads(1)
    os.environ["OMP_NUM_THREADS"] = "1"
    os.dup2(2, 1)  # what targets print is no part of the caller's answer
