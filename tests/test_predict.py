"""Photos of any size in, label maps of their own size out; and the network as ONNX."""

import errno
import json
import re
import sys
import threading
import time
import weakref

import numpy as np
import pytest
import tiny
import torch
from PIL import Image

from helpers import augment, predict, preprocess, unet
from helpers.core import files, masks
from helpers.core.errors import DataError, UNetError
from helpers.core.registry import load_dataset
from helpers.settings import make_settings
from helpers.sources import custom
from helpers.training import export


@torch.no_grad()
def segmenter_of(flip=False, **changes):
    """An untrained Segmenter that tells all its classes apart: a new network answers with one, whatever it sees."""
    torch.manual_seed(0)
    settings = tiny.settings(**changes)
    model = unet.build(settings, 11)
    for norm in (m for m in model.modules() if isinstance(m, torch.nn.BatchNorm2d)):
        norm.running_mean.uniform_(-0.5, 0.5)
        norm.running_var.uniform_(0.2, 0.5)
    segmenter = predict.Segmenter(model, settings, "cpu", flip)
    seen = segmenter.logits([photo(*settings.shape)])
    model.out.weight /= seen.std((0, 2, 3))[:, None, None, None]
    model.out.bias.copy_((model.out.bias - seen.mean((0, 2, 3))) / seen.std((0, 2, 3)))
    assert len(np.unique(segmenter.predict([photo(*settings.shape)]))) > 5
    return segmenter


@pytest.fixture(scope="module")
def parser():
    return segmenter_of()


def photo(height, width, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


@pytest.mark.parametrize("size", [(32, 32), (1, 1), (7, 300), (501, 333), (1500, 1100)])
def test_the_label_has_the_photo_s_size(parser, size):
    (label,) = parser.predict([photo(*size)])
    assert label.shape == size and label.dtype == np.uint8 and label.max() < 11


def test_at_its_own_size_nothing_is_interpolated(parser):
    image = photo(32, 32)
    with torch.no_grad():
        x = augment.to_float(torch.from_numpy(image)[None], 0.5, 0.25)
        expected = parser.model(x).argmax(1)[0].numpy()
    assert (parser.predict([image])[0] == expected).all()


def test_the_photo_is_resized_as_for_training(parser):
    image = photo(90, 50)
    small = preprocess.resize_photo(image, 32)
    torch.testing.assert_close(parser.logits([image]), parser.logits([small]))


def test_a_photo_alone_and_in_a_batch_of_other_sizes_agree(parser):
    images = [photo(40, 60, 1), photo(90, 30, 2), photo(64, 64, 3)]
    together = parser.predict(images)
    assert all(
        (parser.predict([image])[0] == label).mean() > 0.999 for image, label in zip(images, together, strict=True)
    )


def test_enlarging_moves_the_border_to_where_the_logits_are_equal():
    logits = torch.tensor([[[4.0, 0.0]], [[0.0, 1.0]]])  # 4(1-s) = s at s = .8 between the two pixel centres
    assert predict.enlarge(logits, (1, 100)).tolist() == [[0] * 65 + [1] * 35]


@pytest.mark.parametrize("size", [(1, 1), (9, 7), (40, 333)])
def test_enlarging_by_channels_is_enlarging_whole(size):
    logits = torch.randn(31, 9, 7)
    logits[3] = logits[17]  # of equal ones the first
    whole = torch.nn.functional.interpolate(logits[None], size, mode="bilinear", align_corners=False)
    assert (predict.enlarge(logits, size) == whole.argmax(1)[0].numpy()).all()


def test_very_large_photos_are_enlarged_in_two_steps():
    logits = torch.zeros(2, 2, 2)
    logits[1, :, 1] = 1  # right half
    logits[0, :, 0] = 1
    label = predict.enlarge(logits, (3000, 2000))
    assert label.shape == (3000, 2000) and (label[:, :990] == 0).all() and (label[:, 1010:] == 1).all()


# Many photos: decoding, network and writing overlap


@pytest.fixture
def folder(tmp_path):
    """Ten photos of ten sizes, one of them broken: name -> file."""
    paths = {f"p{i}": tmp_path / f"p{i}.png" for i in range(10)}
    for i, path in enumerate(paths.values()):
        Image.fromarray(photo(20 + 7 * i, 90 - 5 * i, i)).save(path)
    paths["p6"].write_bytes(b"no photo")
    return paths


@pytest.mark.parametrize("batch", [1, 4])
@pytest.mark.parametrize("flip", [False, True])
def test_a_folder_gets_what_its_batches_get_one_by_one(parser, folder, tmp_path, batch, flip):
    """The same photos in the same batches, so the same bits: other batch sizes may add up in another order."""
    segmenter, out, names = predict.Segmenter(parser.model, parser.settings, "cpu", flip), tmp_path / "out", [*folder]
    assert predict.predict_files(segmenter, {}, out, batch) == {}
    assert list(predict.predict_files(segmenter, folder, out, batch)) == ["p6"]
    assert len(list(out.iterdir())) == 9
    for chunk in (names[i : i + batch] for i in range(0, 10, batch)):
        good = {n: files.read_photo(folder[n]) for n in chunk if n != "p6"}
        for name, label in zip(good, segmenter.predict(list(good.values())) if good else [], strict=True):
            assert (masks.read_label(out / f"{name}.png", 11) == label).all()


class Census:
    """How many of the arrays shown to it are alive, and how many were at most."""

    def __init__(self):
        self.alive, self.most, self.lock = 0, 0, threading.Lock()

    def add(self, array):
        with self.lock:
            self.alive += 1
            self.most = max(self.most, self.alive)
        weakref.finalize(array, self.leave)
        return array

    def leave(self):
        with self.lock:
            self.alive -= 1


def test_memory_does_not_grow_with_the_folder(parser, tmp_path, monkeypatch):
    """However slow the writing, two batches of photos and one of label maps are alive."""
    photos, labels, enlarge, write = Census(), Census(), predict.enlarge, masks.write_label
    monkeypatch.setattr(files, "read_photo", lambda path, _: photos.add(photo(30, 30)))
    monkeypatch.setattr(predict, "enlarge", lambda *one: labels.add(enlarge(*one)))
    monkeypatch.setattr(masks, "write_label", lambda *one: (time.sleep(0.01), write(*one)))
    assert not predict.predict_files(parser, {f"p{i}": tmp_path / f"p{i}" for i in range(40)}, tmp_path / "out", 4)
    assert len(list((tmp_path / "out").iterdir())) == 40
    assert 4 <= photos.most <= 2 * 4 and labels.most <= 4
    assert photos.alive == labels.alive == 0


def test_a_batch_is_written_while_the_network_works_on_the_next(parser, folder, tmp_path, monkeypatch):
    second, met, calls, logits, write = threading.Event(), [], [], parser.logits, masks.write_label

    def network(photos):
        calls.append(len(photos))
        if len(calls) == 2:
            second.set()
        return logits(photos)

    def wait(*one):
        met.append(second.wait(10))
        write(*one)

    monkeypatch.setattr(parser, "logits", network)
    monkeypatch.setattr(masks, "write_label", wait)
    predict.predict_files(parser, folder, tmp_path / "out", 2)
    assert calls == [2, 2, 2, 1, 2] and met == [True] * 9


def test_a_full_disk_is_reported_and_leaves_no_half_label_map(parser, folder, tmp_path, monkeypatch):
    room, out = iter([True] * 3), tmp_path / "out"

    def sync(file):
        if not next(room, False):
            raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(files.os, "fsync", sync)
    with pytest.raises(DataError, match=r"p\d.png: cannot be written \(No space left on device\); make room"):
        predict.predict_files(parser, folder, out, 2)
    written = sorted(p.name for p in out.iterdir())
    assert len(written) == 3 and all(re.fullmatch(r"p\d\.png", name) for name in written)
    assert all(masks.read_label(out / name, 11).size for name in written)


# The mirror image


class Ruler(torch.nn.Module):
    """A network whose output is known: channel c is 100 c + red + 1000 times the column."""

    def __init__(self, classes):
        super().__init__()
        self.classes = classes

    def forward(self, x):
        columns = 1000.0 * torch.arange(x.shape[-1])
        return torch.stack([100.0 * c + x[:, 0] + columns for c in range(self.classes)], 1)


@pytest.mark.parametrize("dataset", ["helen", "pets"])
def test_the_mirror_image_s_columns_and_classes_are_turned_back(dataset):
    """pets has no left and right: only its columns are turned."""
    settings = make_settings(dataset, "tuned", "smoke", size=16, columns=24, depth=2, mean=0.0, std=1.0)
    row = load_dataset(dataset)
    image = np.random.default_rng(0).choice([0, 255], (16, 24, 3)).astype(np.uint8)
    logits = predict.Segmenter(Ruler(len(row.classes)), settings, "cpu", flip=True).logits([image])
    partner = {a: b for pair in row.flip_pairs for a, b in (pair, pair[::-1])}
    expected = [50.0 * (c + partner.get(c, c)) + image[..., 0] / 255 + 500 * 23 for c in range(len(row.classes))]
    assert (logits[0].numpy() == np.stack(expected)).all()
    assert len(partner) == (4 if dataset == "helen" else 0)


@pytest.mark.parametrize("columns", [0, 48])
def test_with_flip_a_mirrored_photo_gets_the_mirrored_label_map(columns):
    """To the bit: both are the same two numbers' sum, and at the network's own size nothing is resized."""
    once, twice = (segmenter_of(flip, columns=columns) for flip in (False, True))
    image = photo(32, columns or 32, 1)
    mirrored = np.ascontiguousarray(image[:, ::-1])
    table = augment.flip_table(once.dataset.flip_pairs)

    def expected(segmenter):
        label = torch.from_numpy(segmenter.predict([image])[0])[None]
        return table[label.flip(2).long()][0].numpy()

    assert (twice.predict([mirrored])[0] == expected(twice)).all()
    assert not (once.predict([mirrored])[0] == expected(once)).all()


# ONNX


@pytest.mark.parametrize(
    "changes",
    [
        dict(up="transpose", norm="batch"),
        dict(up="nearest", norm="none", slope=0.0),
        dict(up="bilinear", norm="batch", mean=0.0, std=1.0),
        dict(size=50, columns=70, norm="none", flip=True),  # an odd side on the way: the skip is larger
    ],
)
def test_another_runtime_gives_the_same_logits(changes, tmp_path):
    import onnx
    import onnxruntime

    segmenter, path = segmenter_of(**changes), tmp_path / "new" / "net.onnx"
    predict.to_onnx(segmenter, path)
    onnx.checker.check_model(str(path), full_check=True)
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    for batch in (1, 3):
        photos = np.stack([photo(*segmenter.settings.shape, seed) for seed in range(batch)])
        expected = segmenter.logits(list(photos)).numpy()
        (logits,) = session.run(["logits"], {"photo": photos})
        assert logits.dtype == np.float32 and logits.shape == expected.shape
        np.testing.assert_allclose(logits, expected, rtol=1e-4, atol=1e-4)
        assert (logits.argmax(1) == expected.argmax(1)).mean() >= 0.999


def test_the_file_says_what_it_holds_and_nothing_of_this_machine(tmp_path):
    import onnx

    segmenter = segmenter_of()
    predict.to_onnx(segmenter, tmp_path / "n.onnx")
    model, row = onnx.load(tmp_path / "n.onnx"), segmenter.dataset
    metadata = {p.key: p.value for p in model.metadata_props}
    assert metadata.pop("dataset") == "helen"
    expected = {"classes": list(row.classes), "colors": [list(color) for color in row.colors], "size": [32, 32]}
    assert {k: json.loads(v) for k, v in metadata.items()} == expected
    content = (tmp_path / "n.onnx").read_bytes()
    assert not any(word in content for word in (b".py", str(tmp_path).encode(), b"stack_trace"))


def test_a_missing_package_is_named_with_its_remedy(parser, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnxscript", None)
    with pytest.raises(UNetError, match="pip install onnx onnxscript"):
        predict.to_onnx(parser, tmp_path / "n.onnx")
    assert not list(tmp_path.iterdir())


def test_an_export_of_own_data_names_its_own_classes_wherever_it_is_read(tmp_path, monkeypatch):
    """Not registered, or another dataset registered under its name: classes and colours are the file's."""

    def register(home, text, **options):
        monkeypatch.setenv("UNET_HOME", str(tmp_path / home))
        for kind, picture in (("images", photo(8, 8)), ("masks", np.eye(8, dtype=np.uint8))):
            (tmp_path / home / kind).mkdir(parents=True)
            Image.fromarray(picture).save(tmp_path / home / kind / "0.png")
        (tmp_path / home / "classes.txt").write_text(text)
        return custom.register(tmp_path / home, "mine", **options)

    row = register("a", "road\nsky", flip_pairs=[("road", "sky")], white=4095)
    settings = make_settings("mine", "tuned", "smoke")
    export.write_export(tmp_path / "best.pt", unet.build(settings, 2).state_dict(), settings, {}, "made up")
    assert predict.load(tmp_path / "best.pt", "cpu", flip=True).dataset == row
    monkeypatch.setenv("UNET_HOME", str(tmp_path / "b"))
    alone = predict.load(tmp_path / "best.pt", "cpu")
    assert (alone.dataset.classes, alone.dataset.colors) == (row.classes, row.colors) and alone.settings.white == 4095
    assert predict.load(tmp_path / "best.pt", "cpu", flip=True).dataset.flip_pairs == ((0, 1),)
    register("b", "tree\nsky\ncar")
    assert predict.load(tmp_path / "best.pt", "cpu").dataset == alone.dataset
    deep = Image.fromarray(np.full((8, 8), 2048, np.uint16))
    deep.save(tmp_path / "deep.png")
    seen, read_photo = [], files.read_photo
    monkeypatch.setattr(files, "read_photo", lambda *given: seen.append(read_photo(*given)) or seen[-1])
    assert predict.predict_files(alone, {"deep": tmp_path / "deep.png"}, tmp_path / "out") == {}
    assert np.unique(seen[0]).tolist() == [128]  # 2048 of 4095, as in training
