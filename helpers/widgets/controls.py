"""Controls above a picture, and a picture of tiles. No argument that only ipywidgets 8 has: Colab runs 7.7.1."""

import base64
from collections.abc import Callable
from typing import Any

import ipywidgets
import numpy as np
from matplotlib.figure import Figure

from .. import plots
from ..plots.canvas import LABEL, LINE, WIDTH, make_figure, place, shorten


class Explorer(ipywidgets.VBox):
    """Controls above the picture that `draw` makes of their values; a notebook's file keeps that picture."""

    _ipython_display_ = None  # of ipywidgets 7: it would hide the bundle below

    def __init__(self, draw: Callable[[], Figure], *controls: ipywidgets.Widget):
        self.draw, self.controls = draw, controls
        self.picture = ipywidgets.Image(format="png", layout={"max_width": "100%", "object_fit": "contain"})
        super().__init__([ipywidgets.HBox(controls, layout={"flex_flow": "row wrap"}), self.picture])
        for control in controls:
            control.observe(self.redraw, names="value")
        self.redraw()

    def redraw(self, _: Any = None) -> None:
        """The picture as the controls stand now."""
        self.picture.value = plots.png(self.draw())

    def _repr_mimebundle_(self, **_: Any) -> dict:
        """The widget where a kernel stands behind it, elsewhere the picture."""
        still = base64.b64encode(self.picture.value).decode()
        view = {"version_major": 2, "version_minor": 0, "model_id": self.model_id}
        texts = {"text/plain": "A picture with controls: run the cell to use them."}
        return texts | {"image/png": still, "application/vnd.jupyter.widget-view+json": view}


def tiles(pictures: dict[str, np.ndarray], text: str = "") -> Figure:
    """Up to three pictures side by side, photos uint8 [h,w,3] or numbers [h,w], and a line of text above them."""
    figure = make_figure(WIDTH, 320 + LINE * bool(text))
    figure.text(10 / WIDTH, 1 - 12 / figure.bbox.height, text, va="center", **LABEL)
    for i, (title, picture) in enumerate(pictures.items()):
        axes = place(figure, 10 + 298 * i, 10, 284, 284)
        axes.imshow(picture, cmap="magma", interpolation="nearest")
        axes.set_axis_off()
        axes.set_title(shorten(title, 284), pad=4, **LABEL)
    return figure
