"""What the tests of releases and archives share."""

from pathlib import Path

import pytest


@pytest.fixture
def home(tmp_path, monkeypatch) -> Path:
    """A home of its own with a data/ folder, apart from what a test puts elsewhere."""
    monkeypatch.setenv("UNET_HOME", str(tmp_path / "home"))
    (tmp_path / "home" / "data").mkdir(parents=True)
    return tmp_path / "home"
