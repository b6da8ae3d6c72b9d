"""A training that is killed or interrupted at any moment goes on, to the bit, as one that was not.

KILLS is the number of kills, 3 unless it is set; 20 are for a release.
"""

import hashlib
import os
import random
import signal
import statistics
import subprocess
import sys
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import kill_child
import pytest
import tiny
import torch

from helpers import preprocess, trainer
from helpers.core import env
from helpers.training import checkpoint

pytestmark = pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="Windows has no SIGKILL, and no SIGINT by kill")

KILLS = int(os.environ.get("KILLS", "3"))
EPOCHS = 10  # of a run that is killed
MARKS = {"save": "save begin", "validate": "validate begin", "anywhere": "step"}  # the lines after which a kill comes
INTERRUPTS, LAPS = 50, 24  # SIGINTs in all; epochs of a run that they hit
PLACES = {"step": (trainer, "train_step"), "validate": (trainer.Trainer, "validate"), "save": (checkpoint, "save")}


# --- what two states are compared by ---------------------------------------------------------------------------------


def leaves(value: object, path: str = "") -> Iterator[tuple[str, object]]:
    """(path, value) of every tensor and plain value in nested dicts and lists, in one fixed order."""
    if isinstance(value, dict):
        for key in sorted(value, key=str):
            yield from leaves(value[key], f"{path}/{key}")
    elif isinstance(value, list | tuple):
        for i, item in enumerate(value):
            yield from leaves(item, f"{path}/{i}")
    else:
        yield path, value


def content(leaf: object) -> bytes:
    """Every bit of a tensor or plain value: NaN equals NaN here, as in a history, and 0 is not -0."""
    if isinstance(leaf, torch.Tensor):
        return f"{leaf.dtype} {tuple(leaf.shape)} ".encode() + leaf.detach().contiguous().numpy().tobytes()
    return repr(leaf).encode()


def differences(one: object, other: object) -> list[str]:
    """The paths at which two states differ, but for how fast the machine was."""
    mine, theirs = ({path: content(leaf) for path, leaf in leaves(state)} for state in (one, other))
    differ = (path for path in mine | theirs if mine.get(path) != theirs.get(path))
    return sorted(path for path in differ if not path.endswith("/images_per_s"))


def digest(*parts: object) -> str:
    """SHA-256 over all leaves with their paths."""
    found = hashlib.sha256()
    for path, leaf in leaves(parts):
        found.update(f"{path} ".encode() + content(leaf))
    return found.hexdigest()


def load(folder: Path, name: str = "last.pt") -> dict:
    """A file of a run, read as anyone may read it."""
    return torch.load(folder / name, weights_only=True)


# --- kills -----------------------------------------------------------------------------------------------------------


@dataclass
class Aim:
    """A kill: `delay` seconds after the `count`-th line of its kind."""

    kind: str
    count: int
    delay: float

    def met(self, line: str) -> bool:
        """Whether this line is the one."""
        self.count -= line.startswith(MARKS[self.kind])
        return self.count == 0


@dataclass
class Run:
    """One run of kill_child.py, through all the children that work on it, and what they said."""

    name: str
    home: Path
    step: int = 0  # the last that was heard of
    saved: int = 0  # the one in the last checkpoint that was written to the end
    place: str = "training"  # save | validate | training | done: where the child is, or died
    heard: float = 0.0  # when the last line came
    lengths: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))  # seconds, for the delays
    story: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        return "; ".join([f"run {self.name}, now {self.place} at step {self.step}", *self.story])

    def live(self, aim: Aim | None = None) -> int:
        """One child, killed at `aim` if it comes to that; its exit status, when all it said has been heard."""
        known = {self.saved, self.step} if self.place == "save" else {self.saved}  # the last save may have succeeded
        with open(self.home / f"{self.name}.log", "ab") as log, self.start(log) as child:
            try:
                for line in (raw.decode().strip() for raw in child.stdout):
                    self.hear(line, known)
                    if aim and self.step > 0 and aim.met(line):
                        time.sleep(aim.delay)
                        child.kill()
                        aim = None  # what is still in the pipe is read to its end
                return child.wait(timeout=60)
            finally:
                child.kill()  # only if something above failed: no child outlives the test

    def start(self, log) -> subprocess.Popen:
        """The child, its lines in a pipe and everything else in the run's log."""
        command = [sys.executable, kill_child.__file__, self.home, self.name, str(EPOCHS)]
        paths = {"PYTHONPATH": f"{env.REPO}{os.pathsep}{env.REPO / 'tests'}", "OMP_NUM_THREADS": "1"}
        return subprocess.Popen(command, env=os.environ | paths, stdout=subprocess.PIPE, stderr=log)

    def hear(self, line: str, known: set[int]) -> None:
        """Follow the child: it starts at a step in `known`, leaves none out, and is in one place at a time."""
        now, (word, _, rest) = time.perf_counter(), line.partition(" ")
        if word == "start":
            assert int(rest) in known, f"started at {rest}, but the checkpoint holds {known}: {self}"
            self.step = self.saved = int(rest)
            self.place = "training"
        elif word == "step":
            assert int(rest) == self.step + 1, f"{line}: {self}"
            self.step += 1
            self.lengths["anywhere"].append(now - self.heard)
        elif rest == "begin":
            self.place = word
        elif rest == "end":
            self.lengths[word].append(now - self.heard)
            self.saved, self.place = self.step if word == "save" else self.saved, "training"
        else:
            assert line == "done", f"{line!r} is no line of kill_child.py: {self}"
            self.place = line
        self.heard = now

    def ended(self, code: int) -> str:
        """A message on an exit status that was not wanted, with the end of what the child printed."""
        return f"exit status {code}: {self}\n{(self.home / f'{self.name}.log').read_text()[-2000:]}"


def lacking(hits: Counter) -> dict[str, int]:
    """How many kills of each kind are still wanted: of 20 five in a save and three in validation, of 3 one and one."""
    short = {"save": max(1, KILLS // 4) - hits["save"], "validate": max(1, KILLS * 3 // 20) - hits["validate"]}
    short = {kind: max(0, count) for kind, count in short.items()}
    return short | {"anywhere": max(0, KILLS - hits.total() - sum(short.values()))}


def take_aim(draw: random.Random, short: dict[str, int], lengths: dict[str, list[float]]) -> Aim:
    """A random moment of a kind that is wanted; a delay is drawn from as long as such a thing takes."""
    kind = draw.choices(list(short), list(short.values()))[0]
    most, share = (40, 2.0) if kind == "anywhere" else (3, 1.0)
    return Aim(kind, draw.randint(1, most), draw.uniform(0, share * statistics.median(lengths[kind])))


def kill_once(run: Run, aim: Aim, number: int, last: int) -> str | None:
    """One child with one kill; the place that was hit, None if the run was over before or had no step left."""
    code = run.live(aim)
    if code == 0 and run.place == "done":
        return None
    run.story.append(f"kill {number}: {run.place} at step {run.step}, aimed at {aim.kind}, saved was {run.saved}")
    assert code == -signal.SIGKILL, run.ended(code)
    assert 0 < run.step <= last, run
    return run.place if run.step < last else None


def check_finished(run: Run, calm: Run) -> None:
    """The end of a run that was killed is that of the one that was not."""
    assert run.step == calm.step, run
    for name in ("last.pt", "best.pt"):
        mine, theirs = (load(env.run_dir("helen", each.name), name) for each in (run, calm))
        assert not differences(mine, theirs), f"{name} differs in {differences(mine, theirs)}: {run}"
    assert not list(env.run_dir("helen", run.name).glob("*.tmp")), f"half files are left: {run}"


def finish(run: Run) -> None:
    """Let the run come to its end undisturbed."""
    code = run.live()
    assert code == 0 and run.place == "done", run.ended(code)


def test_a_killed_training_goes_on_to_the_bit(tmp_path):
    """SIGKILL from outside, in saves, in validation and anywhere; each run that was hit is finished and compared."""
    tiny.prepare(**kill_child.DATA)
    preprocess.open_arrays("helen", kill_child.SIZE)  # so that no child is at work on the data
    calm, draw, hits, run = Run("calm", tmp_path), random.Random(0), Counter(), None
    finish(calm)
    whole = load(env.run_dir("helen", calm.name))
    assert calm.step == whole["step"] == EPOCHS * kill_child.STEPS
    assert whole["epoch"] == len(whole["history"]) == EPOCHS
    assert whole["model"].keys() == whole["average"].keys() and whole["optimizer"]["state"]
    for number in range(1, 3 * KILLS + 10):  # so many tries at most
        if not any(lacking(hits).values()):
            break
        run = run or Run(f"killed-{number}", tmp_path)
        place = kill_once(run, take_aim(draw, lacking(hits), calm.lengths), number, calm.step)
        hits.update([place] if place else [])
        if run.place == "done":
            check_finished(run, calm)
            run = None
    if run:
        finish(run)
        check_finished(run, calm)
    assert not any(lacking(hits).values()), f"too many kills missed, these hit: {dict(hits)}"
    print(f"{hits.total()} kills: {dict(hits)}")


# --- interrupts ------------------------------------------------------------------------------------------------------


class Watch:
    """Knows where the trainer is, takes the time of it, and sends SIGINT from a thread when the aim says so."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch):
        self.place, self.aim, self.timer = "between", None, None
        self.lengths: dict[str, list[float]] = defaultdict(list)
        self.struck: list[tuple[str, int]] = []  # place and step at which SIGINT was sent
        self.one: trainer.Trainer | None = None  # whose step is noted
        for place, (owner, name) in PLACES.items():
            monkeypatch.setattr(owner, name, self.watched(getattr(owner, name), place))

    def watched(self, function: Callable, place: str) -> Callable:
        """The function, known to be at work while it is; where the aim is at it, its `count`-th call arms."""

        def wrapped(*args, **kwargs):
            began, self.place = time.perf_counter(), place
            if self.aim and self.aim.kind == place:
                self.aim.count -= 1
                if self.aim.count == 0:
                    self.arm()
            try:
                return function(*args, **kwargs)
            finally:
                self.place = "between"
                self.lengths[place].append(time.perf_counter() - began)

        return wrapped

    def arm(self) -> None:
        """Start the timer that strikes."""
        self.timer = threading.Timer(self.aim.delay, self.strike)
        self.timer.start()

    def strike(self) -> None:
        """Ctrl-C, from another thread: the main one is wherever it is."""
        place = self.place
        os.kill(os.getpid(), signal.SIGINT)  # the step is read after it: never one that was over before
        self.struck.append((place, self.one.step))

    def fit(self, one: trainer.Trainer, epochs: int, aim: Aim | None = None) -> tuple[str, int] | None:
        """One fit with at most one interrupt; place and step of that, None if none was sent."""
        self.one, self.aim, self.timer, self.struck = one, aim, None, []
        try:
            if aim and aim.kind == "anywhere":
                self.arm()
            one.fit(epochs)
        finally:
            if self.timer:
                self.timer.cancel()
                self.timer.join()
        return self.struck[0] if self.struck else None


@pytest.fixture
def one_thread():
    """Steps this small are slower on two threads, and many times so on a machine that has other work."""
    count = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(count)


@pytest.fixture
def strays():
    """SIGINTs that came when no fit was there to take them; a shell's background job would ignore them all."""
    seen = []

    def stray(number, frame):
        seen.append(number)

    old = signal.signal(signal.SIGINT, stray)
    yield seen
    signal.signal(signal.SIGINT, old)


def digest_of(one: trainer.Trainer) -> str:
    """Of all that training changes step by step."""
    average = one.average.state_dict() if one.average else None
    return digest(one.model.state_dict(), average, one.optimizer.state_dict())


def make(run: str) -> trainer.Trainer:
    """A trainer of a tiny run, all of whose moments are a few milliseconds long."""
    return trainer.Trainer(tiny.settings(epochs=LAPS), preprocess.open_arrays("helen", 32), run, "cpu")


def calm_digests(watch: Watch) -> list[str]:
    """The digest after each step of a run without interrupts; the first is before all steps."""
    one = make("calm")
    digests = [digest_of(one)]
    one.watchers.append(lambda event: digests.append(digest_of(one)) if event == "step" else None)
    watch.fit(one, LAPS)
    assert one.step == len(digests) - 1
    return digests


def check_stopped(one: trainer.Trainer, digests: list[str], where: str) -> None:
    """In memory and in last.pt: the very state that the undisturbed run had after the same step, whole."""
    assert digest_of(one) == digests[one.step], f"weights or optimizer differ: {where}"
    moments = one.optimizer.state_dict()["state"].values()
    steps = {int(each["step"]) for each in moments if "step" in each}  # a kernel's Muon counts none
    assert steps <= {one.step} and bool(steps) == (one.step > 0), f"parameters at steps {steps}: {where}"
    state = load(one.folder)
    assert (state["step"], state["epoch"], state["seen"]) == (one.step, one.epoch, one.seen), f"last.pt: {where}"
    assert digest(state["model"], state["average"], state["optimizer"]) == digests[one.step], f"last.pt: {where}"


def aim_interrupt(draw: random.Random, lengths: dict[str, list[float]]) -> Aim:
    """A random moment: anywhere from the call of fit on, or in one of the first steps, validations or saves."""
    kind = draw.choice(("anywhere", *PLACES))
    typical = {place: statistics.median(lengths[place]) for place in PLACES}
    if kind == "anywhere":
        return Aim(kind, 0, draw.uniform(0, 6 * typical["step"] + typical["validate"] + typical["save"]))
    return Aim(kind, draw.randint(1, 6 if kind == "step" else 2), draw.uniform(0, typical[kind]))


def test_fifty_interrupts_leave_no_trace(monkeypatch, strays, one_thread):
    """SIGINT at random moments, fit called again after each: the state is always one of the undisturbed run."""
    tiny.prepare(train=14, val=8)  # four steps an epoch, of two sizes
    watch, draw, hits, one = Watch(monkeypatch), random.Random(0), Counter(), None
    handler, digests = signal.getsignal(signal.SIGINT), calm_digests(watch)
    for number in range(3 * INTERRUPTS):  # so many tries at most
        if hits.total() >= INTERRUPTS and all(hits[place] >= 5 for place in PLACES):
            break
        if one is None or one.epoch == LAPS:
            one = make(f"interrupted-{number}")
        elif number % 5 == 0:
            one = make(one.run)  # what was saved goes on as what is in memory does
        aim, before, lost = aim_interrupt(draw, watch.lengths), one.step, len(strays)
        struck = watch.fit(one, min(one.epoch + 2, LAPS), aim)
        where = f"try {number}, aimed at {aim}, sent at (place, step) {struck}, fit from step {before} to {one.step}"
        assert signal.getsignal(signal.SIGINT) is handler, f"another handler of SIGINT: {where}"
        if struck and len(strays) == lost:
            hits[struck[0]] += 1
            assert one.step - struck[1] <= 1, f"more than the step at work was done: {where}"
        check_stopped(one, digests, where)
        if one.epoch == LAPS:
            differ = differences(load(one.folder), load(env.run_dir("helen", "calm")))
            assert not differ, f"last.pt at the end differs in {differ}: {where}"
    assert hits.total() >= INTERRUPTS and all(hits[place] >= 5 for place in PLACES), f"too many missed: {dict(hits)}"
    print(f"{hits.total()} interrupts in {number} tries: {dict(hits)}, {len(strays)} strays")
