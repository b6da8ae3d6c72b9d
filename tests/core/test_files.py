"""Label files and photos: what is refused, what is written, and that nothing is half written."""

import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from helpers.core import files, masks
from helpers.core.errors import DataError


def saved(path, array, mode=None):
    Image.fromarray(array, mode).save(path) if mode else Image.fromarray(array).save(path)
    return path


def test_a_label_comes_back_to_the_bit(tmp_path):
    label = np.random.default_rng(0).integers(0, 11, (17, 23), dtype=np.uint8)
    label[0, 0] = masks.VOID
    masks.write_label(tmp_path / "a.png", label)
    assert (masks.read_label(tmp_path / "a.png", 11) == label).all()
    assert [p.name for p in tmp_path.iterdir()] == ["a.png"]


def test_a_palette_s_index_is_the_id(tmp_path):
    image = Image.fromarray(np.array([[0, 3], [7, 10]], np.uint8))
    image = image.convert("P")
    image.putpalette(list(range(255, -1, -1)) * 3)
    image.save(tmp_path / "p.png")
    with Image.open(tmp_path / "p.png") as stored:
        assert stored.mode == "P" and (masks.read_label(tmp_path / "p.png", 256) == np.asarray(stored)).all()


def test_sixteen_bits_and_grey_rgb_are_read(tmp_path):
    ids = np.array([[0, 3], [7, 10]], np.uint8)
    saved(tmp_path / "w.png", ids.astype(np.uint16))
    saved(tmp_path / "rgb.png", np.repeat(ids[..., None], 3, 2))
    assert (masks.read_label(tmp_path / "w.png", 11) == ids).all()
    assert (masks.read_label(tmp_path / "rgb.png", 11) == ids).all()


@pytest.mark.parametrize("value", [11, 192, 254])
def test_unknown_ids_are_refused_by_name_and_number(tmp_path, value):
    saved(tmp_path / "x.png", np.array([[0, value]], np.uint8))
    with pytest.raises(DataError, match=rf"x\.png: ids outside 0-10: {value}; map"):
        masks.read_label(tmp_path / "x.png", 11)


def test_colours_are_not_ids(tmp_path):
    with pytest.raises(DataError, match=r"c\.png: holds colours"):
        masks.read_label(saved(tmp_path / "c.png", np.full((2, 2, 3), (1, 2, 3), np.uint8)), 11)


@pytest.mark.parametrize("content", [b"", b"not a picture", b"\x89PNG\r\n\x1a\n"])
def test_damaged_files_are_named(tmp_path, content):
    path = tmp_path / "d.png"
    path.write_bytes(content)
    with pytest.raises(DataError, match=r"d\.png: cannot be read as a label"):
        masks.read_label(path, 11)
    with pytest.raises(DataError, match=r"d\.png: cannot be read as a photo") as error:
        files.read_photo(path)
    assert str(tmp_path) not in str(error.value)


def test_a_truncated_photo_is_named(tmp_path):
    path = saved(tmp_path / "t.jpg", np.random.default_rng(0).integers(0, 255, (64, 64, 3), dtype=np.uint8))
    path.write_bytes(path.read_bytes()[:-900])
    with pytest.raises(DataError, match=r"t\.jpg"):
        files.read_photo(path)


def test_a_photo_is_turned_upright(tmp_path):
    image = Image.fromarray(np.zeros((10, 30, 3), np.uint8))
    exif = image.getexif()
    exif[0x0112] = 6  # camera held upright: turn by 90 degrees
    image.save(tmp_path / "e.jpg", exif=exif)
    assert files.read_photo(tmp_path / "e.jpg").shape == (30, 10, 3)


def test_sixteen_bit_photos_are_scaled_not_clipped(tmp_path):
    Image.fromarray(np.array([[0, 32768, 65535]], np.uint16)).save(tmp_path / "w.png")
    assert files.read_photo(tmp_path / "w.png")[0, :, 0].tolist() == [0, 128, 255]


@pytest.mark.parametrize(
    ("values", "white", "seen"),
    [
        ([0, 128, 255], 0, [0, 128, 255]),  # 8 bits in 16
        ([0, 2048, 4095], 0, [0, 128, 255]),
        ([0, 2048, 4095], 8190, [0, 64, 128]),
        ([0.0, 0.5, 1.0], 1, [0, 128, 255]),
    ],
)
@pytest.mark.filterwarnings("ignore:.*is taken for white")
def test_a_sliver_of_sixteen_bits_is_scaled_by_what_is_stated_or_told(tmp_path, values, white, seen):
    kind = np.float32 if white == 1 else np.uint16
    Image.fromarray(np.array([values], kind)).save(tmp_path / "w.tif")
    assert files.read_photo(tmp_path / "w.tif", white)[0, :, 0].tolist() == seen


def test_what_is_taken_for_white_is_said_and_what_lies_beyond_is_refused(tmp_path):
    Image.fromarray(np.array([[0, 4000]], np.uint16)).save(tmp_path / "w.png")
    with pytest.warns(UserWarning, match=r"w.png: .* from 0 to 4000: 4095 is taken for white; register .* white="):
        files.read_photo(tmp_path / "w.png")
    with pytest.raises(DataError, match="w.png: .* from 0 to 4000, outside 0 to white=1023"):
        files.read_photo(tmp_path / "w.png", 1023)
    Image.fromarray(np.array([[0.5]], np.float32)).save(tmp_path / "f.tif")
    with pytest.raises(DataError, match="f.tif: .*no defined white"):
        files.read_photo(tmp_path / "f.tif")


@pytest.mark.parametrize(("value", "white", "good"), [(40000, 0, True), (4000, 0, False), (40000, 4095, False)])
def test_colours_of_sixteen_bits_are_read_if_they_fill_them(tmp_path, value, white, good):
    """PIL writes none, so the PNG is put together by hand: one pixel of three channels."""
    parts = [(b"IHDR", struct.pack(">IIBBBBB", 1, 1, 16, 2, 0, 0, 0)), (b"IEND", b"")]
    parts.insert(1, (b"IDAT", zlib.compress(b"\0" + struct.pack(">3H", value, value, value))))
    chunks = [struct.pack(">I", len(d)) + n + d + struct.pack(">I", zlib.crc32(n + d)) for n, d in parts]
    (tmp_path / "c.png").write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(chunks))
    if good:
        assert files.read_photo(tmp_path / "c.png", white).tolist() == [[[value >> 8] * 3]]
    else:
        with pytest.raises(DataError, match="c.png: .*save it with 8 bits a channel"):
            files.read_photo(tmp_path / "c.png", white)


@pytest.mark.parametrize("mode", ["L", "RGBA", "P", "CMYK"])
def test_every_mode_of_photo_becomes_rgb(tmp_path, mode):
    name = "m.jpg" if mode == "CMYK" else "m.png"
    Image.new(mode, (7, 5)).save(tmp_path / name)
    photo = files.read_photo(tmp_path / name)
    assert photo.shape == (5, 7, 3) and photo.dtype == np.uint8


def test_a_label_of_another_type_is_not_written(tmp_path):
    with pytest.raises(ValueError, match="uint8"):
        masks.write_label(tmp_path / "a.png", np.zeros((2, 2), np.int64))
    assert not list(tmp_path.iterdir())


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path):
    files.write_atomic(tmp_path / "a", b"old")
    with pytest.raises(OSError, match="no space"), files.atomic(tmp_path / "a") as file:
        file.write(b"new")
        raise OSError("no space")
    assert (tmp_path / "a").read_bytes() == b"old" and len(list(tmp_path.iterdir())) == 1
