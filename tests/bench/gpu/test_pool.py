"""Processes that share work out: what ends one of them ends all, at once, and leaves none behind."""

import multiprocessing
import os
import subprocess
import time
from concurrent.futures.process import BrokenProcessPool
from functools import partial
from pathlib import Path

import pytest

from fp4guard.bench.gpu.pool import at_end, spread


def work(folder: Path, item: int) -> int:
    """The first item is slow, and so is its end; the second fails as soon as the first is at work."""
    began = folder / "began"
    if item == 1:
        while not began.exists():
            time.sleep(0.01)
        raise ValueError("the second item")
    lasting = subprocess.Popen(["sleep", "1"])
    at_end(lasting.wait)
    at_end((folder / "ended").touch)
    began.touch()
    time.sleep(600)
    return item


def test_results_come_and_every_item_once():
    assert sorted(spread(abs, [-3, 1, -2], 2)) == [1, 2, 3]
    assert list(spread(abs, [], 2)) == []


def test_failure_ends_what_runs_and_is_told(tmp_path):
    with pytest.raises(ValueError, match="the second item"):
        list(spread(partial(work, tmp_path), [0, 1], 2))
    assert (tmp_path / "ended").exists(), "the slow end came to its own"
    for process in multiprocessing.active_children():
        process.join(60)
    assert not multiprocessing.active_children()


def test_process_of_the_pool_that_dies_is_noticed():
    with pytest.raises(BrokenProcessPool):
        list(spread(_exits, [1, 2], 2))


def _exits(number):
    os._exit(number)
