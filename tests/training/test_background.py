"""A training's thread: its lines, its error, its watchers."""

import os
import signal
import threading
import time

import pytest

from helpers.core import distributed
from helpers.training.background import Background


@pytest.fixture
def background():
    return Background()


def test_lines_of_the_thread_are_kept_and_those_of_a_cell_printed(background, capsys):
    def work():
        background.log("from the thread")

    events = []
    background.watchers.append(events.append)
    background.log("from a cell")
    background.start(work, "work")
    background.wait(lambda: None)
    assert background.thread is None and background.error is None
    background.wait(lambda: None)  # prints nothing twice
    assert capsys.readouterr().out == "from a cell\nfrom the thread\n" and background.lines == ["from the thread"]
    assert events == ["log", "log", "end"]
    background.forget()
    assert background.lines == []


def test_an_error_of_the_thread_is_a_line_and_raised_once(background):
    background.start(lambda: 1 / 0, "work")
    background.join()
    assert background.lines == ["ZeroDivisionError: division by zero"]
    with pytest.raises(ZeroDivisionError):
        background.wait(lambda: None)
    background.wait(lambda: None)


def test_an_interrupt_of_wait_asks_the_thread_to_stop(background):
    before, over = signal.getsignal(signal.SIGINT), threading.Event()

    def work():
        while signal.getsignal(signal.SIGINT) is before:  # until wait() takes signals
            time.sleep(0.001)
        os.kill(os.getpid(), signal.SIGINT)
        assert over.wait(20)

    background.start(work, "work")
    background.wait(over.set)
    assert over.is_set() and background.error is None and background.thread is None
    assert signal.getsignal(signal.SIGINT) is before


def test_joining_oneself_does_not_wait_for_ever(background):
    background.start(background.join, "work")
    background.join(20)
    assert background.thread is None and background.error is None


def test_watchers_that_fail_are_left_behind_and_the_others_go_on(background, capsys):
    events = []
    background.watchers += [lambda event: 1 / 0, lambda event: {}["x"], events.append]
    background.notify("step")
    background.notify("epoch")
    assert [event for event in events if event != "log"] == ["step", "epoch"] and len(background.watchers) == 1
    printed = capsys.readouterr().out
    assert "(ZeroDivisionError: division by zero); training goes on" in printed and "(KeyError: 'x')" in printed


def test_rank_0_alone_speaks(background, monkeypatch, capsys):
    monkeypatch.setattr(distributed, "rank", lambda: 1)
    background.log("from another rank")
    assert capsys.readouterr().out == ""
