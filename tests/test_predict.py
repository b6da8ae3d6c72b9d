"""Photos of any size in, label maps of their own size out."""

import numpy as np
import pytest
import tiny
import torch
from PIL import Image

from helpers import augment, checkpoint, controls, masks, predict, preprocess, unet


@pytest.fixture(scope="module")
def parser():
    torch.manual_seed(0)
    settings = tiny.settings()
    return predict.Segmenter(unet.build(settings, 11), settings, "cpu")


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


def test_very_large_photos_are_enlarged_in_two_steps():
    logits = torch.zeros(2, 2, 2)
    logits[1, :, 1] = 1  # right half
    logits[0, :, 0] = 1
    label = predict.enlarge(logits, (3000, 2000))
    assert label.shape == (3000, 2000) and (label[:, :990] == 0).all() and (label[:, 1010:] == 1).all()


def test_a_folder_is_predicted_and_a_broken_photo_reported(parser, tmp_path, capsys):
    checkpoint.write_export(tmp_path / "w.pt", parser.model.state_dict(), parser.settings, {}, "noise")
    for i in range(5):
        Image.fromarray(photo(40 + i, 50, i)).save(tmp_path / f"p{i}.jpg", quality=95)
    (tmp_path / "p2.jpg").write_bytes(b"no photo")
    assert predict.main([str(tmp_path), str(tmp_path / "out"), "--weights", str(tmp_path / "w.pt")]) == 1
    said = capsys.readouterr()
    assert "left out: p2.jpg" in said.err and "4 label maps" in said.out
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == [f"p{i}.png" for i in (0, 1, 3, 4)]
    assert masks.read_label(tmp_path / "out" / "p3.png", 11).shape == (43, 50)


def test_photos_that_differ_in_suffix_alone_do_not_overwrite_each_other(parser, tmp_path):
    checkpoint.write_export(tmp_path / "w.pt", parser.model.state_dict(), parser.settings, {}, "noise")
    for name in ("a.jpg", "a.png"):
        Image.fromarray(photo(20, 20)).save(tmp_path / name)
    assert predict.main([str(tmp_path), str(tmp_path / "out"), "--weights", str(tmp_path / "w.pt")]) == 0
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == ["a.jpg.png", "a.png.png"]


def test_photos_are_never_overwritten(parser, tmp_path, capsys):
    Image.fromarray(photo(20, 20)).save(tmp_path / "a.png")
    before = (tmp_path / "a.png").read_bytes()
    assert predict.main([str(tmp_path), str(tmp_path)]) == 1
    assert "another folder" in capsys.readouterr().err and (tmp_path / "a.png").read_bytes() == before


def test_an_empty_folder_and_bad_weights_are_said(tmp_path, capsys):
    assert predict.main([str(tmp_path), str(tmp_path / "out")]) == 1
    assert "no photos" in capsys.readouterr().err
    Image.fromarray(photo(20, 20)).save(tmp_path / "a.jpg")
    assert predict.main([str(tmp_path), str(tmp_path / "out"), "--weights", str(tmp_path / "none.pt")]) == 1
    assert "none.pt: cannot be read" in capsys.readouterr().err


def test_the_upload_widget_takes_both_forms_of_value(parser):
    entry = {"name": "x.png", "content": memoryview(b"123")}
    assert controls.uploaded((entry,)) == controls.uploaded({"x.png": entry}) == [b"123"]
    box = controls.upload(parser)
    button, message, picture = box.children
    button.notify_change({"name": "value", "old": (), "new": (entry,), "owner": button, "type": "change"})
    assert "cannot be read as a photo" in message.value and not picture.value
