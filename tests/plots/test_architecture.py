"""The U shows every block of the network."""

import pytest
import torch

from helpers import plots, unet


@pytest.mark.parametrize("depth", [2, 3, 4, 5])
def test_architecture_has_a_box_a_block_and_no_text_on_another(depth):
    with torch.device("meta"):
        rows = unet.trace(unet.UNet(11, depth=depth), torch.empty(1, 3, 256, 256))
    figure = plots.architecture(rows)
    boxes = [patch.get_gid() for patch in figure.axes[0].patches if patch.get_gid()]
    assert boxes == ["photo", *[row["name"] for row in rows]]
    figure.draw_without_rendering()
    arrows = [text for text in figure.axes[0].texts if not text.get_text()]
    assert len(arrows) == 2 + 3 * depth  # in and out; at each level down, up, across
    texts = [text for text in [*figure.axes[0].texts, *figure.texts] if text not in arrows]
    extents = [text.get_window_extent().shrunk(0.98, 0.9) for text in texts]
    assert not any(a.overlaps(b) for i, a in enumerate(extents) for b in extents[i + 1 :])
