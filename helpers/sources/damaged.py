"""Small damaged data for the lesson, on which notebook 01 shows what the checks report."""

from pathlib import Path

import numpy as np
from PIL import Image

from .restructure import Release


def release(root: Path) -> Release:
    """A damaged release of faces: only the samples `sound` and `sound_too` are valid."""
    for split in ("train", "test"):
        (root / split).mkdir(parents=True)
    for name in ("train/sound", "train/cut", "train/odd_id", "train/no_photo", "test/sound_too"):
        label = 42 if name == "train/odd_id" else 1
        Image.fromarray(np.full((40, 30), label, np.uint8)).save(root / f"{name}_label.png")
    for name in ("train/sound", "train/cut", "train/odd_id", "test/sound_too"):
        Image.fromarray(np.full((40, 30, 3), len(name), np.uint8)).save(root / f"{name}_image.jpg")
    cut = root / "train/cut_image.jpg"
    cut.write_bytes(cut.read_bytes()[:200])
    return Release(root, "synthetic", "damaged for this lesson")


def streets(root: Path) -> Path:
    """Five streets of three stripes: one with unknown colours, one without a mask, one with a mask of another size."""
    (root / "images").mkdir(parents=True)
    (root / "masks").mkdir()
    (root / "class_dict.csv").write_text("name,r,g,b\nSky,128,128,128\nBuilding,128,0,0\nRoad,128,64,128\n")
    for number in range(5):
        Image.fromarray(np.full((40, 60, 3), 40 * number, np.uint8)).save(root / f"images/{number}.png")
        colors = np.full((40, 60, 3), (128, 128, 128), np.uint8)
        colors[15:30], colors[30:] = (128, 0, 0), (128, 64, 128)
        if number == 2:
            colors[20:38, 30:50], colors[15:17] = (64, 192, 128), (130, 0, 0)
        if number != 3:
            Image.fromarray(colors[::2, ::2] if number == 4 else colors).save(root / f"masks/{number}.png")
    return root
