"""Several processes train as one: the same losses, one writer, an end for all, and a way to go on."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import distributed_child
import numpy as np
import psutil
import pytest
import tiny
import torch

from helpers import batches, losses, preprocess, trainer
from helpers.core import distributed, env
from helpers.core.errors import TrainingError
from helpers.training import checkpoint

HERE = Path(__file__).parent
TESTS = HERE.parent
REPO = TESTS.parent
LAUNCH = [sys.executable, "-m", "torch.distributed.run"]
WAIT = 240  # seconds, for what takes ten


def environment() -> dict[str, str]:
    """The test's own home, one thread a process, our packages."""
    paths = {"PYTHONPATH": os.pathsep.join((str(REPO), str(TESTS)))}
    return os.environ | paths | {"OMP_NUM_THREADS": "1", "TQDM_DISABLE": "1"}


def launch(*arguments: str, nodes: tuple[str, ...] = ("--standalone",), processes: int = 2) -> subprocess.Popen:
    """torchrun in a process group of its own, as a terminal starts it."""
    command = [*LAUNCH, *nodes, "--nproc-per-node", str(processes), *arguments]
    return subprocess.Popen(
        command,
        env=environment(),
        cwd=REPO,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )


def end(process: subprocess.Popen) -> tuple[int, str]:
    """Exit status and all that was printed."""
    try:
        text, _ = process.communicate(timeout=WAIT)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        raise
    return process.returncode, text


@pytest.fixture(scope="module")
def both(tmp_path_factory):
    """The child's results from two processes and from one."""
    home = tmp_path_factory.mktemp("both")
    os.environ["UNET_HOME"] = str(home)
    out = {n: home / f"{n}.json" for n in (1, 2)}
    two = launch(str(HERE / "distributed_child.py"), str(out[2]))
    status, text = end(two)
    assert status == 0, text
    alone = [sys.executable, str(HERE / "distributed_child.py"), str(out[1])]
    subprocess.run(alone, env=environment(), check=True, capture_output=True, cwd=REPO, timeout=WAIT)
    return {n: json.loads(path.read_text()) for n, path in out.items()}


@pytest.mark.parametrize("name", [name for name in distributed_child.CASES if name != "batch norm"])
def test_two_processes_give_the_losses_of_one(both, name):
    """To 1e-4 over 20 steps, with void in half of the labels, augmentation, uneven shares; each loss a pooled one."""
    one, two = both[1][name]["losses"], both[2][name]["losses"]
    assert len(one) == len(two) >= distributed_child.STEPS
    np.testing.assert_allclose(two, one, rtol=1e-4, atol=1e-4)
    assert abs(one[-1] - one[0]) > 1e-2  # it did move


@pytest.mark.parametrize("name", distributed_child.CASES)
def test_all_processes_hold_the_same_numbers(both, name):
    """Weights, statistics of the norms, average and moments, to the bit: what rank 0 saves is everyone's."""
    assert both[2][name]["same"]


def test_validation_counts_all_images_once(both):
    """Scores of five images over two processes, pooled before they are divided."""
    one, two = both[1]["dice_ce"]["scores"], both[2]["dice_ce"]["scores"]
    assert one.keys() == two.keys()
    np.testing.assert_allclose([two[k] for k in one], [one[k] for k in one], atol=0.02)


def train_arguments(epochs: int, run: str, **more) -> list[str]:
    """The training command on tiny arrays."""
    settings = dict(size=32, width=4, depth=2, batch=4, epochs=epochs) | more
    words = [word for k, v in settings.items() for word in ("--set", f"{k}={v}")]
    return ["-m", "helpers", "train", "--dataset", "helen", "--scale", "smoke", "--run-name", run, *words]


def test_two_launchers_stand_for_two_hosts(tmp_path):
    """--nnodes 2 on 127.0.0.1: the checkpoint of two processes on one host, but for the order in which their threads
    add (a process has all of its host's cores), and one history. None of gloo's threads outlives the training."""
    tiny.prepare()
    preprocess.open_arrays("helen", 32)
    status, text = end(launch(str(HERE / "distributed_child.py"), *train_arguments(2, "one-host")[2:]))
    assert status == 0, text
    assert text.count("epoch   2/2") == 1  # rank 0 alone prints
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    hosts = [
        ("--nnodes", "2", "--node-rank", str(n), "--master-addr", "127.0.0.1", "--master-port", str(port))
        for n in (0, 1)
    ]
    started = [launch(*train_arguments(2, "two-hosts"), nodes=host, processes=1) for host in hosts]
    for status, text in map(end, started):
        assert status == 0, text
    states = [checkpoint.latest(env.run_dir("helen", run))[0] for run in ("one-host", "two-hosts")]
    for name, tensor in states[0]["model"].items():
        torch.testing.assert_close(tensor, states[1]["model"][name], rtol=1e-3, atol=1e-4)
    one, two = ([row["loss"] for row in state["history"]] for state in states)
    assert one == pytest.approx(two, rel=1e-4) and len(one) == 2
    names = {path.name for path in env.run_dir("helen", "two-hosts").iterdir()}
    assert names == {"last.pt", "previous.pt", "best.pt", "best_state.pt", "history.csv", ".lock"}


def ranks_of(launcher: subprocess.Popen) -> list[psutil.Process]:
    """The processes that a launcher has started."""
    return [p for p in psutil.Process(launcher.pid).children() if "helpers train" in " ".join(p.cmdline())]


def wait_for_steps(folder: Path, launcher: subprocess.Popen) -> None:
    """Until a training is under way: its first epoch is kept."""
    until = time.monotonic() + WAIT
    while not (folder / "best.pt").exists():
        assert launcher.poll() is None and time.monotonic() < until, launcher.communicate()[0]
        time.sleep(0.05)


def test_a_killed_rank_and_an_interrupt_end_all_and_a_restart_goes_on(tmp_path):
    tiny.prepare()
    preprocess.open_arrays("helen", 32)
    folder = env.run_dir("helen", "cut")

    first = launch(*train_arguments(4000, "cut"))
    wait_for_steps(folder, first)
    ranks = ranks_of(first)
    assert len(ranks) == 2
    victim = max(ranks, key=lambda p: int(p.environ()["RANK"]))
    victim.kill()
    status, text = end(first)
    assert status != 0 and not any(p.is_running() and p.status() != psutil.STATUS_ZOMBIE for p in ranks)
    assert "; saved at step" in text, text  # rank 0 keeps what it has
    killed_at = checkpoint.latest(folder)[0]["step"]
    assert killed_at > 0

    second = launch(*train_arguments(4000, "cut"))
    began = (folder / "last.pt").stat().st_mtime_ns
    while (folder / "last.pt").stat().st_mtime_ns == began and second.poll() is None:
        time.sleep(0.05)
    ranks = ranks_of(second)
    os.killpg(second.pid, signal.SIGINT)  # as Ctrl-C: to the launcher and both ranks; the launcher sends it on
    status, text = end(second)
    assert "stopped at epoch" in text, text
    assert not any(p.is_running() and p.status() != psutil.STATUS_ZOMBIE for p in ranks)
    state = checkpoint.latest(folder)[0]
    assert state["step"] > killed_at
    assert not list(folder.glob("*.tmp"))

    done = state["epoch"] + 2
    status, text = end(launch(*train_arguments(done, "cut", schedule="constant")))
    assert status == 0 and f"(step {state['step']})" in text, text
    final = checkpoint.latest(folder)[0]
    assert final["epoch"] == done and [row["epoch"] for row in final["history"] if not row["note"]] == list(
        range(1, done + 1)
    )


def test_alone_nothing_changes():
    """Without torchrun: rank 0 of 1, sums are one's own, no process group."""
    values = torch.tensor([1.0, 2.0], requires_grad=True)
    assert (distributed.rank(), distributed.world_size()) == (0, 1)
    assert distributed.all_reduce_sum(values) is values and distributed.all_reduce_max(1.0, 2.0) == [1.0, 2.0]
    own, counts = distributed.shard(np.arange(5))
    assert own.tolist() == [0, 1, 2, 3, 4] and counts
    with distributed.process_group():
        assert not torch.distributed.is_initialized()


def test_a_batch_is_shared_whole_and_once(monkeypatch):
    """Of 5 images three processes take 2, 2 and 1; of 2 images the third takes part with one that does not count."""
    monkeypatch.setattr(distributed, "world_size", lambda: 3)
    shares = {}
    for rank in range(3):
        monkeypatch.setattr(distributed, "rank", lambda rank=rank: rank)
        shares[rank] = (distributed.shard(np.arange(5))[0].tolist(), distributed.shard(np.arange(2)))
    assert sorted(sum((whole for whole, _ in shares.values()), [])) == [0, 1, 2, 3, 4]
    assert [counts for _, (_, counts) in shares.values()] == [True, True, False]
    batch = batches.Samples(distributed_child.arrays(2), torch.device("cpu"))[np.arange(2)]
    assert (batch[1] == 255).all() and len(batch[0]) == 1 and batch[2].tolist() == [0, 1]


def test_an_image_of_nothing_but_void_adds_nothing_to_any_loss():
    logits = torch.randn(2, 4, 6, 6, requires_grad=True)
    target = torch.randint(0, 4, (2, 6, 6))
    target[1] = 255
    for name, loss in losses.LOSSES.items():
        assert loss(logits, target).item() == pytest.approx(loss(logits[:1], target[:1]).item()), name


def test_a_dead_peer_is_told_from_a_fault_of_one_s_own(monkeypatch):
    """Of the texts that gloo and torch gave: only the first ones mean that another process has gone."""
    gone = [
        RuntimeError("[../gloo/transport/tcp/pair.cc:534] Connection closed by peer [127.0.0.1]:4242"),
        RuntimeError("Connection reset by peer"),
        torch.distributed.DistBackendError("NCCL error"),
    ]
    own = [RuntimeError("shapes cannot be multiplied"), RuntimeError("CUDA error: device-side assert triggered")]
    assert not any(map(distributed.is_peer_lost, gone))  # alone there is nobody to lose
    monkeypatch.setattr(distributed, "world_size", lambda: 2)
    assert all(map(distributed.is_peer_lost, gone)) and not any(map(distributed.is_peer_lost, own))


@pytest.mark.parametrize("other", [(dict(lr=1.0), 0), (dict(), 1)])
def test_processes_with_other_settings_or_data_are_told_at_once(monkeypatch, other):
    changes, images = other
    arrays = {"train": distributed_child.arrays(9), "val": distributed_child.arrays(5)}
    theirs = tiny.settings(**changes).asdict(), {"train": [9 + images, "tiny"], "val": [5, "tiny"]}
    monkeypatch.setattr(distributed, "broadcast", lambda value: theirs)
    with pytest.raises(TrainingError, match="other settings or data on one of the hosts"):
        trainer.Trainer(tiny.settings(), arrays, "a", "cpu")
