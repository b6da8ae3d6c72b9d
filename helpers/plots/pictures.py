"""Photos, label maps, overlays and errors in rows, pixel for pixel."""

from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure
from PIL import Image

from ..catalog import Dataset
from ..core.masks import VOID, colorize
from .canvas import INK, LABEL, LINE, SMALL, WIDTH, class_legend, legend_shape, make_figure, percent, place, shorten

WRONG, RIGHT, EDGE, UNSCORED = (204, 0, 90), (226, 226, 226), (188, 188, 188), (140, 140, 140)
Images = Sequence[np.ndarray] | np.ndarray  # uint8: a list of [H,W,3] or [H,W], or one array of them
Texts = Sequence[str] | None
Tile = tuple[np.ndarray, str]  # a picture uint8 [h,w,3] and the text above it
Rows = list[list[Tile]]


def overlay(image: np.ndarray, label: np.ndarray, dataset: Dataset, alpha: float = 0.5) -> np.ndarray:
    """Photo uint8 [H,W,3] tinted by label uint8 [H,W] -> uint8 [H,W,3]; edges twice as strong, void untouched."""
    if image.shape[:2] != label.shape:
        raise ValueError(f"photo {image.shape[:2]} and label {label.shape} differ in size")
    weight = np.where(_edges(label), min(1.0, 2 * alpha), alpha) * (label != VOID)
    mixed = image + (colorize(label, dataset) - image.astype(np.float32)) * weight[..., None]
    return np.rint(mixed).astype(np.uint8)


def error_map(truth: np.ndarray, prediction: np.ndarray) -> np.ndarray:
    """Two labels uint8 [H,W] -> uint8 [H,W,3]: wrong pixels magenta on pale grey, the truth's void dark grey."""
    if truth.shape != prediction.shape:
        raise ValueError(f"truth {truth.shape} and prediction {prediction.shape} differ in size")
    picture = np.where(_edges(truth)[..., None], EDGE, RIGHT).astype(np.uint8)
    picture[truth != prediction] = WRONG
    picture[truth == VOID] = UNSCORED
    return picture


def _edges(label: np.ndarray) -> np.ndarray:
    """Label [H,W] -> bool [H,W]: pixels whose right or lower neighbour has another id."""
    edge = np.zeros(label.shape, bool)
    edge[:, :-1] |= label[:, :-1] != label[:, 1:]
    edge[:-1] |= label[:-1] != label[1:]
    return edge


def pairs(images: Images, labels: Images, dataset: Dataset, titles: Texts = None, columns: int = 4) -> Figure:
    """Photos uint8 [H,W,3], each beside its label uint8 [H,W]; `columns` counts both: 4 are two samples a row."""
    side = (WIDTH - 6) // columns - 6
    tiles: list[Tile] = []
    for image, label, title in zip(images, labels, titles or [""] * len(images), strict=True):
        tiles += [(_photo(image, side), title), (_map(colorize(label, dataset), side), "")]
    columns = max(2, columns // 2 * 2)  # a photo and its label stay in one row
    return _grid(_rows(tiles, columns), side, dataset)


def batch(images: Images, labels: Images, dataset: Dataset, columns: int = 5, width: int = WIDTH) -> Figure:
    """Photos uint8 [B,H,W,3] in rows of `columns`, under each its label uint8 [B,H,W]; at most `width` pixels wide."""
    side = min(150, (width - 4) // columns - 4)
    photos = _rows([(_photo(image, side), "") for image in images], columns)
    maps = _rows([(_map(colorize(label, dataset), side), "") for label in labels], columns)
    return _grid([row for pair in zip(photos, maps, strict=True) for row in pair], side, dataset, gap=4)


def predictions(images: Images, truths: Images, labels: Images, dataset: Dataset, titles: Texts = None) -> Figure:
    """A row an image: photo uint8 [H,W,3], true and predicted label uint8 [H,W], overlay, errors; titles beside."""
    side = 150
    rows: Rows = []
    above = ["photo", "true label", "prediction", "overlay", "errors"]
    for image, truth, guess in zip(images, truths, labels, strict=True):
        tiles = [
            _photo(image, side),
            _map(colorize(truth, dataset), side),
            _map(colorize(guess, dataset), side),
            _tinted(image, guess, dataset, side),
            _map(error_map(truth, guess), side),
        ]
        rows.append(list(zip(tiles, [""] * 5 if rows else above, strict=True)))
    return _grid(rows, side, dataset, beside=titles)


def parse(image: np.ndarray, prediction: np.ndarray, dataset: Dataset) -> Figure:
    """One photo uint8 [H,W,3] with its label map uint8 [H,W] and overlay; the legend gives each class's share."""
    side = 290
    label_map = _map(colorize(prediction, dataset), side)
    tinted = _tinted(image, prediction, dataset, side)
    shares = [f"{name} {percent((prediction == i).mean())}" for i, name in enumerate(dataset.classes)]
    row = [(_photo(image, side), "photo"), (label_map, "prediction"), (tinted, "overlay")]
    return _grid([row], side, dataset, labels=shares)


def class_overlays(image: np.ndarray, prediction: np.ndarray, dataset: Dataset) -> Figure:
    """One tile a class present in prediction uint8 [H,W]: that class in colour on the photo in dim grey."""
    side = 174
    photo, label = _photo(image, side), _fit(prediction, side, smooth=False)
    grey = np.repeat((photo.mean(-1, keepdims=True) * 0.45 + 120).astype(np.uint8) & 0xFC, 3, -1)
    tiles = []
    for i in np.unique(prediction[prediction != VOID]):
        only = np.where(label == i, label, VOID)  # overlay leaves void as it is
        text = f"{dataset.classes[i]}  {percent((prediction == i).mean())}"
        tiles.append((overlay(grey, only, dataset, alpha=0.75), text))
    return _grid(_rows(tiles, columns=5), side)


def resampling(label_crop: np.ndarray, nearest: np.ndarray, bilinear: np.ndarray, dataset: Dataset) -> Figure:
    """A label uint8 [h,w] and its two resized forms [H,W]; the last tile marks where averaging changed the id."""
    side = 215
    rounded = np.rint(bilinear).astype(np.uint8)
    changed = rounded != nearest
    known = np.where(rounded < len(dataset.classes), rounded, VOID)  # void mixed in gives ids of no class
    pictures = {
        "label": colorize(label_crop, dataset),
        "nearest": colorize(nearest, dataset),
        "bilinear": colorize(known, dataset),
        f"changed by averaging: {percent(changed.mean())}": np.where(changed[..., None], WRONG, RIGHT).astype(np.uint8),
    }
    return _grid([[(_fit(picture, side, smooth=False), text) for text, picture in pictures.items()]], side, dataset)


def _fit(picture: np.ndarray, side: int, smooth: bool) -> np.ndarray:
    """uint8 [H,W] or [H,W,3] -> the same, its longer side `side` pixels; not smooth: nearest neighbour."""
    height, width = picture.shape[:2]
    scale = side / max(height, width)
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    how = Image.Resampling.LANCZOS if smooth else Image.Resampling.NEAREST
    return np.asarray(Image.fromarray(picture).resize(size, how))


def _photo(image: np.ndarray, side: int) -> np.ndarray:
    """Photo uint8 [H,W,3] -> tile; six bits a channel, which the eye does not miss, make the PNG a third smaller."""
    return _fit(np.ascontiguousarray(image), side, smooth=True) & 0xFC


def _map(picture: np.ndarray, side: int) -> np.ndarray:
    """Coloured label uint8 [H,W,3] -> tile: smooth when it shrinks, square pixels when it grows."""
    return _fit(picture, side, smooth=max(picture.shape) > side)


def _tinted(image: np.ndarray, label: np.ndarray, dataset: Dataset, side: int) -> np.ndarray:
    """Photo and label -> overlay tile, laid at the tile's size so that its edges stay one pixel thin."""
    return overlay(_photo(image, side), _fit(label, side, smooth=False), dataset)


def _rows(tiles: list[Tile], columns: int) -> Rows:
    """A flat list -> rows of at most `columns`."""
    return [tiles[i : i + columns] for i in range(0, len(tiles), columns)]


def _grid(
    rows: Rows, side: int, dataset: Dataset | None = None, labels: Texts = None, beside: Texts = None, gap: int = 6
) -> Figure:
    """Rows of tiles in cells `side` wide, texts beside the rows; the class legend (or `labels`) if dataset is given."""
    left = gap + (LINE if beside else 0)
    width = left + max(map(len, rows)) * (side + gap)
    heights = [max(picture.shape[0] for picture, _ in row) + LINE * any(text for _, text in row) for row in rows]
    bottom = legend_shape(labels or dataset.classes, width)[1] if dataset else 0
    y = sum(heights) + gap * (len(rows) + 1) + bottom
    figure = make_figure(width, y)
    for row, height, title in zip(rows, heights, beside or [""] * len(rows), strict=True):
        y -= gap + height
        for column, (picture, text) in enumerate(row):
            h, w = picture.shape[:2]  # in the middle of a cell of side x room
            room = height - (LINE if text else 0)
            axes = place(figure, left + column * (side + gap) + (side - w) // 2, y + (room - h) // 2, w, h)
            axes.imshow(picture, interpolation="nearest", aspect="auto")
            axes.set_axis_off()
            axes.set_title(shorten(text, side), pad=3, **LABEL)
        first = row[0][0].shape[0]
        at = (LINE / 2 + 2) / width, (y + first / 2) / figure.bbox.height
        figure.text(*at, shorten(title, first), rotation=90, ha="center", va="center", fontsize=SMALL, color=INK)
    if dataset:
        class_legend(figure, dataset, labels)
    return figure
