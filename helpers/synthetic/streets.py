"""Synthetic streets with exact label maps, in sequences as a driving car films them.

A street is a world in metres (x to the right of the road's middle, y up, z ahead): ground and house fronts are computed
pixel by pixel, things stand in it as outlines, far ones first. Photo and label come from the same shapes.
"""

import functools
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from .. import catalog
from ..core import masks
from .canvas import Box, Canvas, Color, between, camera, circle, clouds, mirror, muted, size_of, smooth_line

# The classes of these label maps: Cityscapes' by their ids, and what only the finer tables tell apart.
FINE = (*catalog.CITYSCAPES_CLASSES, "lane", "parking")
ID = {name: i for i, name in enumerate(FINE)}
VOID = masks.VOID  # the camera's own car, and what is of no class

FRAMES = 12  # of a sequence
STEP = 2.4  # metres between two frames


@dataclass(frozen=True)
class View:
    """A camera: pixel = center + focal * metres / depth."""

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


def random_fronts(rng: np.random.Generator, length: float) -> list[Front]:
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


def random_things(rng: np.random.Generator, road: float, walk: float, length: float) -> list[Thing]:
    """Cars, people, trees, poles and signs along a street."""
    odds = dict(car=0.3, person=0.15, tree=0.14, pole=0.14, sign=0.1, light=0.05, rider=0.05, clutter=0.05)
    kinds = rng.choice([*odds, "bus"], size=int(length / 2.2), p=[*odds.values(), 0.02])
    kerb = rng.uniform(0.3, 0.6)
    things = []
    for kind in map(str, kinds):
        side = rng.choice((-1, 1))
        post = road + kerb
        beside = dict(pole=post, sign=post, light=post, tree=post + 0.3, bus=road - 1.8)
        beside["person"] = rng.uniform(road + 0.5, walk - 0.4)
        beside["rider"] = road - rng.uniform(0.5, 1.2)
        beside["car"] = road - (1.1 if rng.random() < 0.6 else rng.uniform(2, 3.4))
        beside["clutter"] = rng.uniform(road + 0.5, walk - 0.3)
        things.append(Thing(kind, float(side * beside[kind]), rng.uniform(4, length), int(rng.integers(2**31))))
    cars = {"car", "bus", "rider"}
    kept: list[Thing] = []
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
    lane = str(rng.choice(["dashed", "solid", "none"], p=[0.6, 0.2, 0.2]))
    sun, light = float(rng.uniform(-1, 1)), float(rng.uniform(0.55, 1.1))
    sky = grey + (blue - grey) * rng.uniform(0, 1)
    parking = bool(rng.random() < 0.2)
    fronts = {side: random_fronts(rng, length) for side in (-1, 1)}
    return Street(road, walk, sun, light, sky, lane, parking, fronts, random_things(rng, road, walk, length))


def view_of(rng: np.random.Generator, size: tuple[int, int], squeeze: float) -> View:
    """The camera of one frame: it sways a little."""
    height, width = size
    focal = 1.15 * height
    center = (width * rng.normal(0.5, 0.015), height * rng.normal(0.46, 0.012))
    return View((focal * squeeze, focal), center, (rng.normal(0.9, 0.15), rng.normal(1.4, 0.04)))


def paint_sky(street: Street, view: View, canvas: Canvas, rng: np.random.Generator) -> None:
    """A bright horizon, clouds, and at the horizon far roofs and trees."""
    h, w = canvas.height, canvas.width
    rise = np.linspace(0, 1, h, dtype=np.float32)[:, None, None]
    canvas.image[:] = street.sky + (1 - street.sky) * np.clip(rise * 2, 0, 1)
    canvas.image += 0.06 * clouds(rng, (h, w), (w / 3, w / 8, w / 20))[..., None] * np.clip(1 - 1.6 * rise, 0, 1)
    canvas.label[:] = ID["sky"]
    profile = clouds(rng, (2, w), (w / 9, w / 25))[0] * 0.02 + 0.05
    profile = profile + 0.02 * np.sign(clouds(rng, (2, w), (w / 12,))[0])
    green = clouds(rng, (2, w), (w / 8,))[0] > 0.2
    rows = np.arange(h)[:, None]
    far = (rows > view.center[1] - profile * h) & (rows < view.center[1] + 2)
    for own, name, color in ((green, "vegetation", (0.3, 0.38, 0.3)), (~green, "building", (0.5, 0.48, 0.5))):
        canvas.image[far & own] = color
        canvas.label[far & own] = ID[name]


def paint_ground(street: Street, view: View, canvas: Canvas, rng: np.random.Generator, ahead: float) -> None:
    """Road with its lines, kerbs, pavement, and grass where nothing is built."""
    h, w = canvas.height, canvas.width
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
    grain = clouds(rng, (h - top, w), (w / 6, w / 30, 2))[..., None]
    slabs = ((x % 0.9 < 0.05) | (z % 0.9 < 0.05)) & (depth < 14)
    tint = dict(road=(0.33, 0.33, 0.35), sidewalk=(0.5, 0.48, 0.47), terrain=(0.3, 0.42, 0.2))
    tint |= dict(lane=(0.82, 0.82, 0.78), parking=(0.42, 0.39, 0.38))
    table = np.array([tint.get(name, (0, 0, 0)) for name in FINE], np.float32)
    ground = table[kind] * (1 + 0.08 * grain)
    ground *= np.where(slabs & (kind == ID["sidewalk"]), 0.85, 1)[..., None]
    ground *= np.where(np.abs(side - street.road) < 0.12, 0.75, 1)[..., None]  # the kerb
    ground *= np.where(x * street.sun > street.road * 0.3, 0.68, 1)[..., None]  # in the shade of houses
    canvas.image[top:] = haze(ground, depth[..., None], street)
    canvas.label[top:] = kind


def haze(color: np.ndarray, depth: np.ndarray, street: Street) -> np.ndarray:
    """What is far takes on the sky's colour."""
    return color + (street.sky * 0.9 - color) * (1 - np.exp(-depth / 160))


def paint_fronts(street: Street, view: View, canvas: Canvas, rng: np.random.Generator, ahead: float, side: int) -> None:
    """Houses with windows, parks behind fences, walls: the upright plane at x = side * walk."""
    h, w = canvas.height, canvas.width
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
    leaves = clouds(rng, (h, len(columns)), (26, 9, 3))
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
        color[bricks & (z - z.min() < 25)] *= 0.8  # as far as a pixel can show them
        behind = (up >= 2.1) & (up < front.height * 0.7 + 0.9 * leaves)
        kind[behind] = ID["vegetation"]
        color[behind] = np.array([0.26, 0.36, 0.18]) * (1 + 0.4 * leaves[behind])[:, None]
    return color, kind


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


CAR = np.roll(mirror((0.86, 0.2), (0.88, 0.85), (0.72, 0.95), (0.6, 1.42)), 1, 0)  # the lower left corner first


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
    edge = np.array([(x - half, 0), (x + half, 0)])
    points = between(view.at(edge, z - 0.2), view.at(edge, z + length))
    area = canvas.box(points, 6)
    canvas.shade(area, canvas.alpha(points, area, 1.5), 0.45)


def limb(view: View, canvas: Canvas, z: float, points: list, width: float, color: Color, id: int) -> None:
    """A thick line through world points: never thinner than a pixel, or its label would have holes."""
    line = view.at(np.array(points), z)
    half = max(width * view.focal[0] / z, 1.3) / 2
    away = np.gradient(line, axis=0)
    away = np.stack((-away[:, 1], away[:, 0]), 1) / (np.linalg.norm(away, axis=1, keepdims=True) + 1e-6) * half
    canvas.paint(between(line + away, line - away), color, id)


def blob(view: View, canvas: Canvas, z: float, middle: tuple, radii: tuple, color: Color, id: int) -> None:
    """An ellipse."""
    canvas.paint(view.at(circle(16) * radii + middle, z), color, id)


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
    trunk = [(thing.x, 0), (thing.x + rng.normal(0, 0.15), high * 0.6)]
    limb(view, canvas, z, trunk, 0.3, (0.23, 0.18, 0.14), ID["vegetation"])
    bumps = 1 + 0.13 * smooth_line(rng.standard_normal(72).astype(np.float32), 4)
    crown = circle(72) * (wide, high * 0.3) * bumps[:, None] + (thing.x, high * 0.68)
    green = np.array([0.25, 0.37, 0.16]) * rng.uniform(0.6, 1.3)

    def leaves(area: Box) -> np.ndarray:
        height, width = size_of(area)
        return green * (1 + 0.4 * clouds(rng, (height, width), (max(3, width / 6), 2)))[..., None]

    canvas.paint(view.at(crown, z), leaves, ID["vegetation"])


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


PAINTERS: dict[str, Callable] = dict(
    car=car, bus=bus, person=person, rider=rider, tree=tree, pole=pole, sign=sign, light=light, clutter=clutter
)


def hood(canvas: Canvas) -> None:
    """The edge of the camera's own car."""
    h, w = canvas.height, canvas.width
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
