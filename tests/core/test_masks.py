"""Label maps in their classes' colours."""

import numpy as np
import pytest

from helpers.core import masks
from helpers.core.errors import DataError
from helpers.core.registry import load_dataset

HELEN = load_dataset("helen")


def test_colorize_gives_the_catalogue_s_colours_and_refuses_the_rest():
    label = np.arange(11, dtype=np.uint8)[None]
    assert [tuple(c) for c in masks.colorize(label, HELEN)[0].tolist()] == list(HELEN.colors)
    void = masks.colorize(np.array([[255]], np.uint8), HELEN)[0, 0]
    assert tuple(void) not in HELEN.colors
    with pytest.raises(DataError, match="11"):
        masks.colorize(np.array([[11]], np.uint8), HELEN)
