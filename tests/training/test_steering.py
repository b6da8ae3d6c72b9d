"""Signals become requests, cells get their turn, control.json is obeyed or named."""

import json
import os
import signal
import subprocess
import sys
import threading
import time

import pytest

from helpers.core.errors import TrainingError
from helpers.training import steering


@pytest.fixture
def box(tmp_path):
    return steering.ControlFile(tmp_path / "control.json")


@pytest.mark.parametrize(
    ("text", "orders"),
    [
        ('{"lr": 1e-4}', {"lr": 1e-4}),
        ('{"lr": 1}', {"lr": 1.0}),
        ('{"stop": true}', {"stop": "step"}),
        ('{"stop": "epoch", "lr": 0.5}', {"stop": "epoch", "lr": 0.5}),
        ('{"stop": false}', {}),
        ("{}", {}),
    ],
)
def test_an_order_is_read_once_and_its_file_is_gone(box, text, orders):
    box.path.write_text(text)
    assert box.read() == (orders, "")
    assert not box.path.exists() and box.read() == ({}, "")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "Expecting value"),
        ('{"lr": 1e-4', "Expecting"),
        ("[1]", "not an object"),
        ('{"lr": -1}', "above 0"),
        ('{"lr": "1e-4"}', "above 0"),
        ('{"lr": true}', "above 0"),
        ('{"lr": NaN}', "above 0"),
        ('{"lr": 1e999}', "above 0"),
        ('{"stop": 1}', 'stop is true, false or "epoch"'),
        ('{"stop": null}', 'stop is true, false or "epoch"'),
        ('{"rate": 1}', "unknown key 'rate'"),
        ("[" * 10000, "recursion"),
        ("\x80abc", "utf-8"),
    ],
)
def test_a_malformed_file_is_reported_once_and_left(box, text, said):
    box.path.write_bytes(text.encode("latin-1"))
    orders, report = box.read()
    assert orders == {} and said in report and "control.json is ignored" in report and "write for example" in report
    assert box.read() == ({}, "") and box.path.exists()
    box.path.write_text('{"lr": 0.25, "stop": false}')  # its author mends it
    assert box.read() == ({"lr": 0.25}, "")


def test_a_folder_of_that_name_is_reported_once(box):
    box.path.mkdir()
    orders, report = box.read()
    assert orders == {} and "is ignored" in report and box.read() == ({}, "")


def test_a_number_that_is_no_float_is_malformed(box):
    box.path.write_text('{"lr": 1' + "0" * 400 + "}")
    orders, report = box.read()
    assert orders == {} and "at most 10000" in report and len(report) < 400


def test_an_interrupt_during_a_visit_comes_after_it_and_leaves_the_gate_free():
    """A KeyboardInterrupt inside would keep the lock for ever, and a training waiting for it."""
    gate, seen = steering.Gate(), []
    before = signal.getsignal(signal.SIGINT)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with pytest.raises(KeyboardInterrupt), gate.exclusive():
            os.kill(os.getpid(), signal.SIGINT)
            seen.append("still there")
    finally:
        signal.signal(signal.SIGINT, before)
    assert seen == ["still there"] and gate.waiting == 0
    others = []
    thread = threading.Thread(target=lambda: others.append(gate.lock.acquire(timeout=5)))
    thread.start()
    thread.join()
    assert others == [True]


def test_a_sigterm_during_a_visit_waits_for_its_end():
    code = """if True:
        import os, signal, threading, time
        from helpers import steering
        gate = steering.Gate()
        class Training:
            def pause(self, timeout):
                done = []
                def last():
                    with gate.step():
                        done.append(1)
                thread = threading.Thread(target=last)
                thread.start()
                thread.join(5)
                print("saved", done, flush=True)
        training = Training()
        steering.SHUTDOWN.register(training)
        with gate.exclusive():
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(0.1)
            print("visited", flush=True)
    """
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=60)
    assert (done.stdout, done.returncode) == ("visited\nsaved [1]\n", -signal.SIGTERM), done.stderr


def test_a_second_interrupt_raises_and_the_handlers_come_back():
    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    with pytest.raises(KeyboardInterrupt), steering.Signals() as signals:
        os.kill(os.getpid(), signal.SIGINT)
        assert signals.asked
        os.kill(os.getpid(), signal.SIGINT)
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == before


def test_a_sigterm_is_a_request_first_and_then_ends_the_process():
    code = """if True:
        import os, signal
        from helpers.steering import Signals
        with Signals() as signals:
            os.kill(os.getpid(), signal.SIGTERM)
            os.kill(os.getpid(), signal.SIGTERM)
            print("asked", signals.asked, flush=True)
        print("never")
    """
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.stdout, done.returncode) == ("asked True\n", -signal.SIGTERM)


def test_outside_the_main_thread_no_handler_is_touched():
    before, seen = signal.getsignal(signal.SIGINT), []

    def work():
        with steering.Signals():
            seen.append(signal.getsignal(signal.SIGINT))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert seen == [before]


def test_a_visitor_gets_in_before_the_next_step():
    """A training that takes the gate again at once lets every visitor in after at most one step more."""
    gate, steps, over = steering.Gate(), [0], threading.Event()

    def train():
        while not over.is_set():
            with gate.step():
                steps[0] += 1
                time.sleep(0.002)

    thread = threading.Thread(target=train)
    thread.start()
    waited = []
    for _ in range(20):
        asked = steps[0]
        with gate.exclusive():
            waited.append(steps[0] - asked)
            here = steps[0]
            time.sleep(0.005)
            assert steps[0] == here  # and none is made while it is there
    over.set()
    thread.join()
    assert max(waited) <= 1 and gate.waiting == 0


def test_a_visit_within_a_visit():
    gate = steering.Gate()
    with gate.exclusive(), gate.exclusive():
        pass
    with gate.step(), gate.exclusive():
        pass


@pytest.mark.parametrize("rate", [0, -1, float("nan"), float("inf"), "1e-3", None, True, 1j])
def test_what_is_no_rate(rate):
    with pytest.raises(TrainingError, match="a learning rate is a number above 0"):
        steering.check_rate(rate)


def test_rates_become_plain_floats():
    import numpy as np
    import torch

    for rate in (1, np.float32(1), np.int64(1), torch.tensor(1.0)):
        assert type(steering.check_rate(rate)) is float
        json.dumps(steering.check_rate(rate))
