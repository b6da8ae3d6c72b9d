"""Draws streets and pets with exact label maps, in the layouts of CamVid, Cityscapes pairs and Oxford-IIIT Pet.

A street is a world in metres (x to the right of the road's middle, y up, z ahead) seen from a car: ground and house
fronts are computed pixel by pixel, things stand in it as outlines, far ones first. One street gives a sequence of
frames, as a car drives along it. A pet is outlines with fur. Photo and label come from the same shapes.
"""

import functools
import io
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageFilter

from .. import catalog
from ..core import files, masks
from ..core.errors import DataError
from .faces import Canvas, background, camera, clouds, draw_all, jpeg, muted, smooth, smooth_line

# What is drawn: Cityscapes' classes by their ids, and what only the finer tables tell apart.
FINE = (*catalog.CITYSCAPES_CLASSES, "lane", "parking")
ID = {name: i for i, name in enumerate(FINE)}
VOID = masks.VOID  # the camera's own car, and what is of no class

FRAMES = 12  # of a sequence
STEP = 2.4  # metres between two frames


@dataclass(frozen=True)
class View:
    """A camera: pixel = center + focal * metres / depth."""

    height: int
    width: int
    focal: tuple[float, float]  # pixels, of x and y: pairs are photos of 2:1 squeezed into a square
    center: tuple[float, float]  # the vanishing point, pixels
    eye: tuple[float, float]  # metres: to the right of the road's middle, above the ground

    def at(self, points: np.ndarray, depth: float | np.ndarray) -> np.ndarray:
        """World [N,2] (x, y) at a depth -> pixels [N,2]."""
        x, y = np.asarray(points, float).T
        depth = np.maximum(depth, 0.5)
        right = self.center[0] + self.focal[0] * (x - self.eye[0]) / depth
        return np.stack((right, self.center[1] + self.focal[1] * (self.eye[1] - y) / depth), 1)


@dataclass(frozen=True)
class Thing:
    """Something that stands in the street: where, and its own generator's seed."""

    kind: str
    x: float
    z: float
    seed: int


@dataclass(frozen=True)
class Street:
    """One street: all that its frames share."""

    road: float  # metres from the middle to the kerb
    walk: float  # and to the fronts
    sun: float  # -1 from the left .. 1 from the right
    light: float  # overall
    sky: np.ndarray
    lane: str  # the middle line: dashed | solid | none
    parking: bool  # a strip for parking at the right kerb
    fronts: dict[int, list]  # side (-1, 1) -> [Front]
    things: list[Thing]


@dataclass(frozen=True)
class Front:
    """A piece of a street's side, from `start` on: a house, a park behind a fence, a wall, or a gap."""

    kind: str
    start: float
    height: float
    color: np.ndarray
    storey: float
    pitch: float  # metres from window to window
    glass: float  # how dark the windows are


# --- a street from a seed ---------------------------------------------------------------------------------------


def draw_fronts(rng: np.random.Generator, length: float) -> list[Front]:
    """One side of a street, front by front."""
    fronts, z = [], -rng.uniform(0, 10)
    while z < length:
        kind = str(rng.choice(["house", "park", "wall", "gap"], p=[0.64, 0.2, 0.08, 0.08]))
        color = np.clip(np.array([0.55, 0.46, 0.4]) * rng.uniform(0.4, 1.5) + rng.normal(0, 0.06, 3), 0.08, 0.95)
        height = rng.uniform(6, 17) if kind == "house" else rng.uniform(4, 9)
        storey, pitch, glass = rng.uniform((2.8, 1.8, 0.2), (3.8, 3.6, 0.6))
        fronts.append(Front(kind, z, height, color, storey, pitch, glass))
        z += rng.uniform(7, 22) * (0.5 if kind == "gap" else 1)
    return fronts


def draw_things(rng: np.random.Generator, road: float, walk: float, length: float) -> list[Thing]:
    """Cars, people, trees, poles and signs along a street."""
    odds = {
        "car": 0.3,
        "person": 0.15,
        "tree": 0.14,
        "pole": 0.14,
        "sign": 0.1,
        "light": 0.05,
        "rider": 0.05,
        "clutter": 0.05,
    }
    kinds = rng.choice([*odds, "bus"], size=int(length / 2.2), p=[*odds.values(), 0.02])
    kerb = rng.uniform(0.3, 0.6)
    things = []
    for kind in map(str, kinds):
        side = rng.choice((-1, 1))
        beside = {"pole": road + kerb, "sign": road + kerb, "light": road + kerb, "tree": road + kerb + 0.3,
                  "person": rng.uniform(road + 0.5, walk - 0.4), "rider": road - rng.uniform(0.5, 1.2),
                  "car": road - (1.1 if rng.random() < 0.6 else rng.uniform(2, 3.4)),
                  "bus": road - 1.8, "clutter": rng.uniform(road + 0.5, walk - 0.3)}  # fmt: skip
        things.append(Thing(kind, float(side * beside[kind]), rng.uniform(4, length), int(rng.integers(2**31))))
    cars = {"car", "bus", "rider"}
    kept = []
    for thing in sorted(things, key=lambda t: t.z):  # no two vehicles in one another
        near = [t for t in kept[-8:] if t.kind in cars and abs(t.x - thing.x) < 2.2 and thing.z - t.z < 7]
        if not (thing.kind in cars and near):
            kept.append(thing)
    return kept


@functools.lru_cache(maxsize=8)
def street_of(seed: int) -> Street:
    """The street of a sequence."""
    rng = np.random.default_rng([seed, 23])
    length = FRAMES * STEP + 110
    road = rng.uniform(3.2, 5.6)
    walk = road + rng.uniform(1.6, 4)
    blue, grey = np.array([0.45, 0.66, 0.95]), np.array([0.86, 0.88, 0.9])
    lane = rng.choice(["dashed", "solid", "none"], p=[0.6, 0.2, 0.2])
    return Street(
        road=road, walk=walk, sun=float(rng.uniform(-1, 1)), light=float(rng.uniform(0.55, 1.1)),
        sky=grey + (blue - grey) * rng.uniform(0, 1), lane=str(lane),
        parking=bool(rng.random() < 0.2), fronts={side: draw_fronts(rng, length) for side in (-1, 1)},
        things=draw_things(rng, road, walk, length),
    )  # fmt: skip


def view_of(rng: np.random.Generator, size: tuple[int, int], squeeze: float) -> View:
    """The camera of one frame: it sways a little."""
    height, width = size
    focal = 1.15 * height
    center = (width * rng.normal(0.5, 0.015), height * rng.normal(0.46, 0.012))
    return View(height, width, (focal * squeeze, focal), center, (rng.normal(0.9, 0.15), rng.normal(1.4, 0.04)))


# --- sky, ground and fronts, pixel by pixel -----------------------------------------------------------------------


def paint_sky(street: Street, view: View, canvas: Canvas, rng: np.random.Generator) -> None:
    """A bright horizon, clouds, and at the horizon far roofs and trees."""
    h, w = canvas.label.shape
    rise = np.linspace(0, 1, h, dtype=np.float32)[:, None, None]
    canvas.image[:] = street.sky + (1 - street.sky) * np.clip(rise * 2, 0, 1)
    canvas.image += 0.06 * clouds(rng, h, w, (w / 3, w / 8, w / 20))[..., None] * np.clip(1 - 1.6 * rise, 0, 1)
    canvas.label[:] = ID["sky"]
    profile = clouds(rng, 2, w, (w / 9, w / 25))[0] * 0.02 + 0.05 + 0.02 * np.sign(clouds(rng, 2, w, (w / 12,))[0])
    green = clouds(rng, 2, w, (w / 8,))[0] > 0.2
    rows = np.arange(h)[:, None]
    far = (rows > view.center[1] - profile * h) & (rows < view.center[1] + 2)
    for own, name, color in ((green, "vegetation", (0.3, 0.38, 0.3)), (~green, "building", (0.5, 0.48, 0.5))):
        canvas.image[far & own] = color
        canvas.label[far & own] = ID[name]


def paint_ground(street: Street, view: View, canvas: Canvas, rng: np.random.Generator, ahead: float) -> None:
    """Road with its lines, kerbs, pavement, and grass where nothing is built."""
    h, w = canvas.label.shape
    top = max(0, int(view.center[1]) + 1)
    rows, columns = np.arange(top, h, dtype=np.float32)[:, None], np.arange(w, dtype=np.float32)[None]
    depth = view.focal[1] * view.eye[1] / (rows - view.center[1] + 0.5)
    x = view.eye[0] + (columns - view.center[0]) * depth / view.focal[0]
    z, side = depth + ahead, np.abs(x)
    kind = np.where(side < street.road, ID["road"], np.where(side < street.walk, ID["sidewalk"], ID["terrain"]))
    if street.parking:
        kind = np.where((x > street.road - 2.2) & (x < street.road), ID["parking"], kind)
    dashes = {"dashed": z % 6 < 2.6, "solid": z > 0, "none": z < 0}[street.lane]
    line = dashes & (side < np.maximum(0.08, 0.6 * depth / view.focal[0]))
    edge = np.abs(side - (street.road - 0.25)) < np.maximum(0.05, 0.4 * depth / view.focal[0])
    kind = np.where((line | edge) & (kind == ID["road"]) & (depth < 60), ID["lane"], kind)
    grain = clouds(rng, h - top, w, (w / 6, w / 30, 2))[..., None]
    slabs = ((x % 0.9 < 0.05) | (z % 0.9 < 0.05)) & (depth < 14)
    tint = {"road": (0.33, 0.33, 0.35), "sidewalk": (0.5, 0.48, 0.47), "terrain": (0.3, 0.42, 0.2),
            "lane": (0.82, 0.82, 0.78), "parking": (0.42, 0.39, 0.38)}  # fmt: skip
    table = np.zeros((len(FINE), 3), np.float32)
    for name, color in tint.items():
        table[ID[name]] = color
    ground = table[kind] * (1 + 0.08 * grain)
    ground *= np.where(slabs & (kind == ID["sidewalk"]), 0.85, 1)[..., None]
    ground *= np.where(np.abs(side - street.road) < 0.12, 0.75, 1)[..., None]  # the kerb
    ground *= np.where(x * street.sun > street.road * 0.3, 0.68, 1)[
        ..., None
    ]  # in the shade of the sunny side's houses
    canvas.image[top:] = haze(ground, depth[..., None], street)
    canvas.label[top:] = kind


def haze(color: np.ndarray, depth: np.ndarray, street: Street) -> np.ndarray:
    """What is far takes on the sky's colour."""
    return color + (street.sky * 0.9 - color) * (1 - np.exp(-depth / 160))


def paint_fronts(street: Street, view: View, canvas: Canvas, rng: np.random.Generator, ahead: float, side: int) -> None:
    """Houses with windows, parks behind fences, walls: the upright plane at x = side * walk."""
    h, w = canvas.label.shape
    apart = side * street.walk - view.eye[0]
    columns = np.flatnonzero((np.arange(w) - view.center[0]) * side > 2)
    depth = view.focal[0] * apart / (columns - view.center[0])
    columns, depth = columns[depth < 95], depth[depth < 95].astype(np.float32)
    if not len(columns):
        return
    rows = np.arange(h, dtype=np.float32)[:, None]
    up = view.eye[1] - (rows - view.center[1]) * depth / view.focal[1]
    fronts, z = street.fronts[side], depth + ahead
    which = np.clip(np.searchsorted([f.start for f in fronts], z) - 1, 0, None)
    leaves = clouds(rng, h, len(columns), (26, 9, 3))
    part, kind = np.s_[:, columns[0] : columns[-1] + 1], np.full(up.shape, -1)
    color = np.zeros((*up.shape, 3), np.float32)
    for number in np.unique(which):
        own = np.flatnonzero(which == number)
        color[:, own], kind[:, own] = front(fronts[number], up[:, own], z[own], leaves[:, own])
    shade = 0.62 if side * street.sun > 0 else 1.05
    there = kind >= 0
    canvas.image[part][there] = haze(color * shade, depth[None, :, None], street)[there]
    canvas.label[part][there] = kind[there]


def front(front: Front, up: np.ndarray, z: np.ndarray, leaves: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Heights [H,N] and places along the street [N] of one front's pixels -> colour [H,N,3], class [H,N] or -1."""
    kind = np.full(up.shape, -1)
    color = np.broadcast_to(front.color.astype(np.float32), (*up.shape, 3)).copy()
    above = up > 0
    if front.kind == "house":
        kind[above & (up < front.height)] = ID["building"]
        color *= (1 + 0.06 * leaves)[..., None]
        window = (z % front.pitch / front.pitch > 0.35) & (up % front.storey / front.storey > 0.3)
        window &= (up % front.storey / front.storey < 0.8) & (up < front.height - 0.5)
        lit = (np.floor(z / front.pitch) * 7 + np.floor(up / front.storey) * 13) % 5 / 10
        color[window] = (front.color * front.glass + 0.1)[None] * (0.7 + lit[window])[:, None]
        color[up > front.height - 0.35] *= 0.6
        color[above & (up < 0.5)] *= 0.7
    if front.kind == "park":
        green = np.array([0.24, 0.36, 0.16]) * (0.7 + front.glass)
        kind[above & (up < front.height * 0.8 + 1.1 * leaves)] = ID["vegetation"]
        color[:] = green * (1 + 0.45 * leaves)[..., None]
        fence = above & (up < 1.3)
        kind[fence] = ID["fence"]
        bars = fence & ((z % 0.28 < 0.12) | (up > 1.15) | (up < 0.15))
        color[bars] = front.color * 0.5
    if front.kind == "wall":
        kind[above & (up < 2.1)] = ID["wall"]
        bricks = ((up % 0.3 < 0.05) | ((z + (up // 0.3) * 0.35) % 0.7 < 0.06)) & (up < 2.1)
        color[bars_far(bricks, z)] *= 0.8
        behind = (up >= 2.1) & (up < front.height * 0.7 + 0.9 * leaves)
        kind[behind] = ID["vegetation"]
        color[behind] = np.array([0.26, 0.36, 0.18]) * (1 + 0.4 * leaves[behind])[:, None]
    return color, kind


def bars_far(lines: np.ndarray, z: np.ndarray) -> np.ndarray:
    """Lines as far as a pixel can show them."""
    return lines & (z - z.min() < 25)


# --- things -----------------------------------------------------------------------------------------------------


def prism(view: View, canvas: Canvas, outline: np.ndarray, z: float, length: float, color: np.ndarray, id: int) -> None:
    """An outline [N,2] in metres, drawn out `length` metres away from the eye: its sides, then its near face."""
    near, far = view.at(outline, z), view.at(outline, z + length)
    for i in range(len(outline)):
        j = (i + 1) % len(outline)
        up = outline[j, 1] + outline[i, 1] > 1.9 * outline[:, 1].max()
        canvas.paint(np.stack((near[i], near[j], far[j], far[i])), color * (1.15 if up else 0.7), id)
    canvas.paint(near, color, id)


def box(x0: float, x1: float, y0: float, y1: float) -> np.ndarray:
    """A rectangle's corners."""
    return np.array([(x0, y0), (x1, y0), (x1, y1), (x0, y1)])


CAR = np.array([(-0.86, 0.2), (0.86, 0.2), (0.88, 0.85), (0.72, 0.95), (0.6, 1.42), (-0.6, 1.42), (-0.72, 0.95),
                (-0.88, 0.85)])  # fmt: skip


def car(view: View, canvas: Canvas, thing: Thing, z: float, rng: np.random.Generator) -> None:
    """From behind, or from the front on the other side of the road."""
    color = np.clip(muted(rng) * rng.uniform(0.6, 1.4), 0.03, 0.95)
    size = np.array([rng.uniform(0.95, 1.08), rng.uniform(0.95, 1.2)])
    ground_shadow(view, canvas, thing.x, z, 1.0 * size[0], 4.2)
    body = CAR * size + (thing.x, 0)
    for wheel in (-0.7, 0.7):
        canvas.paint(view.at(box(wheel - 0.14, wheel + 0.14, 0, 0.4) * size + (thing.x, 0), z), (0.05,) * 3, ID["car"])
    prism(view, canvas, body, z, rng.uniform(3.6, 4.4), color, ID["car"])
    if view.focal[1] / z < 9:
        return
    canvas.paint(view.at(box(-0.56, 0.56, 0.97, 1.34) * size + (thing.x, 0), z), (0.12, 0.14, 0.17))
    lamp = np.array([0.75, 0.1, 0.08]) if thing.x > 0 else np.array([0.95, 0.95, 0.85])
    for side in (-0.8, 0.58):
        canvas.paint(view.at(box(side, side + 0.22, 0.66, 0.82) * size + (thing.x, 0), z), lamp)
    canvas.paint(view.at(box(-0.26, 0.26, 0.45, 0.57) * size + (thing.x, 0), z), (0.85, 0.82, 0.6))


def bus(view: View, canvas: Canvas, thing: Thing, z: float, rng: np.random.Generator) -> None:
    """A bus or a truck: tall, with a window behind or none."""
    kind = "bus" if rng.random() < 0.6 else "truck"
    color = np.clip(muted(rng) * 1.3, 0.1, 0.95)
    ground_shadow(view, canvas, thing.x, z, 1.4, 8)
    prism(view, canvas, box(-1.25, 1.25, 0.35, 3.0) + (thing.x, 0), z, 8.0, color, ID[kind])
    for wheel in (-1.0, 1.0):
        canvas.paint(view.at(box(wheel - 0.2, wheel + 0.2, 0, 0.5) + (thing.x, 0), z), (0.05,) * 3, ID[kind])
    if kind == "bus":
        canvas.paint(view.at(box(-1.05, 1.05, 1.6, 2.6) + (thing.x, 0), z), (0.13, 0.15, 0.18))


def ground_shadow(view: View, canvas: Canvas, x: float, z: float, half: float, length: float) -> None:
    """Darker road below a vehicle."""
    near, far = view.at(np.array([(x - half, 0), (x + half, 0)]), z - 0.2), view.at(
        np.array([(x + half, 0), (x - half, 0)]), z + length)  # fmt: skip
    points = np.concatenate((near, far))
    area = canvas.box(points, 6)
    if area is not None:
        canvas.shade(area, canvas.alpha(points, area, 1.5), 0.45)


def limb(view: View, canvas: Canvas, z: float, points: list, width: float, color, id: int) -> None:
    """A thick line through world points: never thinner than a pixel, or its label would have holes."""
    line = view.at(np.array(points), z)
    half = max(width * view.focal[0] / z, 1.3) / 2
    away = np.gradient(line, axis=0)
    away = np.stack((-away[:, 1], away[:, 0]), 1) / (np.linalg.norm(away, axis=1, keepdims=True) + 1e-6) * half
    canvas.paint(np.concatenate((line + away, (line - away)[::-1])), color, id)


def blob(view: View, canvas: Canvas, z: float, middle: tuple, radii: tuple, color, id: int) -> None:
    """An ellipse."""
    turn = np.linspace(0, 2 * np.pi, 17)[:-1]
    canvas.paint(view.at(np.stack((np.cos(turn) * radii[0], np.sin(turn) * radii[1]), 1) + middle, z), color, id)


def person(view: View, canvas: Canvas, thing: Thing, z: float, rng: np.random.Generator, kind: str = "person") -> None:
    """Walking, from before or behind: legs, coat, arms, head."""
    tall, stride = rng.uniform(0.85, 1.08), rng.uniform(0.05, 0.3)
    coat, legs, x = muted(rng), muted(rng) * 0.6, thing.x
    skin = np.array([0.86, 0.66, 0.52]) * rng.uniform(0.4, 1.1)
    for side in (-1, 1):
        limb(view, canvas, z, [(x + side * stride, 0), (x + side * 0.09, 0.85 * tall)], 0.17, legs, ID[kind])
        arm = [(x + side * 0.19, 1.42 * tall), (x + side * 0.3, 1.1 * tall), (x + side * 0.27, 0.85)]
        limb(view, canvas, z, arm, 0.12, coat * 0.9, ID[kind])
    blob(view, canvas, z, (x, 1.12 * tall), (0.25, 0.38 * tall), coat, ID[kind])
    blob(view, canvas, z, (x, 1.62 * tall), (0.11, 0.14), skin * (0.3 if rng.random() < 0.5 else 1), ID[kind])


def rider(view: View, canvas: Canvas, thing: Thing, z: float, rng: np.random.Generator) -> None:
    """On a bicycle or a motorcycle."""
    motor = rng.random() < 0.25
    person(view, canvas, Thing("rider", thing.x, z, 0), z, rng, "rider")
    kind, wide = ("motorcycle", 0.34) if motor else ("bicycle", 0.09)
    blob(view, canvas, z, (thing.x, 0.36), (max(wide / 2, 0.7 * z / view.focal[0]), 0.36), (0.07,) * 3, ID[kind])
    limb(view, canvas, z, [(thing.x - 0.3, 0.98), (thing.x + 0.3, 0.98)], 0.06, (0.1,) * 3, ID[kind])


def tree(view: View, canvas: Canvas, thing: Thing, z: float, rng: np.random.Generator) -> None:
    """A trunk and a ragged crown."""
    high, wide = rng.uniform(4.5, 8), rng.uniform(1.2, 2.4)
    limb(view, canvas, z, [(thing.x, 0), (thing.x + rng.normal(0, 0.15), high * 0.6)], 0.3, (0.23, 0.18, 0.14),
         ID["vegetation"])  # fmt: skip
    turn = np.linspace(0, 2 * np.pi, 72, endpoint=False)
    ragged = 1 + 0.13 * smooth_line(rng.standard_normal(72).astype(np.float32), 4)
    crown = np.stack((np.cos(turn) * wide, np.sin(turn) * high * 0.3), 1) * ragged[:, None] + (thing.x, high * 0.68)
    green = np.array([0.25, 0.37, 0.16]) * rng.uniform(0.6, 1.3)
    canvas.paint(view.at(crown, z), functools.partial(foliage, rng, green), ID["vegetation"])


def foliage(rng: np.random.Generator, green: np.ndarray, area: tuple[slice, slice]) -> np.ndarray:
    """Leaves over a box of the canvas."""
    height, width = (s.stop - s.start for s in area)
    return green * (1 + 0.4 * clouds(rng, height, width, (max(3, width / 6), 2)))[..., None]


def pole(view: View, canvas: Canvas, thing: Thing, z: float, rng: np.random.Generator, high: float = 0) -> None:
    """A lamp post, leaning in over the road, or the post of a sign."""
    points = [(thing.x, 0), (thing.x, high or 6.0)]
    if not high:
        points += [(thing.x - np.sign(thing.x) * 1.4, 6.5)]
    limb(view, canvas, z, points, 0.13, np.array([0.42, 0.43, 0.44]) * rng.uniform(0.4, 1.3), ID["pole"])


def sign(view: View, canvas: Canvas, thing: Thing, z: float, rng: np.random.Generator) -> None:
    """A round, three-cornered or square sign on its post."""
    pole(view, canvas, thing, z, rng, 2.9)
    corners = rng.choice([3, 4, 16])
    turn = np.linspace(0, 2 * np.pi, corners, endpoint=False) + (np.pi / 4 if corners == 4 else np.pi / 2)
    shape = np.stack((np.cos(turn), np.sin(turn)), 1)
    rim, field = ((0.72, 0.1, 0.1), (0.92, 0.92, 0.9)) if corners != 4 else ((0.12, 0.25, 0.6), (0.14, 0.3, 0.7))
    for scale, color in ((0.42, rim), (0.31, field)):
        canvas.paint(view.at(shape * scale + (thing.x, 2.6), z), color, ID["traffic sign"])


def light(view: View, canvas: Canvas, thing: Thing, z: float, rng: np.random.Generator) -> None:
    """A traffic light on its post."""
    pole(view, canvas, thing, z, rng, 2.6)
    canvas.paint(view.at(box(-0.17, 0.17, 2.3, 3.2) + (thing.x, 0), z), (0.07, 0.08, 0.07), ID["traffic light"])
    on = rng.integers(3)
    color = np.array([(0.2, 0.9, 0.5), (0.95, 0.7, 0.2), (0.95, 0.2, 0.15)])[on]
    blob(view, canvas, z, (thing.x, 2.45 + 0.29 * on), (0.1, 0.1), color, ID["traffic light"])


def clutter(view: View, canvas: Canvas, thing: Thing, z: float, rng: np.random.Generator) -> None:
    """Bins, boxes and boards: none of the classes, so void."""
    half, high = rng.uniform(0.25, 0.6), rng.uniform(0.7, 1.8)
    prism(view, canvas, box(-half, half, 0, high) + (thing.x, 0), z, 0.6, muted(rng), VOID)


PAINTERS: dict[str, Callable] = {
    "car": car, "bus": bus, "person": person, "rider": rider, "tree": tree, "pole": pole, "sign": sign, "light": light,
    "clutter": clutter,
}  # fmt: skip


def hood(canvas: Canvas) -> None:
    """The edge of the camera's own car."""
    h, w = canvas.label.shape
    across = np.linspace(-1.02, 1.02, 24)
    arch = np.stack(((across + 1) / 2 * w, h * (1.0 - 0.055 * (1 - across**2))), 1)
    canvas.paint(np.concatenate((arch, [(w, h + 3), (0, h + 3)])), (0.06, 0.07, 0.08), VOID)


def draw_street(
    seed: int, frame: int, size: tuple[int, int] = (360, 480), squeeze: float = 1.0, own_car: bool = False
) -> tuple[np.ndarray, np.ndarray]:
    """Frame of a sequence -> photo uint8[H,W,3], label uint8[H,W]: ids of FINE, and 255 for the camera's own car.

    squeeze: how much narrower the photo is than the scene (pairs: a half).
    """
    street, rng = street_of(seed), np.random.default_rng([seed, frame, 29])
    view, ahead = view_of(rng, size, squeeze), frame * STEP
    canvas = Canvas(np.zeros((*size, 3), np.float32))
    paint_sky(street, view, canvas, rng)
    paint_ground(street, view, canvas, rng, ahead)
    for side in (-1, 1):
        paint_fronts(street, view, canvas, rng, ahead, side)
    for thing in sorted(street.things, key=lambda thing: -thing.z):
        if 3.2 < (z := thing.z - ahead) < 70:
            PAINTERS[thing.kind](view, canvas, thing, z, np.random.default_rng([thing.seed, 31]))
    if own_car:
        hood(canvas)
    return camera(rng, np.clip(canvas.image * street.light * rng.uniform(0.9, 1.1), 0, 1)), canvas.label


# --- pets -------------------------------------------------------------------------------------------------------

CATS, DOGS = ("Abyssinian", "Bengal", "Birman", "Maine_Coon"), ("beagle", "boxer", "pug", "samoyed")
PET, BEYOND, BORDER = 1, 2, 3  # of a trimap
COATS = np.array([(226, 200, 160), (196, 138, 80), (120, 78, 48), (60, 48, 42), (30, 28, 30), (150, 146, 144),
                  (235, 230, 222)]) / 255  # fmt: skip


@dataclass(frozen=True)
class Animal:
    """One animal, in a frame of its own: the unit is half its height, x to the right, y down."""

    dog: bool
    coat: np.ndarray
    second: np.ndarray  # of chest, muzzle and spots
    lying: bool
    stripes: float
    fluff: float
    scale: float  # pixels
    center: np.ndarray
    mirror: float  # 1 or -1


def draw_animal(rng: np.random.Generator, height: int, width: int, dog: bool) -> Animal:
    """An animal that about fills the picture."""
    coat = COATS[rng.integers(len(COATS))] * rng.uniform(0.8, 1.15)
    second = COATS[rng.integers(len(COATS))] if rng.random() < 0.6 else coat * 0.9
    lying = bool(rng.random() < 0.35)
    scale = min(height * rng.uniform(0.36, 0.5), width * rng.uniform(0.36, 0.5)) * (0.8 if lying else 1)
    center = np.array([width * rng.normal(0.5, 0.06), height * rng.normal(0.53, 0.04)])
    return Animal(dog, np.clip(coat, 0.04, 0.97), second, lying, float(rng.uniform(0.1, 0.5) * (rng.random() < 0.5)),
                  rng.uniform(0.01, 0.05), scale, center, float(rng.choice((-1, 1))))  # fmt: skip


def place(animal: Animal, points: np.ndarray) -> np.ndarray:
    """The animal's frame -> pixels."""
    return np.asarray(points, float) * (animal.mirror * animal.scale, animal.scale) + animal.center


def furry(animal: Animal, rng: np.random.Generator, points: list) -> np.ndarray:
    """A smooth outline through points, ragged as the coat is, in pixels."""
    line = smooth(points, 14)
    away = line - line.mean(0)
    bumps = smooth_line(rng.standard_normal(len(line)).astype(np.float32), 3)[:, None]
    return place(animal, line + away / (np.linalg.norm(away, axis=1, keepdims=True) + 1e-6) * bumps * animal.fluff)


def fur(animal: Animal, rng: np.random.Generator, height: int, width: int) -> Callable:
    """A function (colour, shade) -> painter of a box: hairs, stripes and light from above."""
    hairs = clouds(rng, height, width, (animal.scale / 5, animal.scale / 18, 2.2))
    across = np.arange(width)[None] / animal.scale * 9 + hairs * 0.9 + np.arange(height)[:, None] / animal.scale * 2
    texture = 1 + 0.12 * hairs - animal.stripes * (np.sin(across * np.pi) > 0.35)
    light = np.linspace(1.15, 0.8, height)[:, None]
    return lambda color, shade=1.0: lambda area: color * shade * (texture * light)[area][..., None]


def body(animal: Animal, canvas: Canvas, rng: np.random.Generator, coat: Callable) -> tuple[float, float]:
    """Tail, body, legs and chest; returns where the head is."""
    tail = [(0.5, 0.75), (0.9, 0.5), (1.0, 0.0), (1.1, 0.0), (1.05, 0.6), (0.6, 0.95)]
    if animal.lying:
        outline = [(-0.75, 0.25), (-0.3, 0.0), (0.5, 0.02), (1.0, 0.25), (1.12, 0.62), (0.8, 0.85), (-0.7, 0.85)]
        front_leg = [(-0.85, 0.62), (-0.2, 0.6), (-0.2, 0.86), (-1.0, 0.87)]
        legs = [front_leg, [(0.5, 0.55), (1.0, 0.6), (0.9, 0.87), (0.3, 0.87)]]
        head = (-0.62, 0.0)
    else:
        right = [(0.3, -0.35), (0.48, 0.2), (0.6, 0.8), (0.35, 0.98)]
        outline = [*right, *[(-x, y) for x, y in reversed(right)]]
        legs = [[(s * 0.3, 0.3), (s * 0.1, 0.3), (s * 0.08, 1.0), (s * 0.36, 1.0)] for s in (-1, 1)]
        head = (0.0, -0.58)
    canvas.paint(furry(animal, rng, tail), coat(animal.coat, 0.85), PET, 0.6)
    canvas.paint(furry(animal, rng, outline), coat(animal.coat, 0.92), PET, 0.6)
    for leg in legs:
        canvas.paint(furry(animal, rng, leg), coat(animal.coat, 1.05), PET, 0.6)
    if not animal.lying:
        chest = furry(animal, rng, [(-0.16, -0.2), (0.16, -0.2), (0.18, 0.35), (-0.18, 0.35)])
        canvas.paint(chest, coat(animal.second), None, 2)
    return head


def ears(animal: Animal, canvas: Canvas, rng: np.random.Generator, coat: Callable, x: float, y: float) -> None:
    """A cat's stand, a dog's hang."""
    for side in (-1, 1):
        if animal.dog:
            ear = np.array([(0.28, -0.3), (0.5, -0.25), (0.56, 0.15), (0.42, 0.28), (0.32, 0.0)]) * (side, 1)
        else:
            ear = np.array([(0.12, -0.3), (0.34, -0.66), (0.42, -0.12)]) * (side, 1)
        points = ear + (x, y)
        shape = furry(animal, rng, points) if animal.dog else place(animal, points)
        canvas.paint(shape, coat(animal.coat, 0.75), PET, 0.6)
        if not animal.dog:
            inner = points.mean(0) + (points - points.mean(0)) * 0.55
            canvas.paint(place(animal, inner), np.array([0.8, 0.58, 0.54]) * 0.8, None, 1)


def head(animal: Animal, canvas: Canvas, rng: np.random.Generator, coat: Callable, x: float, y: float) -> None:
    """Head, muzzle, eyes and nose."""
    if not animal.dog:
        ears(animal, canvas, rng, coat, x, y)
    turn = np.linspace(0, 2 * np.pi, 9)[:-1]
    round_head = np.stack((np.cos(turn) * 0.44, np.sin(turn) * 0.38), 1) + (x, y)
    canvas.paint(furry(animal, rng, list(round_head)), coat(animal.coat, 1.1), PET, 0.6)
    if animal.dog:
        ears(animal, canvas, rng, coat, x, y)
    long = 0.24 if animal.dog else 0.17
    muzzle = np.stack((np.cos(turn) * 0.22, np.sin(turn) * long), 1) + (x, y + 0.2)
    canvas.paint(furry(animal, rng, list(muzzle)), coat(animal.second, 1.1), PET, 1)
    eye = (0.16, 0.1, 0.06) if animal.dog else tuple(rng.uniform((0.5, 0.5, 0.1), (0.8, 0.7, 0.4)))
    for side in (-1, 1):
        for radius, color in ((0.075, eye), (0.042, (0.02, 0.02, 0.02))):
            disc = np.stack((np.cos(turn) * radius, np.sin(turn) * radius), 1) + (x + side * 0.18, y - 0.05)
            canvas.paint(place(animal, disc), color)
    nose, color = [(-0.07, 0.08), (0.07, 0.08), (0.0, 0.17)], (0.7, 0.42, 0.42)
    if animal.dog:
        nose, color = [(-0.1, 0.1), (0.1, 0.1), (0.05, 0.22), (-0.05, 0.22)], (0.12, 0.08, 0.08)
    canvas.paint(place(animal, np.array(nose) + (x, y)), color, None, 0.6)
    canvas.line(place(animal, np.array([(x, y + 0.17), (x, y + 0.28)])), (0.15, 0.1, 0.1), max(1, animal.scale / 60))


def trimap(pet: np.ndarray) -> np.ndarray:
    """bool[H,W] -> 1 pet, 2 background, and a band of 3 that lies on both sides of the outline, uint8[H,W]."""
    soft = Image.fromarray(pet.astype(np.uint8) * 255).filter(ImageFilter.GaussianBlur(max(2.0, min(pet.shape) / 60)))
    share = np.asarray(soft, np.float32) / 255
    return np.select([share > 0.85, share < 0.15], [PET, BEYOND], BORDER).astype(np.uint8)


def draw_pet(seed: int, dog: bool) -> tuple[np.ndarray, np.ndarray]:
    """-> photo uint8[H,W,3] of a size of its own, trimap uint8[H,W] of 1 pet, 2 background, 3 border."""
    rng = np.random.default_rng([seed, 37])
    height, width = (int(side) for side in rng.integers(230, 460, 2))
    animal = draw_animal(rng, height, width, dog)
    own = [animal.coat, animal.second, animal.coat * 0.6]
    canvas = Canvas(background(rng, height, width, own))
    shadow = place(animal, np.array([(-0.8, 0.9), (0.8, 0.9), (0.9, 1.02), (-0.9, 1.02)]))
    canvas.paint(shadow, (0.05, 0.05, 0.05), None, animal.scale * 0.08, 0.5)
    coat = fur(animal, rng, height, width)
    head(animal, canvas, rng, coat, *body(animal, canvas, rng, coat))
    return camera(rng, np.clip(canvas.image * rng.uniform(0.7, 1.15), 0, 1)), trimap(canvas.label == PET)


# --- releases ---------------------------------------------------------------------------------------------------

# FINE -> CamVid's own names, as Kaggle's release has them.
OWN_NAMES = {
    "road": "Road", "lane": "LaneMkgsDriv", "parking": "ParkingBlock", "sidewalk": "Sidewalk", "building": "Building",
    "wall": "Wall", "fence": "Fence", "pole": "Column_Pole", "traffic light": "TrafficLight",
    "traffic sign": "SignSymbol", "vegetation": "Tree", "terrain": "VegetationMisc", "sky": "Sky",
    "person": "Pedestrian", "rider": "Bicyclist", "bicycle": "Bicyclist", "motorcycle": "MotorcycleScooter",
    "car": "Car", "truck": "Truck_Bus", "bus": "Truck_Bus", "train": "Train",
}  # fmt: skip
SEQUENCES = ("0001TP", "0006R0", "0016E5", "Seq05VD")  # names of CamVid's drives


def lookup(values: dict[str, int | tuple], void: int | tuple) -> np.ndarray:
    """A value of each class of FINE, and of VOID -> uint8[256] or uint8[256,3] to index by a label map."""
    table = np.array([void] * 256, np.uint8)
    for name, value in values.items():
        table[ID[name]] = value
    return table


def camvid_ids() -> np.ndarray:
    """FINE -> SegNet's ids: 0-10, and 11 for void."""
    maps_to = {row.name: row.maps_to for row in catalog.CAMVID_TABLE}
    return lookup({name: catalog.CAMVID.id(maps_to[own]) for name, own in OWN_NAMES.items()}, 11)


def camvid_colors() -> np.ndarray:
    """FINE -> the colours of Kaggle's masks."""
    colors = {row.name: row.color for row in catalog.CAMVID_TABLE}
    return lookup({name: colors[own] for name, own in OWN_NAMES.items()}, colors["Void"])


def pair_colors() -> np.ndarray:
    """FINE -> the colours of Cityscapes' labels; the strip for parking is one of its void ones."""
    own = {"lane": catalog.CITYSCAPES_CLASSES["road"], "parking": catalog.CITYSCAPES_VOID["parking"]}
    return lookup(catalog.CITYSCAPES_CLASSES | own, (0, 0, 0))


def png(pixels: np.ndarray) -> bytes:
    """uint8[H,W] or [H,W,3] -> PNG bytes."""
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, format="PNG")
    return stream.getvalue()


def is_drawn(*paths: Path) -> bool:
    """Whether all files are there and can be decoded whole."""
    try:
        return all(path.exists() and files.read_photo(path) is not None for path in paths)
    except DataError:
        return False


def write_frame(photo: Path, label: Path, seed: int, frame: int, table: np.ndarray) -> None:
    """One frame of a sequence as two PNGs, 480 x 360, unless they are there already."""
    if not is_drawn(photo, label):
        image, fine = draw_street(seed, frame)
        files.write_atomic(photo, png(image))
        files.write_atomic(label, png(table[fine]))


def write_pair(path: Path, seed: int, frame: int) -> None:
    """Photo left, colour label right, one JPEG of 512 x 256, unless it is there already."""
    if not is_drawn(path):
        image, fine = draw_street(seed, frame, (256, 256), squeeze=0.5, own_car=True)
        files.write_atomic(path, jpeg(np.concatenate((image, pair_colors()[fine]), 1)))


def write_pet(root: Path, name: str, seed: int) -> None:
    """Photo and trimap, unless they are there already; a breed's capital says cat, as in the release."""
    photo, label = root / "images" / f"{name}.jpg", root / "annotations" / "trimaps" / f"{name}.png"
    if not is_drawn(photo, label):
        image, drawn = draw_pet(seed, dog=name[0].islower())
        files.write_atomic(photo, jpeg(image))
        files.write_atomic(label, png(drawn))


def split_counts(train: int, test: int) -> dict[str, int]:
    """Of frames: a tenth of train's, but at least two, is val."""
    val = max(2, train // 10)
    return {"train": train - val, "val": val, "test": test}


def frames_of(train: int, test: int) -> list[tuple[str, int, int]]:
    """(split, street, frame): whole sequences to one split, since neighbouring frames are nearly the same."""
    found, street = [], 0
    for split, count in split_counts(train, test).items():
        found += [(split, street + i // FRAMES, i % FRAMES) for i in range(count)]
        street += -(-count // FRAMES)
    return found


def write_camvid(root: Path, train: int, test: int, progress: bool = True, kaggle: bool = False) -> Path:
    """CamVid as SegNet's tutorial has it (ids), or as Kaggle has it (colours and class_dict.csv)."""
    table, folder, ending = (camvid_colors(), "_labels", "_L") if kaggle else (camvid_ids(), "annot", "")
    jobs = []
    for split, street, frame in frames_of(train, test):
        name = f"{SEQUENCES[street % 4]}_{street:03}{30 * frame:03}"
        paths = root / split / f"{name}.png", root / f"{split}{folder}" / f"{name}{ending}.png"
        jobs.append((*paths, street, frame, table))
    draw_all(write_frame, jobs, "draw streets" if progress else "")
    if kaggle:
        rows = [f"{row.name},{','.join(map(str, row.color))}" for row in catalog.CAMVID_TABLE]
        files.write_atomic(root / "class_dict.csv", "\n".join(["name,r,g,b", *rows, ""]).encode())
    return root


def write_pairs(root: Path, train: int, test: int, progress: bool = True) -> Path:
    """Cityscapes image pairs: train/N.jpg and val/N.jpg, both counted from 1, from streets of their own."""
    sequences = -(-train // FRAMES)
    counts = {"train": (train, 0), "val": (test, sequences)}
    jobs = [
        (root / split / f"{i + 1}.jpg", 5000 + first + i // FRAMES, i % FRAMES)
        for split, (count, first) in counts.items()
        for i in range(count)
    ]
    draw_all(write_pair, jobs, "draw streets" if progress else "")
    return root


def write_pets(root: Path, train: int, test: int, progress: bool = True) -> Path:
    """images/, annotations/trimaps/ and the two official lists, of eight breeds."""
    breeds = [name for both in zip(CATS, DOGS, strict=True) for name in both]
    names = [f"{breeds[i % 8]}_{i // 8 + 1}" for i in range(train + test)]
    draw_all(write_pet, [(root, name, i) for i, name in enumerate(names)], "draw pets" if progress else "")
    for title, part in (("trainval", names[:train]), ("test", names[train:])):
        lines = [f"{name} {breeds.index(name.rpartition('_')[0]) + 1} {1 + name[0].islower()} 1" for name in part]
        files.write_atomic(root / "annotations" / f"{title}.txt", "\n".join([*lines, ""]).encode())
    return root


WRITERS: dict[str, Callable] = {
    "pets": write_pets, "camvid": write_camvid, "camvid32": functools.partial(write_camvid, kaggle=True),
    "cityscapes": write_pairs,
}  # fmt: skip
