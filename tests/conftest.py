"""What every test gets: a home of its own, a clean environment, one thread; real data where there is any."""

import os
from pathlib import Path

os.environ.setdefault("GOMP_SPINCOUNT", "10000")  # before torch is loaded: threads that wait sleep soon
os.environ.setdefault("MPLBACKEND", "Agg")  # before anything imports pyplot: tests have no screen

import pytest
import torch

torch.set_num_threads(1)  # the same sums on any machine; tiny networks gain nothing by two, and lose on a busy one


@pytest.fixture(autouse=True)
def own_home(tmp_path, monkeypatch):
    """UNET_HOME is the test's own folder, no variable of a reader's shell chooses data or scale, seeds are set."""
    monkeypatch.setenv("UNET_HOME", str(tmp_path))
    torch.manual_seed(0)  # what a test draws, it draws again
    for name in ("RELEASE", "DATASET", "SCALE"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder of real data that REAL_DATA names; the test is skipped where there is none."""
    folder = os.environ.get("REAL_DATA")
    if not folder:
        pytest.skip("REAL_DATA is not set: no real data to test on")
    if not Path(folder).is_dir():
        pytest.skip(f"REAL_DATA={folder} is no folder")
    return Path(folder).resolve()
