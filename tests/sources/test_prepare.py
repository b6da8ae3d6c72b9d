"""How a notebook begins that is opened first."""

import pytest
from IPython.core.interactiveshell import InteractiveShell

from helpers import preprocess
from helpers.core import choice, env
from helpers.core.errors import DataError
from helpers.sources.prepare import begin
from helpers.synthetic import releases


@pytest.fixture(autouse=True)
def smoke(monkeypatch):
    """Streets at the smallest scale."""
    monkeypatch.setenv("SCALE", "smoke")
    monkeypatch.setenv("DATASET", "camvid")


def test_a_release_in_data_is_restructured_as_01_would(capsys):
    """Once: the second time nothing is said."""
    releases.WRITERS["camvid"](env.data_dir() / "CamVid", 8, 4, progress=False)
    settings = begin()
    assert (settings.dataset, settings.scale, choice.source("camvid")) == ("camvid", "smoke", "release")
    assert (
        capsys.readouterr().out
        == "01_restructure_data has not run, so we do its work first. Release found: data/CamVid\n"
    )
    assert begin() == settings and not capsys.readouterr().out


def test_what_01_left_half_done_is_finished():
    releases.WRITERS["camvid"](env.data_dir() / "CamVid", 8, 4, progress=False)
    begin()
    folder = env.split_dir("camvid")
    (folder / "manifest.json").write_text((folder / "manifest.json").read_text().replace("true", "false"))
    photo = next((folder / "train" / "images").iterdir())
    photo.unlink()
    begin()
    assert photo.exists()


def test_a_notebook_shows_an_error_as_its_sentence(capsys):
    shell = InteractiveShell.instance()
    try:
        shell.run_cell("from helpers.core.errors import DataError\nraise DataError('lost.png: gone; put it back')")
    finally:
        InteractiveShell.clear_instance()
    assert capsys.readouterr().out.strip() == "DataError: lost.png: gone; put it back"
    with pytest.raises(DataError, match="run notebook 01 "):
        preprocess.pairs("camvid", "train")
