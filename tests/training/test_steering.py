"""Signals become requests, cells get their turn, control.json is obeyed or reported."""

import json
import os
import signal
import subprocess
import sys
import threading
import time

import numpy as np
import pytest
import torch

from helpers.core import distributed
from helpers.core.errors import TrainingError
from helpers.training import steering
from helpers.training.steering import StopAfter


@pytest.fixture
def box(tmp_path):
    return steering.ControlFile(tmp_path / "control.json")


@pytest.mark.parametrize(
    ("text", "commands"),
    [
        ('{"lr": 1e-4}', {"lr": 1e-4}),
        ('{"lr": 1}', {"lr": 1.0}),
        ('{"stop": true}', {"stop": StopAfter.STEP}),
        ('{"stop": "epoch", "lr": 0.5}', {"stop": StopAfter.EPOCH, "lr": 0.5}),
        ('{"stop": false}', {}),
        ("{}", {}),
    ],
)
def test_commands_are_read_once_and_their_file_is_gone(box, text, commands):
    box.path.write_text(text)
    assert box.read() == (commands, "")
    assert not box.path.exists() and box.read() == ({}, "")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "Expecting value"),
        ('{"lr": 1e-4', "Expecting"),
        ("[1]", "not an object"),
        ('{"lr": -1}', "above 0"),
        ('{"lr": NaN}', "above 0"),
        ('{"stop": 1}', 'stop is true, false or "epoch"'),
        ('{"stop": null}', 'stop is true, false or "epoch"'),
        ('{"rate": 1}', "unknown key 'rate'"),
        ("[" * 10000, "recursion"),
        ("\x80abc", "utf-8"),
    ],
)
def test_a_malformed_file_is_reported_once_and_left(box, text, said):
    box.path.write_bytes(text.encode("latin-1"))
    commands, report = box.read()
    assert commands == {} and said in report and "control.json is ignored" in report and "write for example" in report
    assert box.read() == ({}, "") and box.path.exists()
    box.path.write_text('{"lr": 0.25, "stop": false}')  # its author mends it
    assert box.read() == ({"lr": 0.25}, "")


def test_a_number_that_is_no_float_is_reported_in_short(box):
    box.path.write_text('{"lr": 1' + "0" * 400 + "}")
    commands, report = box.read()
    assert commands == {} and "at most 10000" in report and len(report) < 400


def test_an_interrupt_in_a_cell_s_turn_comes_after_it_and_leaves_the_gate_free():
    """A KeyboardInterrupt inside it could keep the lock for ever."""
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


def test_a_sigterm_in_a_cell_s_turn_waits_for_its_end():
    code = """if True:
        import os, signal, threading, time
        from helpers.training import steering
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
            print("turn over", flush=True)
    """
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=60)
    assert (done.stdout, done.returncode) == ("turn over\nsaved [1]\n", -signal.SIGTERM), done.stderr


def test_a_second_interrupt_raises_and_the_handlers_come_back():
    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    with pytest.raises(KeyboardInterrupt), steering.Signals() as signals:
        os.kill(os.getpid(), signal.SIGINT)
        assert signals.asked
        os.kill(os.getpid(), signal.SIGINT)
    with steering.Signals(ignore_repeat=True) as signals:  # torchrun sends Ctrl-C on
        os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGINT)
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == before


def test_a_cell_gets_its_turn_before_the_next_step():
    """The training takes the gate again at once; still a cell waits for one step at most."""
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
            assert steps[0] == here  # no step is made meanwhile
    over.set()
    thread.join()
    assert max(waited) <= 1 and gate.waiting == 0


def test_a_turn_within_a_turn():
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
    for rate in (1, np.float32(1), np.int64(1), torch.tensor(1.0)):
        assert type(steering.check_rate(rate)) is float
        json.dumps(steering.check_rate(rate))


# ---- what a training asks after each step ----


@pytest.fixture
def lines():
    return []


@pytest.fixture
def steer(tmp_path, lines):
    return steering.Steering(tmp_path / "control.json", lines.append)


def test_when_to_stop(steer):
    assert not steer.should_stop(epoch_done=True)
    steer.stop_after = StopAfter.EPOCH
    assert steer.should_stop(epoch_done=True) and not steer.should_stop(epoch_done=False)
    steer.stop_after = StopAfter.STEP
    assert steer.should_stop(epoch_done=False)


def test_an_interrupt_asks_for_a_stop_while_signals_are_caught(steer):
    with steer.catching_signals():
        assert not steer.should_stop(epoch_done=False)
        os.kill(os.getpid(), signal.SIGINT)
        assert steer.should_stop(epoch_done=False)
    assert not steer.should_stop(epoch_done=False)


def test_the_control_file_is_obeyed_only_when_it_is_looked_for(steer, lines):
    steer.control_file.path.write_text('{"lr": 0.5, "stop": "epoch"}')
    assert steer.poll(look=False, save=True) == (0.0, True) and lines == []
    assert steer.poll(look=True) == (0.5, False) and lines == ["control.json: lr 0.5, stop epoch"]
    assert steer.stop_after == StopAfter.EPOCH
    assert steer.poll(look=True) == (0.0, False)
    assert steer.stop_after == StopAfter.EPOCH  # no file takes nothing back


def test_several_ranks_do_what_any_of_them_was_asked(steer, monkeypatch):
    """This one reads no file: another one's rate, stop and save reach it by the agreement."""
    monkeypatch.setattr(distributed, "world_size", lambda: 2)
    monkeypatch.setattr(distributed, "rank", lambda: 1)
    others = [0.25, StopAfter.EPOCH, True]
    monkeypatch.setattr(distributed, "all_reduce_max", lambda *mine: [float(max(pair)) for pair in zip(mine, others)])
    steer.control_file.path.write_text('{"lr": 0.5}')
    assert steer.poll(look=True) == (0.25, True) and steer.stop_after == StopAfter.EPOCH
    with steer.catching_signals():
        os.kill(os.getpid(), signal.SIGINT)
        assert not steer.should_stop(epoch_done=False)  # not before the others know
        steer.poll(look=False)
        assert steer.should_stop(epoch_done=False)
