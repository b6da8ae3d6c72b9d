"""The U shows every block of the network, and what each takes in."""

import pytest
import torch

from helpers import plots, unet
from helpers.core.registry import load_dataset


@pytest.mark.parametrize("depth", [2, 3, 4, 5])
def test_architecture_has_a_box_a_block_and_no_text_on_another(depth, texts_fit):
    with torch.device("meta"):
        rows = unet.trace(unet.UNet(11, depth=depth), torch.empty(1, 3, 256, 256))
    figure = plots.architecture(rows)
    (axes,) = figure.axes
    boxes = [patch.get_gid() for patch in axes.patches if patch.get_gid()]
    assert boxes == ["photo", *[row["name"] for row in rows]]
    texts_fit(figure)
    arrows = [text.arrow_patch.get_window_extent() for text in axes.texts if not text.get_text()]
    assert len(arrows) == 2 + 3 * depth  # in and out; at each level down, up, across
    names = [text.get_window_extent() for text in axes.texts if ": " in text.get_text()]
    straight = [box for box in arrows if box.height < 12]  # of a bent one the extent is not the line
    assert len(straight) == 2 + depth and not any(a.overlaps(b) for a in straight for b in names)


def test_an_up_block_shows_the_two_halves_of_its_input_side_by_side():
    with torch.device("meta"):
        rows = unet.trace(unet.UNet(11, depth=2), torch.empty(1, 3, 64, 64))
    dataset = load_dataset("helen")
    (axes,) = plots.architecture(rows, dataset).axes
    up = next(i for i, patch in enumerate(axes.patches) if patch.get_gid() == "up2")
    copied, raised, body = axes.patches[up - 2 : up + 1]
    assert copied.get_x() + copied.get_width() == pytest.approx(raised.get_x())
    assert raised.get_x() + raised.get_width() == pytest.approx(body.get_x())
    assert copied.get_width() == raised.get_width() == body.get_width() / 2
    shown = [text.get_text() for text in axes.texts]
    assert "up2: 64" in shown and "from 64 + 64\n64 × 64\n143,680" in shown
    assert len([patch for patch in axes.patches if not patch.get_gid()]) == 2 * 2 + len(dataset.classes)
