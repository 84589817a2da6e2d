"""What a client hears of a process. How processes start and end is tested with the client."""

import os
import socket
import struct
from multiprocessing.connection import Connection

import pytest

from fp4guard.isolation.processes import Silence, Worker


@pytest.fixture
def worker(tmp_path):
    """This process, as its own worker; and the other end of its connection."""
    ours, theirs = socket.socketpair()
    with Connection(ours.detach()) as requests, theirs:
        yield Worker(os.getpid(), requests, tmp_path / "output", tmp_path / "journal"), theirs


def test_what_is_sent_is_owed_and_received(worker):
    one, theirs = worker
    other = Connection(os.dup(theirs.fileno()))
    assert one.receive(0.01) is Silence.LATE
    one.send("question")
    assert one.owes and other.recv() == "question"
    other.send("answer")
    assert one.receive(60) == "answer"
    other.close()


def test_half_a_message_is_none(worker):
    one, theirs = worker
    theirs.sendall(struct.pack("!i", 100) + b"half")
    theirs.close()
    assert one.receive(60) is Silence.DEAD


def test_nobody_at_the_other_end_is_heard_in_what_is_received(worker):
    one, theirs = worker
    theirs.close()
    one.send("question")
    assert one.receive(60) is Silence.DEAD


def test_what_is_printed_is_passed_on_once(worker, capsys):
    one, _ = worker
    one.output.write_text("some\nlines\n")
    assert one.last_words(6) == "lines\n"
    one.pass_on()
    one.pass_on()
    assert capsys.readouterr().out == "some\nlines\n"
