"""The upload button parses a photo, or says why it cannot, in ipywidgets 7 and 8."""

import io

import numpy as np
import pytest
import tiny
from PIL import Image

from helpers import predict, unet, widgets
from helpers.widgets.upload import contents, decode


def entry(picture, **options):
    """What a browser uploads."""
    buffer = io.BytesIO()
    Image.fromarray(picture).save(buffer, **options)
    return {"name": "x", "content": memoryview(buffer.getvalue())}


@pytest.fixture(scope="module")
def segmenter():
    settings = tiny.settings()
    return predict.Segmenter(unet.build(settings, 11), settings, "cpu")


def send(box, value):
    button = box.children[0]
    button.notify_change({"name": "value", "old": (), "new": value, "owner": button, "type": "change"})


def test_a_value_has_two_forms():
    one = {"name": "x.png", "content": memoryview(b"123")}
    assert contents((one,)) == contents({"x.png": one}) == [b"123"]


def test_a_photo_is_upright_and_rgb():
    exif = Image.Exif()
    exif[0x0112] = 6  # taken with the camera turned by 90 degrees
    stored = np.zeros((4, 6), np.uint8)
    stored[0, 0] = 255
    photo = decode(bytes(entry(stored, format="PNG", exif=exif)["content"]))
    assert photo.shape == (6, 4, 3) and photo[0, 3].tolist() == [255, 255, 255]


def test_a_parse_appears_and_stays_when_the_next_file_is_no_photo(segmenter):
    box = widgets.upload(segmenter)
    send(box, (entry(np.zeros((30, 40, 3), np.uint8), format="PNG"),))
    _, message, picture = box.children
    assert picture.value[:4] == b"\x89PNG" and message.value == ""
    send(box, {"y": {"content": b"123"}})
    assert "cannot be read as a photo" in message.value and box.children[2] is picture
