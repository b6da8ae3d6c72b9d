"""Widgets for the notebooks. No argument that only ipywidgets 8 has: Colab runs 7.7.1."""

import base64
import io

import ipywidgets
import numpy as np
from PIL import Image, ImageOps

from . import files, plots
from .predict import Segmenter


def uploaded(value: dict | tuple) -> list[bytes]:
    """The contents of a FileUpload's value: a dict of dicts in ipywidgets 7, a tuple of dicts in 8."""
    entries = value.values() if isinstance(value, dict) else value
    return [bytes(entry["content"]) for entry in entries]


def decode(data: bytes) -> np.ndarray:
    """An encoded photo -> uint8 [H,W,3], upright; one of files.UNREADABLE if it is none."""
    with Image.open(io.BytesIO(data)) as image:
        return files.to_rgb(ImageOps.exif_transpose(image))


def parse(segmenter: Segmenter, photo: np.ndarray) -> bytes:
    """uint8 [H,W,3] -> PNG of its parse."""
    return plots.png(plots.parse(photo, segmenter.predict([photo])[0], segmenter.dataset))


def upload(segmenter: Segmenter) -> ipywidgets.VBox:
    """A button that takes one photo of the reader's own and shows its parse below, or why it could not be read."""
    button = ipywidgets.FileUpload(accept="image/*", multiple=False, description="Upload a photo")
    picture, message = ipywidgets.HTML(), ipywidgets.HTML()
    box = ipywidgets.VBox([button, message, picture])

    def show(change):
        for data in uploaded(change["new"]):
            message.value = "parsing ..."
            try:
                photo = decode(data)
            except files.UNREADABLE as error:
                message.value = f"This file cannot be read as a photo ({type(error).__name__}): try a JPEG or PNG."
                continue
            picture.value = as_html(parse(segmenter, photo))
            message.value = ""

    button.observe(show, names="value")
    return box


def as_html(png: bytes) -> str:
    """A PNG as an HTML picture."""
    return f'<img src="data:image/png;base64,{base64.b64encode(png).decode()}" style="max-width: 100%">'
