"""restructure: every fault of a release is named, no copy is ever half there, the release stays as it is."""

import hashlib
import io
import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from test_archives import contents, names_in, pack

from helpers.core import choice, env, files, masks
from helpers.core.errors import DataError, UNetError
from helpers.sources import restructure

pytestmark = pytest.mark.usefixtures("home")
NUMBERS = [f"{number:03d}" for number in range(24)]
VAL_OF_50 = ["017", "023", "035"]


def jpeg(seed: int, size: tuple[int, int] = (16, 12), **options) -> bytes:
    """A noisy photo, so that no two are alike; size is (width, height)."""
    pixels = np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "JPEG", **options)
    return stream.getvalue()


def png(array: np.ndarray) -> bytes:
    """An image file of exactly these values."""
    stream = io.BytesIO()
    Image.fromarray(array).save(stream, "PNG")
    return stream.getvalue()


def ids(size: tuple[int, int] = (16, 12), top: int = 10) -> np.ndarray:
    """A label map in which 0..top all occur."""
    return (np.arange(size[0] * size[1], dtype=np.uint8) % (top + 1)).reshape(size[1], size[0])


def add(root: Path, split: str, name: str, image: bytes | None = None, label: bytes | None = None) -> None:
    """One pair, sound unless its bytes are given."""
    folder = root / split
    folder.mkdir(parents=True, exist_ok=True)
    seed = int(hashlib.sha256(f"{split}{name}".encode("utf-8", "replace")).hexdigest()[:8], 16)
    (folder / f"{name}_image.jpg").write_bytes(jpeg(seed) if image is None else image)
    (folder / f"{name}_label.png").write_bytes(png(ids()) if label is None else label)


def make(root: Path, train=NUMBERS, test=("t1", "t2")) -> Path:
    """A small sound release."""
    for split, names in (("train", train), ("test", test)):
        (root / split).mkdir(parents=True, exist_ok=True)
        for name in names:
            add(root, split, name)
    return root


def state(root: Path) -> dict[str, tuple[int, str]]:
    """Relative name -> (time, hash) of every file below root."""
    names = sorted(p for p in root.rglob("*") if p.is_file())
    return {p.relative_to(root).as_posix(): (p.stat().st_mtime_ns, files.sha256(p)) for p in names}


@pytest.fixture
def release(tmp_path) -> restructure.Release:
    return restructure.Release(make(tmp_path / "outside" / "helenstar_release"), "release", "a test's")


@pytest.fixture
def synthetic(monkeypatch) -> list:
    """Replaces the synthetic release by a small one; collects the calls."""
    calls = []

    def write_helen(root, train, test, progress=True):
        calls.append((root, train, test))
        return make(root / "helenstar_release", [f"s{i}" for i in range(train)], [f"st{i}" for i in range(test)])

    monkeypatch.setitem(restructure.releases.WRITERS, "helen", write_helen)
    return calls


def reasons(findings, severity="error") -> dict[str, str]:
    """'split/file' -> reason, of the findings of one severity."""
    found = [(f"{f.split}/{f.file}", f.reason) for f in findings if f.severity == severity]
    assert len(dict(found)) == len(found), found
    return dict(found)


def run(release):
    """restructure of a release, or of a folder as one."""
    release = release if isinstance(release, restructure.Release) else restructure.Release(release, "release", "")
    return restructure.restructure("helen", release)


def scan(root: Path) -> restructure.Scan:
    return restructure.scan(restructure.Release(root, "release", ""), "helen")


# What is found ----------------------------------------------------------------------------------------------


def test_a_synthetic_sample_lies_apart_and_is_named(home, synthetic):
    found = restructure.find_release("helen", (4, 2))
    assert synthetic == [(home / "data/synthetic/helen-4-2", 4, 2)]
    assert (found.source, found.root) == ("synthetic", home / "data/synthetic/helen-4-2/helenstar_release")
    assert found.where == "No release found in data/: using a synthetic sample (4 train, 2 test)"
    assert not (home / "data/helenstar_release").exists()


@pytest.mark.parametrize("inside", ["", "helenstar_release", "wrapper/helenstar_release"])
def test_folder_in_data_wins_over_samples_even_when_nested(home, synthetic, inside):
    root = make(home / "data/helenstar_release" / inside)
    found = restructure.find_release("helen", (4, 2))
    assert (found.root, found.source, synthetic) == (root, "release", [])
    assert found.where == f"Release found: {env.shown(root)}"


def test_empty_folder_is_no_release_but_a_wrong_one_or_half_a_one_is_an_error(home, synthetic):
    folder = home / "data/helenstar_release"
    folder.mkdir()
    assert restructure.find_release("helen", (4, 2)).source == "synthetic"
    (folder / "notes.txt").write_text("to do")
    for _ in range(2):
        with pytest.raises(DataError, match=r"^data/helenstar_release holds no release of helen: .*; put it there"):
            restructure.find_release("helen", (4, 2))
        shutil.rmtree(make(folder) / "test")


@pytest.mark.parametrize("named", ["folder", "parent", "archive"])
def test_environment_names_a_folder_its_parent_or_an_archive(tmp_path, home, release, monkeypatch, named):
    make(home / "data/helenstar_release")  # RELEASE wins over it
    place = {"folder": release.root, "parent": release.root.parent}.get(named)
    place = place or pack(".tar.gz", tmp_path / "far/helen", contents(release.root, "h/"))
    monkeypatch.setenv("RELEASE", str(place))
    found = restructure.find_release("helen", (4, 2))
    assert contents(found.root) == contents(release.root) and (found.root == release.root) == (named != "archive")
    assert "RELEASE" in found.where and str(tmp_path) not in found.where
    assert named != "archive" or names_in(tmp_path / "far") == {"helen.tar.gz"}


@pytest.mark.parametrize(
    ("make_it", "fault"),
    [
        (lambda p: None, "is not there; correct it or unset RELEASE"),
        (lambda p: p.mkdir(), "holds no release of helen: there should be"),
        (lambda p: p.write_text("a text"), "neither a folder nor a .zip"),
    ],
)
def test_environment_naming_no_release_is_an_error(tmp_path, synthetic, monkeypatch, make_it, fault):
    path = tmp_path / "elsewhere" / "mine"
    path.parent.mkdir()
    make_it(path)
    monkeypatch.setenv("RELEASE", str(path))
    with pytest.raises(DataError, match=fault) as caught:
        restructure.find_release("helen", (4, 2))
    assert str(caught.value).startswith("mine") and str(tmp_path) not in str(caught.value)
    assert synthetic == []


def test_unknown_dataset_is_refused(synthetic):
    with pytest.raises(UNetError, match="choose one of helen"):
        restructure.find_release("hellen", (4, 2))


# Archives ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "prefix"), [(".ZIP", ""), (".tgz", "h/"), (".7z", "wrapper/helenstar_release/"), (".tar.gz", "h/")]
)
def test_archive_is_found_and_unpacked_once(home, release, synthetic, kind, prefix):
    entries = contents(release.root, prefix) | {"__MACOSX/helenstar_release/train/._000_image.jpg": b"mac"}
    archive = pack(kind.lower(), home / "data/helen", entries)
    archive.rename(home / f"data/helen{kind}")
    pack(".zip", home / "data/another", {"train/readme.txt": b"no photos here"})
    found = restructure.find_release("helen", (4, 2))
    assert (found.source, found.where, synthetic) == ("release", f"Release found: data/helen{kind}, unpacked", [])
    assert contents(found.root) == contents(release.root)
    assert found.root.is_relative_to(home / "data/unpacked")
    before = state(home / "data")
    assert restructure.find_release("helen", (4, 2)).root == found.root
    assert state(home / "data") == before


# The tree ---------------------------------------------------------------------------------------------------


def test_tree(tmp_path):
    root = make(tmp_path / "rel", ["a", "b"], ["c"])
    (root / "train/.DS_Store").write_bytes(b"")
    (root / "empty").mkdir()
    assert restructure.tree(root) == "\n".join(
        [
            "rel",
            "├── empty",
            "├── test",
            "│   ├── c_image.jpg",
            "│   └── c_label.png",
            "└── train",
            "    ├── a_image.jpg",
            "    ├── a_label.png",
            "    ├── b_image.jpg",
            "    └── ... (4 files)",
        ]
    )
    assert restructure.tree(root, limit=4).endswith("    └── b_label.png")


# What is wrong ----------------------------------------------------------------------------------------------

COLOURS = np.random.default_rng(5).integers(0, 256, (12, 16, 3), dtype=np.uint8)
FAULTS = {  # id -> image bytes, label bytes (None: sound, "": no file), file at fault, words of the reason
    "lone": (None, "", "lone_image.jpg", "no label of this name"),
    "mask": ("", None, "mask_label.png", "no photo of this name"),
    "cut": (jpeg(6)[:-60], None, "cut_image.jpg", "cannot be read as a photo"),
    "zero": (b"", None, "zero_image.jpg", "cannot be read as a photo"),
    "text": (b"<html>", None, "text_image.jpg", "cannot be read as a photo"),
    "zerolabel": (None, b"", "zerolabel_label.png", "cannot be read as a label"),
    "cutlabel": (None, png(ids())[:-30], "cutlabel_label.png", "cannot be read as a label"),
    "colour": (None, png(COLOURS), "colour_label.png", "holds colours, not class ids"),
    "eleven": (None, png(ids(top=11)), "eleven_label.png", "ids outside 0-10: 11;"),
    "deep": (None, png(ids().astype(np.uint16) * 257), "deep_label.png", "ids outside 0-10: 257, 514"),
    "small": (None, png(ids((8, 6))), "small_label.png", "label 8 x 6, photo 16 x 12: draw the label on"),
    "lying": (None, png(ids((12, 16))), "lying_label.png", "label 12 x 16, photo 16 x 12: turned by 90"),
}


def break_release(root: Path) -> None:
    """Each fault once, among enough sound pairs."""
    make(root, [f"{n:04d}" for n in range(20 * len(FAULTS))])
    for name, (image, label, _, _) in FAULTS.items():
        add(root, "train", name, image or b"", label or b"")
        for kind, given, sound in (("image.jpg", image, jpeg(len(name))), ("label.png", label, png(ids()))):
            path = root / "train" / f"{name}_{kind}"
            path.unlink() if given == "" else path.write_bytes(sound if given is None else given)


def test_each_fault_is_named_and_left_out(tmp_path):
    root = tmp_path / "broken"
    break_release(root)
    result = run(root)
    found = reasons(result.findings)
    assert set(found) == {f"train/{file}" for _, _, file, _ in FAULTS.values()}
    for _, _, file, words in FAULTS.values():
        assert words in found[f"train/{file}"]
    assert reasons(result.findings, severity="warning") == {}
    assert result.counts["train"] + result.counts["val"] == 20 * len(FAULTS)
    copied = {Path(name).stem for name in names_in(result.folder)}
    assert not copied & set(FAULTS)
    text = restructure.table(result.findings)
    assert text.splitlines()[0].split() == ["split", "file", "reason"] and len(text.splitlines()) == 13
    assert str(tmp_path) not in text
    assert restructure.table([]) == "nothing left out"


def test_both_files_of_a_pair_can_be_at_fault(tmp_path):
    add(make(tmp_path / "r"), "train", "bad", b"x", png(ids(top=12)))
    found = scan(tmp_path / "r")
    assert set(reasons(found.findings)) == {"train/bad_image.jpg", "train/bad_label.png"}
    assert found.total - len(found.samples) == 1


def test_labels_of_a_photo_turned_by_exif(tmp_path):
    """A label that fits the photo as it is shown is copied, one that fits it as it is stored is turned; no photo is."""
    root = make(tmp_path / "r")
    exif = Image.Exif()
    exif[0x0112] = 6  # a quarter turn: stored 16 x 12, shown 12 x 16
    add(root, "train", "upright", jpeg(1, exif=exif), png(ids((12, 16))))
    add(root, "train", "stored", jpeg(2, exif=exif), png(ids((16, 12))))
    result = run(root)
    assert result.findings == run(root).findings
    assert reasons(result.findings, "warning") == {"train/stored_label.png": "turned as the photo's EXIF says"}
    assert [p.read_bytes() for p in result.folder.rglob("stored.jpg")] == [jpeg(2, exif=exif)]
    (upright,) = result.folder.rglob("labels/upright.png")
    assert upright.read_bytes() == png(ids((12, 16)))
    (stored,) = result.folder.rglob("labels/stored.png")
    assert (masks.read_label(stored, 11) == np.rot90(ids((16, 12)), -1)).all()


def test_sound_varieties_are_accepted(tmp_path):
    root = make(tmp_path / "r")
    void = ids()
    void[0, 0] = 255
    add(root, "train", "void", label=png(void))
    add(root, "train", "deep", label=png(ids().astype(np.uint16)))  # 16 bits, but ids
    add(root, "train", "grey", label=png(np.repeat(ids()[:, :, None], 3, 2)))  # three equal channels
    add(root, "train", "with space")
    add(root, "train", "日本 é_ü")
    add(root, "train", "a_image_b")
    (root / "train/re\u0301_image.jpg").write_bytes(jpeg(1))  # é in two characters, as macOS has it, and in one
    (root / "train/r\u00e9_label.png").write_bytes(png(ids()))
    add(root, "train", "caps")
    (root / "train/caps_image.jpg").rename(root / "train/caps_IMAGE.JPEG")
    (root / "train/caps_label.png").rename(root / "train/caps_Label.PNG")
    (root / "train/caps_viz.jpg").write_bytes(b"never opened")
    result = run(root)
    assert result.findings == []
    names = names_in(result.folder)
    for name in ("void", "deep", "grey", "with space", "日本 é_ü", "a_image_b", "caps", "r\u00e9"):
        assert {f"images/{name}.jpg", f"labels/{name}.png"} <= {n.partition("/")[2] for n in names}
    assert not any("viz" in name for name in names)


@pytest.mark.skipif(os.name == "nt", reason="Windows has no such names")
def test_undecodable_names_and_line_breaks_neither_crash_nor_break_the_table(tmp_path):
    root = make(tmp_path / "r")
    odd = os.fsdecode(b"b\xffd")
    add(root, "train", odd)
    add(root, "train", "two\nlines", image=b"x")
    result = run(root)
    text = restructure.table(result.findings)
    assert "two\\nlines_image.jpg" in text and len(text.splitlines()) == 2
    restructure.tree(root, 99).encode()
    assert any(odd in name for name in names_in(result.folder))
    assert run(root).written == 0


def test_systems_leftovers_are_silent_and_strangers_are_warned_of(tmp_path):
    root = make(tmp_path / "r")
    for name in ("._000_image.jpg", "._000_label.png", ".DS_Store", "Thumbs.db"):
        (root / "train" / name).write_bytes(b"\0")
    (root / "train/notes.txt").write_text("a note")
    add(root, "train", "", image=b"no id")
    (root / "train/000_label.jpg").write_bytes(jpeg(1))
    add(root, "train", "twice")
    (root / "train/twice_image.jpeg").write_bytes(jpeg(9))
    result = run(root)
    assert reasons(result.findings) == {}
    warned = reasons(result.findings, severity="warning")
    strangers = ("notes.txt", "000_label.jpg", "twice_image.jpg", "_image.jpg", "_label.png")
    assert set(warned) == {f"train/{name}" for name in strangers}
    assert "twice_image.jpeg" in warned["train/twice_image.jpg"]
    assert "naming" in warned["train/notes.txt"] and "left in" in restructure.table(result.findings)
    assert {"._000", ".DS_Store", "notes"} & {Path(n).stem for n in names_in(result.folder)} == set()


def test_what_is_in_test_leaves_train(tmp_path):
    root = make(tmp_path / "r", [f"{n:03d}" for n in range(60)])
    add(root, "train", "t1")
    (root / "train/copy_image.jpg").write_bytes((root / "test/t2_image.jpg").read_bytes())
    (root / "train/copy_label.png").write_bytes(png(ids()))
    result = run(root)
    found = reasons(result.findings)
    assert set(found) == {"train/t1_image.jpg", "train/copy_image.jpg"}
    assert "same id" in found["train/t1_image.jpg"] and "t2_image.jpg in test" in found["train/copy_image.jpg"]
    kept = names_in(result.folder)
    assert "test/images/t1.jpg" in kept and "test/images/t2.jpg" in kept
    assert not {n for n in kept if not n.startswith("test/") and Path(n).stem in ("t1", "copy")}


# When it stops ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("sound", "bad", "stops"), [(19, 1, False), (18, 1, True), (38, 2, False), (38, 3, True)])
def test_more_than_one_in_twenty_stops(tmp_path, home, sound, bad, stops):
    root = make(tmp_path / "r", [f"{n}" for n in range(sound - 1)], ["t"])
    for number in range(bad):
        add(root, "train", f"bad{number}", image=b"")
    release = restructure.Release(root, "release", "")
    if not stops:
        assert len(run(release).findings) == bad
        return
    with pytest.raises(DataError) as caught:
        run(release)
    message = str(caught.value)
    assert f"{bad} of {sound + bad} samples are bad, more than 1 in 20; repair or remove" in message
    assert all(f"bad{number}_image.jpg" in message for number in range(bad))
    assert not (home / "data/splitted_data").exists() and not (home / "data/choice.json").exists()


def test_empty_train_stops(tmp_path):
    with pytest.raises(DataError, match="no sound sample for train: there should be"):
        run(make(tmp_path / "r", []))


def test_empty_test_is_warned_of(tmp_path):
    result = run(make(tmp_path / "r", test=[]))
    assert reasons(result.findings, severity="warning") == {
        "test/test/": "no sound pair: nothing to score in notebook 06"
    }


# Splits -----------------------------------------------------------------------------------------------------


def test_val_is_one_in_ten_by_a_hash_that_never_changes():
    numbers = [f"{n:03d}" for n in range(50)]
    assert sorted(restructure.choose_val(numbers)) == VAL_OF_50
    many = [f"id{n}" for n in range(5000)]
    assert 0.085 < len(restructure.choose_val(many)) / 5000 < 0.115
    assert restructure.choose_val([*many, *numbers]) & set(numbers) == set(VAL_OF_50)  # whatever else there is


def test_small_train_sets_have_both_splits():
    out = [name for name in NUMBERS if restructure.stable_hash(name) % 10]
    inside = [f"{n:03d}" for n in range(50) if restructure.stable_hash(f"{n:03d}") % 10 == 0]
    assert restructure.choose_val(out[:2]) == {min(out[:2], key=restructure.stable_hash)}
    assert len(restructure.choose_val(inside[:2])) == 1
    assert restructure.choose_val(inside[:1]) == restructure.choose_val([]) == set()


def test_everything_lands_where_it_should(release):
    result = run(release)
    val = [name for name in NUMBERS if restructure.stable_hash(name) % 10 == 0]
    assert result.counts == {"train": len(NUMBERS) - len(val), "val": len(val), "test": 2}
    expected = {"manifest.json": None}
    for name in [*NUMBERS, "t1", "t2"]:
        split = "test" if name.startswith("t") else "val" if name in val else "train"
        source = release.root / ("test" if split == "test" else "train")
        expected[f"{split}/images/{name}.jpg"] = (source / f"{name}_image.jpg").read_bytes()
        expected[f"{split}/labels/{name}.png"] = (source / f"{name}_label.png").read_bytes()
    assert contents(result.folder) | {"manifest.json": None} == expected
    assert (result.written, result.kept, result.removed) == (2 * 26, 0, 0)
    assert choice.read_choice() == {"dataset": "helen", "prepared": {"helen": {"source": "release"}}}


# Again ------------------------------------------------------------------------------------------------------


def test_second_run_does_nothing_and_decodes_nothing(release, monkeypatch):
    (release.root / "train/odd.txt").write_text("named each time")
    first = run(release)
    before = state(first.folder)
    monkeypatch.setattr(files, "read_photo", lambda *_: pytest.fail("decoded again"))
    monkeypatch.setattr(masks, "read_label", lambda *_: pytest.fail("decoded again"))
    second = run(release)
    assert state(first.folder) == before
    assert (second.written, second.kept, second.removed) == (0, 52, 0)
    assert second.counts == first.counts and second.findings == first.findings != []


def flip_bits(path: Path) -> None:
    """Damage that neither size nor time shows."""
    status, data = path.stat(), bytearray(path.read_bytes())
    data[len(data) // 2] ^= 255
    path.write_bytes(data)
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))


def test_a_changed_release_file_is_checked_and_copied_again(release):
    folder = run(release).folder
    path = release.root / "train/000_image.jpg"
    size, other = path.stat().st_size, jpeg(77)
    path.write_bytes(other)
    os.utime(path, ns=(1, 1))
    assert run(release).written == 1
    assert [p.read_bytes() for p in folder.rglob("000.jpg")] == [other], size
    path.write_bytes(other[:-60])
    result = run(release)
    assert reasons(result.findings).keys() == {"train/000_image.jpg"} and result.removed == 2
    assert not list(folder.rglob("000.*"))


def test_a_changed_file_with_its_old_time_is_never_copied_unchecked(release):
    folder = run(release).folder
    flip_bits(release.root / "train/001_label.png")
    target = next(folder.rglob("001.png"))
    target.unlink()
    with pytest.raises(DataError, match=r"001_label.png: changed since.*delete data/splitted_data/helen/manifest"):
        run(release)
    assert not target.exists()


def test_what_was_checked_in_one_release_is_not_trusted_in_another(tmp_path, release):
    run(release)
    other = Path(shutil.copytree(release.root, tmp_path / "other"))  # names, sizes and times are the same
    flip_bits(other / "train/002_label.png")
    assert reasons(scan(other).findings).keys() == {"train/002_label.png"}


@pytest.mark.parametrize("damage", [Path.unlink, flip_bits, lambda path: path.write_bytes(path.read_bytes()[:-7])])
@pytest.mark.parametrize("manifest", ["kept", "lost"])
def test_damaged_copy_is_repaired_and_no_other_touched(release, damage, manifest):
    folder = run(release).folder
    before = state(folder)
    hurt = ["test/images/t1.jpg", "test/labels/t2.png"]
    for name in hurt:
        damage(folder / name)
    if manifest == "lost":
        (folder / "manifest.json").unlink()
    result = run(release)
    after = state(folder)
    assert (result.written, result.kept) == (2, 50)
    assert {n: h for n, (_, h) in after.items()} == {n: h for n, (_, h) in before.items()}
    own = set(before) - {*hurt, "manifest.json"}
    assert {n: after[n] for n in own} == {n: before[n] for n in own}


def test_leftovers_of_a_killed_copy_are_removed(release):
    folder = run(release).folder
    (folder / "train/images/000.jpg.4321.tmp").write_bytes(b"half")
    assert run(release).removed == 1
    assert not list(folder.rglob("*.tmp"))


def test_release_after_samples_leaves_only_the_release(release, synthetic):
    sample = restructure.find_release("helen", (30, 4))
    folder = run(sample).folder
    assert choice.source() == "synthetic"
    result = run(release)
    assert result.removed == 2 * 34 and result.written == 52
    expected = set(contents(release.root).values())
    assert {d for n, d in contents(folder).items() if n != "manifest.json"} <= expected
    assert len(names_in(folder)) == 53
    assert choice.source() == "release"
    assert run(sample).counts["test"] == 4  # and back


def test_switch_cut_off_while_removing_is_completed(release, synthetic, monkeypatch):
    folder = run(restructure.find_release("helen", (30, 4))).folder
    unlink, count = Path.unlink, []

    def interrupt(self, *args, **options):
        if self.suffix == ".jpg" and len(count) >= 5:
            raise KeyboardInterrupt
        count.append(self)
        unlink(self, *args, **options)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(Path, "unlink", interrupt)
        run(release)
    assert json.loads((folder / "manifest.json").read_text())["complete"] is False
    run(release)
    assert len(names_in(folder)) == 53


@pytest.mark.parametrize("name", ["train/images/mine.jpg", "val/labels/mine.png", "notes.txt", "extra/a.jpg"])
def test_a_readers_own_file_stops_it_and_is_left_alone(release, name):
    folder = run(release).folder
    (folder / name).parent.mkdir(exist_ok=True)
    (folder / name).write_bytes(b"mine")
    before = state(folder)
    with pytest.raises(DataError, match=rf"^data/splitted_data/helen: {name} did not come .* move what is yours"):
        run(release)
    assert state(folder) == before


def test_a_manifest_cannot_name_files_outside_for_removal(home, release):
    folder = run(release).folder
    victim = home / "data/victim.jpg"
    victim.write_bytes(b"keep me")
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["samples"].append(manifest["samples"][0] | {"id": "../../../../victim"})
    (folder / "manifest.json").write_text(json.dumps(manifest))
    run(release)
    assert victim.read_bytes() == b"keep me"


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", '{"samples": 3}', '{"samples": [{"id": "a"}]}'])
def test_damaged_manifest_is_named(release, text):
    folder = run(release).folder
    (folder / "manifest.json").write_text(text)
    with pytest.raises(DataError, match=r"^data/splitted_data/helen/manifest.json: .*delete this folder and run"):
        run(release)
    (folder / "manifest.json").unlink()
    assert run(release).kept == 52


# The release ------------------------------------------------------------------------------------------------


def test_release_is_never_touched(tmp_path):
    root = tmp_path / "broken"
    break_release(root)
    everything = [root, *root.rglob("*")]
    modes = {path: path.stat().st_mode for path in everything}
    for path in everything:
        path.chmod(0o555 if path.is_dir() else 0o444)
    before = state(root), {path: path.stat().st_mtime_ns for path in everything}
    try:
        for _ in range(2):
            shutil.rmtree(run(root).folder / "train")  # the copies are no links: this harms nothing
        assert (state(root), {path: path.stat().st_mtime_ns for path in [root, *root.rglob("*")]}) == before
    finally:
        for path, mode in modes.items():
            path.chmod(mode)


def test_a_link_to_nowhere_is_a_finding_of_its_file(release):
    """As git-annex and DVC leave them."""
    photo = next((release.root / "train").glob("*_image.jpg"))
    photo.unlink()
    photo.symlink_to(release.root / "nowhere.jpg")
    found = restructure.scan(release, "helen")
    (finding,) = [finding for finding in found.findings if finding.severity == "error"]
    assert finding.file == photo.name and finding.reason.startswith("cannot be read")
