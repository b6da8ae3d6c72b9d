"""What every figure has to keep to."""

import pytest


@pytest.fixture
def texts_fit():
    """A function: every text of a figure is 11 pixels high or more, lies inside, and on no other."""

    def check(figure):
        figure.draw_without_rendering()
        texts = [*figure.texts, *[text for legend in figure.legends for text in legend.get_texts()]]
        for axes in figure.axes:
            texts += [*axes.texts, axes.title, axes._left_title, axes._right_title]
            for axis in (axes.xaxis, axes.yaxis) if axes.axison else ():
                low, high = sorted(axis.get_view_interval())
                ticks = [tick for tick in axis.get_major_ticks() if low <= tick.get_loc() <= high]
                texts += [axis.label, *[label for tick in ticks for label in (tick.label1, tick.label2)]]
        texts = [text for text in texts if text.get_text().strip() and text.get_visible()]
        boxes = [text.get_window_extent() for text in texts]
        for text, box in zip(texts, boxes, strict=True):
            assert text.get_fontsize() * figure.dpi / 72 >= 11, text
            assert box.x0 >= -1 and box.y0 >= -1, text
            assert box.x1 <= figure.bbox.width + 1 and box.y1 <= figure.bbox.height + 1, text
        boxes = [box.shrunk(0.98, 0.9) for box in boxes]
        crossed = [(a, b) for i, a in enumerate(boxes) for b in boxes[i + 1 :] if a.overlaps(b)]
        assert not crossed, [text.get_text() for text, box in zip(texts, boxes, strict=True) if box in crossed[0]]

    return check
