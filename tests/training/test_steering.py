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
def lines():
    return []


@pytest.fixture
def steer(tmp_path, lines):
    return steering.Steering(tmp_path / "control.json", lines.append)


def interrupt():
    os.kill(os.getpid(), signal.SIGINT)


# ---- control.json ----


@pytest.mark.parametrize(
    ("text", "rate", "stop"),
    [
        ('{"lr": 1e-4}', 1e-4, StopAfter.NOTHING),
        ('{"stop": true}', 0.0, StopAfter.STEP),
        ('{"stop": "epoch", "lr": 1}', 1.0, StopAfter.EPOCH),
        ('{"stop": false}', 0.0, StopAfter.NOTHING),
    ],
)
def test_the_control_file_is_followed_once_when_it_is_looked_for(steer, lines, text, rate, stop):
    steer.control.write_text(text)
    assert steer.poll(look=False, save=True) == (0.0, True) and lines == []
    assert steer.poll(look=True) == (rate, False) and lines == [f"control.json: {text}"]
    assert not steer.control.exists() and steer.poll(look=True) == (0.0, False) and len(lines) == 1
    assert steer.stop_after == stop  # that there is no file takes nothing back


@pytest.mark.parametrize(
    ("text", "reported"),
    [
        ('{"lr": 1e-4', "Expecting"),
        ("[1]", "not an object"),
        ('{"rate": 1}', "not an object in braces with the keys"),
        ('{"lr": -1}', "above 0"),
        ('{"lr": 1' + "0" * 400 + "}", "at most 10000"),
        ('{"stop": "now"}', 'stop is true, false or "epoch"'),
        ("[" * 10000, "recursion"),
        ("\x80abc", "utf-8"),
    ],
)
def test_a_malformed_file_is_reported_once_and_left(steer, lines, text, reported):
    steer.control.write_bytes(text.encode("latin-1"))
    for _ in range(2):
        assert steer.poll(look=True) == (0.0, False) and steer.control.exists()
    (line,) = lines
    assert reported in line and "control.json is ignored" in line and "write for example" in line and len(line) < 400
    steer.control.write_text('{"lr": 0.25, "stop": false}')  # its author mends it
    assert steer.poll(look=True) == (0.25, False) and not steer.control.exists()


@pytest.mark.parametrize("rate", [0, -1, float("nan"), float("inf"), "1e-3", None, True, 1j])
def test_what_is_no_rate(rate):
    with pytest.raises(TrainingError, match="a learning rate is a number above 0"):
        steering.check_rate(rate)


@pytest.mark.parametrize("rate", [1, np.float32(1), np.int64(1), torch.tensor(1.0)])
def test_rates_become_plain_floats(rate):
    assert type(steering.check_rate(rate)) is float and json.dumps(steering.check_rate(rate)) == "1.0"


# ---- stops ----


def test_when_to_stop(steer):
    assert not steer.should_stop(epoch_done=True)
    steer.stop_after = StopAfter.EPOCH
    assert steer.should_stop(epoch_done=True) and not steer.should_stop(epoch_done=False)
    steer.stop_after = StopAfter.STEP
    assert steer.should_stop(epoch_done=False)
    steer.forget()
    with steering.noted_signals() as steer.signals:
        assert not steer.should_stop(epoch_done=False)
        interrupt()
        assert steer.should_stop(epoch_done=False)


def test_a_second_interrupt_raises_and_the_handlers_come_back(monkeypatch):
    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    with pytest.raises(KeyboardInterrupt), steering.noted_signals() as signals:
        interrupt()
        assert signals == [signal.SIGINT]
        interrupt()
    monkeypatch.setattr(distributed, "world_size", lambda: 2)
    with steering.noted_signals() as signals:  # torchrun sends Ctrl-C on
        interrupt()
        interrupt()
    assert len(signals) == 2
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == before


def test_several_ranks_do_what_any_of_them_was_asked(steer, monkeypatch):
    """This one reads no file: another one's rate, stop and save reach it by the agreement."""
    monkeypatch.setattr(distributed, "world_size", lambda: 2)
    monkeypatch.setattr(distributed, "rank", lambda: 1)
    others = [0.25, StopAfter.EPOCH, True]
    monkeypatch.setattr(distributed, "all_reduce_max", lambda *mine: [float(max(pair)) for pair in zip(mine, others)])
    steer.control.write_text('{"lr": 0.5}')
    assert steer.poll(look=True) == (0.25, True) and steer.stop_after == StopAfter.EPOCH
    with steering.noted_signals() as steer.signals:
        interrupt()
        assert not steer.should_stop(epoch_done=False)  # not before the others know
        steer.poll(look=False)
        assert steer.should_stop(epoch_done=False)


# ---- turns ----


def test_an_interrupt_in_a_cell_s_turn_comes_after_it_and_leaves_the_gate_free():
    """A KeyboardInterrupt inside it could keep the lock for ever."""
    gate, seen = steering.Gate(), []
    with steering.handled_by(signal.default_int_handler), pytest.raises(KeyboardInterrupt), gate.exclusive():
        interrupt()
        seen.append("still there")
    assert seen == ["still there"] and not gate.waiting
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


def test_a_cell_gets_its_turn_before_the_next_step():
    """The training takes the gate again at once; still a cell waits for one step at most, and may ask twice."""
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
        with gate.exclusive(), gate.exclusive():
            waited.append(steps[0] - asked)
            here = steps[0]
            time.sleep(0.005)
            assert steps[0] == here  # no step is made meanwhile
    over.set()
    thread.join()
    assert max(waited) <= 1 and not gate.waiting
    with gate.step(), gate.exclusive():  # nor does the training wait for itself
        assert not gate.waiting
