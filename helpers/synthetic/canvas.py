"""What the synthetic pictures share: a canvas that paints image and label together, noise, backdrops and a camera."""

from collections.abc import Callable, Sequence

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

Box = tuple[slice, slice]  # rows and columns of a canvas
Color = np.ndarray | Sequence[float]  # RGB in 0..1
Paint = Color | Callable[[Box], np.ndarray]  # one colour, or a function box -> colours [h,w,3]


def colors(codes: str) -> np.ndarray:
    """Colours as web pages write them, such as "fae0ce 4e3428" -> float[N,3] in 0..1."""
    return np.array([list(bytes.fromhex(code)) for code in codes.split()]) / 255


def muted(rng: np.random.Generator) -> np.ndarray:
    """A random colour of low saturation, as most things have, float[3]."""
    grey = rng.uniform(0.05, 0.9)
    return np.clip(grey + rng.normal(0, 0.1, 3) * (0.4 + grey), 0.02, 0.95)


def size_of(box: Box) -> tuple[int, int]:
    """Height and width in pixels."""
    return box[0].stop - box[0].start, box[1].stop - box[1].start


def mirror(*half: tuple[float, float]) -> np.ndarray:
    """One half of an outline -> the whole outline [N,2]; points with x = 0 lie on the axis and stay single."""
    return np.array([*half, *((-x, y) for x, y in reversed(half) if x)])


def circle(count: int) -> np.ndarray:
    """`count` points on the unit circle, float[count,2]."""
    turn = np.linspace(0, 2 * np.pi, count + 1)[:-1]
    return np.stack((np.cos(turn), np.sin(turn)), 1)


def between(top: np.ndarray, bottom: np.ndarray) -> np.ndarray:
    """The outline of the area between two lines [N,2] that run the same way."""
    return np.concatenate((top, bottom[::-1]))


def smooth(points: np.ndarray | Sequence, steps: int = 8) -> np.ndarray:
    """A closed Catmull-Rom curve through points [N,2] -> [N*steps,2]."""
    p = np.asarray(points, float)
    a, b, c, d = np.roll(p, 1, 0), p, np.roll(p, -1, 0), np.roll(p, -2, 0)
    t = np.linspace(0, 1, steps, endpoint=False)[:, None, None]
    curve = b + 0.5 * t * (c - a + t * (2 * a - 5 * b + 4 * c - d + t * (3 * (b - c) + d - a)))
    return curve.transpose(1, 0, 2).reshape(-1, 2)


def clouds(rng: np.random.Generator, shape: tuple[int, ...], cells: tuple[float, ...], fall: float = 0.6) -> np.ndarray:
    """Smooth noise float32 of shape (height, width), about normal: a sum of random grids with so many pixels a cell."""
    height, width = shape
    total, weight = np.zeros((height, width), np.float32), 0.0
    for k, cell in enumerate(cells):
        coarse = (max(2, int(height / cell) + 2), max(2, int(width / cell) + 2))
        grid = Image.fromarray(rng.standard_normal(coarse, dtype=np.float32))
        total += fall**k * np.asarray(grid.resize((width, height), Image.Resampling.BICUBIC))
        weight += fall ** (2 * k)
    return total / np.sqrt(weight)


def smooth_line(noise: np.ndarray, length: int) -> np.ndarray:
    """Cyclic noise averaged over `length` places, of unit spread."""
    kernel = np.hanning(length + 2)[1:-1]
    line = np.convolve(np.concatenate((noise, noise[:length])), kernel, "same")[: len(noise)]
    return (line / line.std()).astype(np.float32)


class Canvas:
    """Image float32[H,W,3] in 0..1 and label uint8[H,W], painted together."""

    def __init__(self, image: np.ndarray):
        self.image = image
        self.height, self.width = image.shape[:2]
        self.label = np.zeros((self.height, self.width), np.uint8)

    def box(self, points: np.ndarray, margin: float = 2) -> Box:
        """The part of the canvas that holds the points; one pixel of its edge if they lie outside."""
        limit = np.array((self.width, self.height))
        low = np.floor(points.min(0) - margin).astype(int).clip(0, limit - 1)
        high = np.ceil(points.max(0) + margin).astype(int).clip(low + 1, limit)
        return slice(low[1], high[1]), slice(low[0], high[0])

    def alpha(self, points: np.ndarray, box: Box, blur: float = 0) -> np.ndarray:
        """How much of each pixel of the box the polygon covers, float32 in 0..1."""
        height, width = size_of(box)
        fine = 4 if height * width < 40000 else 2
        sheet = Image.new("L", (width * fine, height * fine))
        ImageDraw.Draw(sheet).polygon(corners(points, box, fine), fill=255)
        return coverage(sheet, fine, blur)

    def lay(self, box: Box, alpha: np.ndarray, color: Color) -> None:
        """Blend a colour [3] or a field [h,w,3] over the box."""
        part = self.image[box]
        part += (np.asarray(color, np.float32) - part) * alpha[..., None]

    def shade(self, box: Box, alpha: np.ndarray, factor: float) -> None:
        """Multiply by `factor` where alpha is 1."""
        self.image[box] *= (1 + (factor - 1) * alpha)[..., None]

    def paint(
        self, points: np.ndarray, color: Paint, id: int | None = None, blur: float = 0, opacity: float = 1
    ) -> None:
        """Fill an outline. With an id its sharp shape goes into the label."""
        box = self.box(points, 2 + 3 * blur)
        alpha = self.alpha(points, box)
        if id is not None:
            self.label[box][alpha >= 0.5] = id
        if blur:
            alpha = self.alpha(points, box, blur)
        self.lay(box, alpha * opacity, color(box) if callable(color) else color)

    def line(self, points: np.ndarray, color: Color, width: float, opacity: float = 1, blur: float = 0) -> None:
        """An open stroke of `width` pixels; the label stays."""
        self.lines(points[None], color, width, opacity, blur)

    def lines(
        self, strokes: np.ndarray, color: Color, width: float, opacity: float = 1, blur: float = 0, fine: int = 3
    ) -> None:
        """Many strokes [count,N,2] at once, drawn `fine` times as large and reduced; the label stays."""
        box = self.box(strokes.reshape(-1, 2), 2 + width + 3 * blur)
        height, columns = size_of(box)
        sheet = Image.new("L", (columns * fine, height * fine))
        pen = ImageDraw.Draw(sheet)
        for points in strokes:
            pen.line(corners(points, box, fine), 255, max(1, round(width * fine)), joint="curve")
        self.lay(box, coverage(sheet, fine, blur) * opacity, color)


def corners(points: np.ndarray, box: Box, fine: int) -> list[tuple[float, float]]:
    """Points of the canvas -> of a sheet that shows the box `fine` times as large."""
    return [(x, y) for x, y in ((points - (box[1].start, box[0].start)) * fine).tolist()]


def coverage(sheet: Image.Image, fine: int, blur: float) -> np.ndarray:
    """A sheet `fine` times as large -> how much of each pixel is white, float32 in 0..1."""
    sheet = sheet.reduce(fine)
    if blur:
        sheet = sheet.filter(ImageFilter.GaussianBlur(float(blur)))
    return np.asarray(sheet, np.float32) / 255


def to_image(values: np.ndarray) -> Image.Image:
    """float[H,W,3] in 0..1 -> Image."""
    return Image.fromarray((np.clip(values, 0, 1) * 255 + 0.5).astype(np.uint8))


def enlarge(picture: np.ndarray | Image.Image, height: int, width: int) -> np.ndarray:
    """A small picture, Image or float[h,w,3] in 0..1 -> float32[height,width,3] in 0..1."""
    image = picture if isinstance(picture, Image.Image) else to_image(picture)
    return np.asarray(image.resize((width, height), Image.Resampling.BILINEAR), np.float32) / 255


def backdrop(rng: np.random.Generator, height: int, width: int, own: list[np.ndarray]) -> np.ndarray:
    """A textured backdrop: wall, bokeh, foliage or planks; it shares some of the subject's own colours."""
    palette = []
    for _ in range(3):
        shared = rng.random() < 0.5
        palette.append(own[rng.integers(len(own))] * rng.uniform(0.7, 1.2) if shared else muted(rng))
    h, w = max(2, height // 2), max(2, width // 2)
    long = max(h, w)
    field = clouds(rng, (h, w), (long / rng.uniform(1.2, 3), long / 8, long / 25), 0.5)[..., None]
    kind = rng.choice(["wall", "bokeh", "foliage", "planks"])
    if kind == "planks":
        field = field * 0.3 + np.sin(np.arange(w) * 2 * np.pi / (w / rng.uniform(4, 14)))[None, :, None] * 0.8
    if kind == "foliage":
        field = field * 0.5 + clouds(rng, (h, w), (long / 30, long / 60, 3))[..., None] * 0.7
    picture = to_image(palette[0] + (palette[1] - palette[0]) * np.clip(0.5 + 0.4 * field, 0, 1))
    if kind == "bokeh":
        spots(ImageDraw.Draw(picture), rng, w, h, palette)
    return enlarge(picture.filter(ImageFilter.GaussianBlur(rng.uniform(0.5, 5))), height, width)


def spots(draw: ImageDraw.ImageDraw, rng: np.random.Generator, w: int, h: int, palette: list) -> None:
    """Blurred lights of the palette's colours."""
    for _ in range(rng.integers(8, 40)):
        x, y, r = rng.uniform(0, w), rng.uniform(0, h), rng.uniform(0.01, 0.09) * w
        color = np.clip(palette[rng.integers(3)] * rng.uniform(0.6, 1.9), 0, 1) * 255
        draw.ellipse((x - r, y - r, x + r, y + r), fill=tuple(int(c) for c in color))


def camera(rng: np.random.Generator, image: np.ndarray) -> np.ndarray:
    """Light in 0..1 [H,W,3] -> what a camera makes of it: contrast, blur and sensor noise, uint8[H,W,3]."""
    blurred = to_image(image ** rng.uniform(0.8, 1.05)).filter(ImageFilter.GaussianBlur(rng.uniform(0.2, 1.0)))
    noise = rng.standard_normal(image.shape[:2], dtype=np.float32)[..., None] * rng.uniform(1, 6)
    return np.clip(np.asarray(blurred, np.float32) + noise, 0, 255).astype(np.uint8)
