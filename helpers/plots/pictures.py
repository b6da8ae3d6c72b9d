"""Photos, label maps, overlays and errors in rows, pixel for pixel."""

from collections.abc import Sequence

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from numpy.lib.stride_tricks import sliding_window_view
from PIL import Image, ImageOps

from ..catalog import Dataset
from ..core.masks import VOID, colorize
from . import canvas
from .canvas import HUES, INK, LABEL, LINE, SMALL, WIDTH, make_figure, percent, place, spelled

WRONG, RIGHT, EDGE, UNSCORED = (204, 0, 90), (226, 226, 226), (188, 188, 188), (140, 140, 140)
Images = Sequence[np.ndarray] | np.ndarray  # uint8: a list of [H,W,3] or [H,W], or one array of them
Texts = Sequence[str]
Tile = tuple[np.ndarray, str]  # a picture uint8 [h,w,3] and the text above it
Rows = list[list[Tile]]


def overlay(image: np.ndarray, label: np.ndarray, dataset: Dataset, alpha: float = 0.5) -> np.ndarray:
    """Photo uint8 [H,W,3] tinted by label uint8 [H,W] -> uint8 [H,W,3]; edges twice as strong, void untouched."""
    weight = np.where(_edges(label), min(1.0, 2 * alpha), alpha) * (label != VOID)
    mixed = image + (colorize(label, dataset) - image.astype(np.float32)) * weight[..., None]
    return np.rint(mixed).astype(np.uint8)


def error_map(truth: np.ndarray, prediction: np.ndarray) -> np.ndarray:
    """Two labels uint8 [H,W] -> uint8 [H,W,3]: wrong pixels magenta on pale grey, the truth's void dark grey."""
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


def pairs(images: Images, labels: Images, dataset: Dataset, titles: Texts = ()) -> Figure:
    """Photos uint8 [H,W,3], each beside its label uint8 [H,W], two samples a row."""
    side = (WIDTH - 6) // 4 - 6
    tiles: list[Tile] = []
    for image, label, title in zip(images, labels, titles or [""] * len(images), strict=True):
        tiles += [(_photo(image, side), title), (_fit(colorize(label, dataset), side), "")]
    return _grid(_rows(tiles, columns=4), side, dataset)


def batch(
    images: Images, labels: Images, dataset: Dataset, columns: int = 5, width: int = WIDTH, titles: Texts = ()
) -> Figure:
    """Photos uint8 [B,H,W,3] in rows of `columns`, under each its label uint8 [B,H,W]; at most `width` pixels wide."""
    side = min(150, (width - 4) // columns - 4)
    titles = titles or [""] * len(images)
    photos = _rows([(_photo(image, side), title) for image, title in zip(images, titles, strict=True)], columns)
    maps = _rows([(_fit(colorize(label, dataset), side), "") for label in labels], columns)
    return _grid([row for pair in zip(photos, maps, strict=True) for row in pair], side, dataset, gap=4)


def predictions(images: Images, truths: Images, labels: Images, dataset: Dataset, titles: Texts = ()) -> Figure:
    """A row an image: photo uint8 [H,W,3], true and predicted label uint8 [H,W], errors; title and share of errors."""
    side = (WIDTH - 6) // 4 - 6
    rows, above, heads = [], [], ("photo", "truth", "prediction", "errors")
    for image, truth, guess, title in zip(images, truths, labels, titles or [""] * len(images), strict=True):
        small_truth, small_guess = _fit(truth, side), _fit(guess, side)  # so that an error is as wide as in the label
        maps = colorize(small_truth, dataset), colorize(small_guess, dataset), error_map(small_truth, small_guess)
        rows.append(list(zip((_photo(image, side), *maps), heads, strict=True)))
        wrong = (truth != guess)[truth != VOID]
        above.append(f"{title}   {percent(wrong.sum() / max(1, wrong.size))} of the pixels wrong".strip())
    return _grid(rows, side, dataset, above=above)


def parse(image: np.ndarray, prediction: np.ndarray, dataset: Dataset) -> Figure:
    """One photo uint8 [H,W,3] with its label map uint8 [H,W] and overlay; the legend gives each class's share."""
    side = 290
    label_map = _fit(colorize(prediction, dataset), side)
    tinted = _tinted(image, prediction, dataset, side)
    shares = [f"{spelled(dataset, name)} {percent((prediction == i).mean())}" for i, name in enumerate(dataset.classes)]
    row = [(_photo(image, side), "photo"), (label_map, "prediction"), (tinted, "overlay")]
    return _grid([row], side, dataset, labels=shares)


def class_overlays(image: np.ndarray, prediction: np.ndarray, dataset: Dataset) -> Figure:
    """One tile a class present in prediction uint8 [H,W]: that class in colour on the photo in dim grey."""
    side = (WIDTH - 6) // 5 - 6
    photo, label = _photo(image, side), _fit(prediction, side)
    grey = np.repeat((photo.mean(-1, keepdims=True) * 0.45 + 120).astype(np.uint8) & 0xFC, 3, -1)
    tiles = []
    for i in np.unique(prediction[prediction != VOID]):
        only = np.where(label == i, label, VOID)  # overlay leaves void as it is
        text = f"{spelled(dataset, dataset.classes[i], short=False)}  {percent((prediction == i).mean())}"
        tiles.append((overlay(grey, only, dataset, alpha=0.75), text))
    return _grid(_rows(tiles, columns=5), side)


def resampling(label: np.ndarray, nearest: np.ndarray, bilinear: np.ndarray, dataset: Dataset) -> Figure:
    """A label uint8 [h,w], and a crop of its two resized forms [H,W], id by id, where averaging invents most.

    Invented: an id that `nearest` holds neither there nor in the eight pixels around; it is framed.
    """
    rounded = np.rint(bilinear).astype(np.uint8)
    around = sliding_window_view(np.pad(nearest, 1, mode="edge"), (3, 3))
    invented = (around != rounded[..., None, None]).all((2, 3))
    high, wide = (min(12, side) for side in nearest.shape)
    counts = sliding_window_view(invented, (high, wide)).sum((2, 3))
    top, left = np.unravel_index(counts.argmax(), counts.shape)
    crop, side = np.s_[top : top + high, left : left + wide], 290
    known = np.where(rounded < len(dataset.classes), rounded, VOID)  # void mixed in gives ids of no class
    pictures = {
        f"label: averaging changes {percent((rounded != nearest).mean())} of it": label,
        "nearest: only ids of the label": nearest[crop],
        f"bilinear: {counts.max()} invented ids, framed": known[crop],
    }
    tiles = [(_fit(colorize(ids, dataset), side), text) for text, ids in pictures.items()]
    names = [f"{i}  {spelled(dataset, name, short=False)}" for i, name in enumerate(dataset.classes)]
    figure = _grid([tiles], side, dataset, labels=names)
    for axes, (h, w) in zip(figure.axes, (nearest.shape, (high, wide), (high, wide)), strict=True):
        axes.images[0].set_extent((-0.5, w - 0.5, h - 0.5, -0.5))  # from here on in ids, not in the tile's pixels
    _frame(figure.axes[0], (left - 0.5, top - 0.5), wide, high, "white")
    for axes, ids, shown in zip(figure.axes[1:], (nearest, rounded), (nearest, known), strict=True):
        bright = colorize(shown[crop], dataset) @ (0.3, 0.59, 0.11) > 120
        for (y, x), i in np.ndenumerate(ids[crop]):
            color = INK if bright[y, x] else "white"
            text = axes.text(x, y, f"{i}", color=color, fontsize=SMALL, ha="center", va="center")
            if ids is rounded and invented[crop][y, x]:
                _frame(axes, (x - 0.45, y - 0.45), 0.88, 0.88, np.divide(WRONG, 255))
                text.set_fontweight("bold")
    return figure


def _frame(axes: Axes, corner: tuple[float, float], width: float, height: float, color) -> None:
    """An empty rectangle on a picture."""
    axes.add_patch(Rectangle(corner, width, height, fill=False, edgecolor=color, linewidth=2))


def flips(image: np.ndarray, label: np.ndarray, dataset: Dataset) -> Figure:
    """Photo uint8 [H,W,3] and label uint8 [H,W]: as they are, mirrored alone, mirrored with left and right ids traded.

    Around the parts that have a left and a right, which are named; where that is the wrong side, in magenta. A label
    without such parts: before and mirrored.
    """
    table = np.arange(256, dtype=np.uint8)
    for pair in dataset.flip_pairs:
        table[list(pair)] = pair[::-1]
    sided = np.intersect1d(label, np.flatnonzero(table != np.arange(256)))
    crop = _around(np.isin(label, sided))
    image, label = image[crop], label[crop]
    mirrored, versions = (image[:, ::-1], label[:, ::-1]), {"before": (image, label)}
    if sided.size:
        versions["mirrored, ids kept: wrong"] = mirrored
        versions["mirrored, left and right ids traded"] = image[:, ::-1], table[label[:, ::-1]]
    else:
        versions["mirrored: no left and right classes"] = mirrored
    side = 290
    figure = _grid([[(_tinted(*pair, dataset, side), text) for text, pair in versions.items()]], side)
    for axes, (text, (_, ids)) in zip(figure.axes, versions.items(), strict=True):
        paper = dict(facecolor=np.divide(WRONG, 255) if "wrong" in text else INK, linewidth=0, pad=1.5)
        small = _fit(ids, side)
        for i in np.intersect1d(small, sided):
            ys, xs = np.nonzero(small == i)  # named above in the upper half, below in the lower one
            y, va = (ys.min() - 5, "bottom") if ys.mean() < len(small) / 2 else (ys.max() + 5, "top")
            name = spelled(dataset, dataset.classes[i], short=False)
            axes.text(xs.mean(), y, name, fontsize=SMALL, color="white", ha="center", va=va, bbox=paper)
    return figure


def _around(mask: np.ndarray) -> tuple[slice, slice]:
    """bool [H,W] -> rows and columns of the box around what is true, with four tenths of its width as a margin."""
    ys, xs = np.nonzero(mask)
    if not len(ys):
        return np.s_[:, :]
    margin = 1 + int(0.4 * np.ptp(xs))
    return np.s_[max(0, ys.min() - margin) : ys.max() + margin, max(0, xs.min() - margin) : xs.max() + margin]


def feature_maps(image: np.ndarray, levels: dict[str, np.ndarray]) -> Figure:
    """Photo uint8 [H,W,3] and features float [C,h,w] by block: a row a block, channels that differ most, each to 0..1.

    The first tile of a row is the photo at the size of that level.
    """
    side = (WIDTH - 6) // 6 - 6
    rows: Rows = []
    for name, maps in levels.items():
        high, wide = maps.shape[1:]
        small = np.asarray(Image.fromarray(image).resize((wide, high), Image.Resampling.BOX))
        tiles = [(_fit(small, side), f"{name}: {len(maps)}×{high}×{wide}")]
        for i in _unlike(maps, 5):
            low, top = np.quantile(maps[i], (0.01, 0.99))
            shade = np.clip((maps[i] - low) / max(top - low, 1e-9), 0, 1)
            picture = matplotlib.colormaps["magma"](np.rint(24 * shade) / 24)[..., :3]  # few colours: a smaller PNG
            tiles.append((_fit(np.rint(255 * picture).astype(np.uint8), side), f"channel {i}"))
        rows.append(tiles)
    return _grid(rows, side)


def _unlike(maps: np.ndarray, count: int) -> list[int]:
    """Features float [C,h,w] -> channels, each the one that those before explain least (a pivoted Gram-Schmidt)."""
    rest = maps.reshape(len(maps), -1).astype(float)
    rest -= rest.mean(1, keepdims=True)
    chosen: list[int] = []
    for _ in range(min(count, len(maps))):
        length = np.linalg.norm(rest, axis=1)
        length[chosen] = -1
        chosen.append(int(length.argmax()))
        axis = rest[chosen[-1]] / max(length.max(), 1e-9)
        rest -= np.outer(rest @ axis, axis)
    return chosen


def receptive_field(image: np.ndarray, gradient: np.ndarray, pixel: tuple[int, int], limit: int) -> Figure:
    """Photo uint8 [H,W,3]; how much each of its pixels moves one output pixel (row, column), float [H,W] >= 0.

    Heat on the photo with the square that holds 95 % of the gradient and the theoretical one of side `limit`; beside
    it the share of the gradient in a square over its side.
    """
    (high, wide), (y, x) = gradient.shape, pixel
    away = np.maximum(abs(np.arange(high) - y)[:, None], abs(np.arange(wide) - x))
    inside = np.cumsum(np.bincount(away.ravel(), weights=gradient.ravel())) / gradient.sum()
    sides = 2 * np.arange(len(inside)) + 1
    most = int(sides[np.searchsorted(inside, 0.95)])
    figure, (axes, curve) = canvas.charts(410, 2, columns=2)
    axes.imshow(_heated(image, gradient), interpolation="nearest", extent=(0, wide, high, 0))
    half = limit / 2 + 3  # the photo and the larger square are seen whole
    axes.set(xlim=(min(0, x - half), max(wide, x + half)), ylim=(max(high, y + half), min(0, y - half)))
    axes.set_axis_off()
    axes.set_title("what moves the output at the cross", **LABEL)
    curve.plot(sides, inside, color=INK, lw=1.6)
    end = 1.05 * max(limit, sides[-1])
    curve.set(xlim=(0, end), ylim=(0, 1.02), xlabel="side of the square, in pixels")
    curve.set_ylabel("share of the gradient inside")
    for width, color, text, height in ((most, HUES[0], "95 % lies within", 0.5), (limit, HUES[1], "at most", 0.25)):
        _frame(axes, (x + 0.5 - width / 2, y + 0.5 - width / 2), width, width, color)
        curve.axvline(width, color=color, lw=2)
        ha = "left" if width < end / 2 else "right"
        curve.text(width, height, f"  {text} {width} × {width}  ", ha=ha, **LABEL | dict(color=color))
    axes.plot(x + 0.5, y + 0.5, "+", color=HUES[5], markersize=12, markeredgewidth=2)
    return figure


def _heated(image: np.ndarray, heat: np.ndarray) -> np.ndarray:
    """Photo uint8 [H,W,3] in grey, the more the heat float [H,W] the more glowing -> uint8 [H,W,3]."""
    share = np.sqrt(heat / max(np.quantile(heat, 0.999), 1e-30)).clip(0, 1)  # the root, so that little is seen, too
    grey = np.repeat(image.mean(-1, keepdims=True) * 0.65, 3, -1)
    glow = 255 * matplotlib.colormaps["inferno"](0.3 + 0.7 * share)[..., :3]
    return (grey + (glow - grey) * share[..., None]).astype(np.uint8)


def _fit(picture: np.ndarray, side: int, smooth: bool = False) -> np.ndarray:
    """uint8 [H,W] or [H,W,3] -> the same, its longer side `side` pixels; not smooth: nearest neighbour."""
    how = Image.Resampling.LANCZOS if smooth else Image.Resampling.NEAREST
    return np.asarray(ImageOps.contain(Image.fromarray(np.ascontiguousarray(picture)), (side, side), how))


def _photo(image: np.ndarray, side: int) -> np.ndarray:
    """Photo uint8 [H,W,3] -> tile; six bits a channel, which the eye does not miss, make the PNG a third smaller."""
    return _fit(image, side, smooth=True) & 0xFC


def _tinted(image: np.ndarray, label: np.ndarray, dataset: Dataset, side: int) -> np.ndarray:
    """Photo and label -> overlay tile, laid at the tile's size so that its edges stay one pixel thin."""
    return overlay(_photo(image, side), _fit(label, side), dataset)


def _rows(tiles: list[Tile], columns: int) -> Rows:
    """A flat list -> rows of at most `columns`."""
    return [tiles[i : i + columns] for i in range(0, len(tiles), columns)]


def _grid(
    rows: Rows, side: int, dataset: Dataset | None = None, labels: Texts = (), gap: int = 6, above: Texts = ()
) -> Figure:
    """Rows of tiles in cells `side` wide, a text `above` each row; a dataset's legend, with its names or `labels`."""
    width = gap + max(map(len, rows)) * (side + gap)
    figure, bottom = make_figure(width, 1), 0.0
    if dataset:  # a narrow figure has no room for the long names
        names = canvas.spelled_all(dataset) if width > 600 else [canvas.plain(name) for name in dataset.classes]
        bottom = canvas.class_legend(figure, dataset, labels or names)
    above = above or [""] * len(rows)
    rooms = [max(picture.shape[0] for picture, _ in row) for row in rows]
    lines = [LINE * (any(text for _, text in row) + bool(title)) for row, title in zip(rows, above, strict=True)]
    y = sum(rooms) + sum(lines) + gap * (len(rows) + 1) + bottom
    figure.set_figheight((y + 1e-6) / canvas.DPI)
    for row, room, line, title in zip(rows, rooms, lines, above, strict=True):
        at = gap / width, (y - gap) / figure.bbox.height
        figure.text(*at, canvas.shorten(title, width - gap), va="top", fontsize=SMALL, color=INK)
        y -= gap + line + room
        for column, (picture, text) in enumerate(row):
            h, w = picture.shape[:2]  # in the middle of a cell of side x room
            axes = place(figure, gap + column * (side + gap) + (side - w) // 2, y + (room - h) // 2, w, h)
            axes.imshow(picture, interpolation="nearest", aspect="auto")
            axes.set(xticks=[], yticks=[])
            axes.spines[:].set(color=canvas.FAINT, linewidth=0.8)  # where void, which is white, meets the page
            axes.set_title(canvas.shorten(text, side), pad=3, **LABEL)
    return figure
