"""Which photos a command means, and what their label maps are called."""

from pathlib import Path

import pytest

from helpers.core import photo_files
from helpers.core.errors import DataError


@pytest.fixture
def folder(tmp_path):
    """photos/ with two photos of its own, one below, a hidden one, and a text."""
    for name in ("a.jpg", "b.PNG", "trip/day 1/c.webp", ".hidden/d.jpg", ".e.jpg", "notes.txt"):
        (tmp_path / "photos" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "photos" / name).touch()
    return tmp_path / "photos"


def names(given, out, **more):
    return {name: photo.name for name, photo in photo_files.name_photos(given, out, **more).items()}


def test_a_folder_s_own_photos_and_with_recursive_those_below(folder, tmp_path, capsys):
    assert names([folder], tmp_path / "out") == {"a": "a.jpg", "b": "b.PNG"}
    assert "1 files that are none of" in (printed := capsys.readouterr().err) and "(notes.txt)" in printed
    every = {"a": "a.jpg", "b": "b.PNG", "trip/day 1/c": "c.webp"}
    assert names([folder], tmp_path / "out", recursive=True) == every


def test_files_and_folders_together_each_photo_once(folder, tmp_path):
    given = [folder / "trip/day 1/c.webp", folder, folder / "a.jpg"]
    assert names(given, tmp_path / "out") == {"c": "c.webp", "a": "a.jpg", "b": "b.PNG"}


def test_photos_with_the_same_stem_get_names_of_their_own(folder, tmp_path):
    (folder / "A.png").touch()  # a.png and A.png would be one file on Windows and macOS
    assert names([folder], tmp_path / "out") == {"A.png": "A.png", "a.jpg": "a.jpg", "b.PNG": "b.PNG"}
    other = tmp_path / "other"
    other.mkdir()
    (other / "a.jpg").touch()
    assert {"photos/a.jpg", "other/a.jpg"} <= names([folder, other], tmp_path / "out").keys()
    again = tmp_path / "again" / "photos"
    again.mkdir(parents=True)
    (again / "a.jpg").touch()
    with pytest.raises(DataError, match="give one folder at a time"):
        names([folder, again], tmp_path / "out")


def test_a_link_to_a_photo_is_a_photo_of_the_folder_that_it_lies_in(folder, tmp_path):
    linked = tmp_path / "linked"
    linked.mkdir()
    (linked / "x.jpg").symlink_to(folder / "a.jpg")
    assert names([linked], tmp_path / "out") == {"x": "x.jpg"}


def test_label_maps_never_lie_among_photos_or_replace_one(folder, tmp_path):
    for given, out, recursive in (
        ([folder], folder, False),
        ([folder / "a.jpg"], folder, False),
        ([folder], folder / "out", True),  # the next run would take the label maps for photos
        ([folder], Path(f"{folder}/trip/../"), False),
    ):
        with pytest.raises(DataError, match="OUT_DIR lies in photos, among the photos"):
            names(given, out, recursive=recursive)
    assert names([folder], folder / "out")  # not walked: a folder in it is another folder
    (folder / "trip" / "trip").mkdir()
    (folder / "trip" / "x.png").touch()
    (folder / "trip" / "trip" / "x.jpg").touch()
    (folder / "trip" / "trip" / "b.PNG").touch()
    with pytest.raises(DataError, match="would replace a photo"):  # trip/trip/x.jpg -> trip/x.png, which is given
        names([folder / "trip", folder / "trip" / "x.png"], folder, recursive=True)


def test_what_holds_no_photos_is_named(folder, tmp_path):
    with pytest.raises(DataError, match="nowhere does not exist"):
        names([tmp_path / "nowhere"], tmp_path / "out")
    with pytest.raises(DataError, match=r"no photos in .*trip: give a folder of .bmp, .*, or --recursive"):
        names([folder / "trip"], tmp_path / "out")
    (tmp_path / "file").touch()
    with pytest.raises(DataError, match="file is a file, but OUT_DIR must be a folder"):
        names([folder], tmp_path / "file")
