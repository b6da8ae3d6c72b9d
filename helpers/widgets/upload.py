"""A button for a photo of the reader's own. No argument that only ipywidgets 8 has: Colab runs 7.7.1."""

import io

import ipywidgets
import numpy as np
from PIL import Image, ImageOps

from .. import plots
from ..core import files
from ..predict import Segmenter


def upload(segmenter: Segmenter) -> ipywidgets.VBox:
    """A button that takes one photo of the reader's own and shows its parse below, or why it could not be read."""
    button = ipywidgets.FileUpload(accept="image/*", multiple=False, description="Upload a photo")
    message = ipywidgets.HTML()
    box = ipywidgets.VBox([button, message])

    def show(change: dict) -> None:
        for data in contents(change["new"]):
            message.value = "parsing ..."
            try:
                photo = decode(data)
            except files.UNREADABLE as error:
                message.value = f"This file cannot be read as a photo ({type(error).__name__}): try a JPEG or PNG."
                continue
            figure = plots.parse(photo, segmenter.predict([photo])[0], segmenter.dataset)
            picture = ipywidgets.Image(value=plots.png(figure), format="png")
            picture.layout.max_width = "100%"
            box.children, message.value = (button, message, picture), ""

    button.observe(show, names="value")
    return box


def contents(value: dict | tuple) -> list[bytes]:
    """The files in a FileUpload's value: a dict of dicts in ipywidgets 7, a tuple of dicts in 8."""
    entries = value.values() if isinstance(value, dict) else value
    return [bytes(entry["content"]) for entry in entries]


def decode(data: bytes) -> np.ndarray:
    """An encoded photo -> uint8 [H,W,3], upright; one of files.UNREADABLE if it is none."""
    with Image.open(io.BytesIO(data)) as image:
        return files.to_rgb(ImageOps.exif_transpose(image))
