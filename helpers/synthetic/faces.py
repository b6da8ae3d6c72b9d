"""Synthetic portraits with exact label maps, so that everything runs with no download.

A face is a set of random attributes (`Face`), outlines in a frame of its own (unit: half the face's height, x to the
viewer's right, y down, z towards the viewer), turned in space and painted layer by layer. Image and label come from the
same outlines: soft edges in the image, sharp ids in the label.
"""

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from .canvas import Box, Canvas, backdrop, between, camera, clouds, colors, enlarge, mirror, muted, smooth, smooth_line

BG, FACE, LB, RB, LE, RE, NOSE, ULIP, IMOUTH, LLIP, HAIR = range(11)

SKINS = colors("fae0ce f0c8ac e0ac8a ca916a a8704c 7e5036 62402e 4e3428")  # from very pale to very dark
HAIRS = colors("181414 2c1e18 483022 68462c 8c623a c49c64 e0c490 964626 b0aca8 e2e0dc 782846 3c506e")
HAIR_ODDS = np.array([20, 18, 16, 12, 9, 8, 5, 4, 4, 2, 1, 1]) / 100  # the last two are dyed
IRISES = colors("462c1a 623e22 6e6032 5c7a5c 6080a0 6e7882")  # brown ones first

Field = Callable[[Box], np.ndarray]  # box -> colours float32[h,w,3]


def blend(table: np.ndarray, place: float) -> np.ndarray:
    """The colour at a place in [0,1] of a table of colours, float[3]."""
    x = place * (len(table) - 1)
    i = min(int(x), len(table) - 2)
    return table[i] + (x - i) * (table[i + 1] - table[i])


@dataclass(frozen=True)
class Face:
    """What one portrait looks like; lengths in half face heights, angles in radians."""

    rng: np.random.Generator
    scale: float  # half face height in pixels
    center: np.ndarray  # x, y in pixels
    yaw: float
    pitch: float
    roll: float
    light: np.ndarray  # direction towards the light, unit vector x, y, z
    skin: np.ndarray
    hair: np.ndarray
    style: str  # bald | cropped | short | fringe | bob | long
    curl: float  # 0 straight .. 1 curly
    width: float
    jaw: float  # width of the jaw against the cheeks
    chin: float  # pointed 0 .. square 1
    eye: dict[str, Any]
    brow: dict[str, Any]
    nose: dict[str, Any]
    mouth: dict[str, Any]
    beard: float
    glasses: bool
    makeup: float


def random_face(rng: np.random.Generator, height: int, width: int) -> Face:
    """All attributes of a face in a picture of that size."""
    u, n = rng.uniform, rng.normal
    scale = np.sqrt(height * width) * np.clip(n(0.385, 0.04), 0.28, 0.47)
    scale = float(min(scale, 0.46 * height, 0.62 * width))
    center = np.array([width * np.clip(n(0.5, 0.06), 0.34, 0.66), height * np.clip(n(0.54, 0.05), 0.42, 0.66)])
    light = np.array([n(0, 0.55), n(-0.45, 0.25), 1.0])
    styles = ["bald", "cropped", "short", "fringe", "bob", "long"]
    style = str(rng.choice(styles, p=[0.04, 0.07, 0.2, 0.16, 0.17, 0.36]))
    tone = u(0, 1)
    skin = blend(SKINS, tone) * (1 + n(0, 0.03, 3))
    natural = rng.choice(len(HAIRS), p=HAIR_ODDS)
    if tone > 0.6 and natural in (5, 6, 7):
        natural = 0  # dark skin seldom comes with fair hair
    hair = np.clip(HAIRS[natural] * (1 + n(0, 0.1)) + n(0, 0.012, 3), 0.03, 0.95)
    man = style in ("bald", "cropped", "short") and u() < 0.7
    return Face(  # the order of the arguments is the order of the random numbers
        rng=rng,
        scale=scale,
        center=center,
        yaw=float(np.clip(n(0, 0.23), -0.55, 0.55)),
        pitch=float(np.clip(n(0, 0.12), -0.25, 0.25)),
        roll=float(np.clip(n(0, 0.11), -0.35, 0.35)),
        light=light / np.linalg.norm(light),
        skin=np.clip(skin, 0.05, 1),
        hair=hair,
        style=style,
        curl=float(u() ** 2 if u() < 0.6 else 0),
        width=u(0.74, 0.86),
        jaw=u(0.72, 0.93),
        chin=u(0, 1),
        **random_features(rng, dark=tone > 0.55),
        beard=float(u(0.35, 0.95)) if man and u() < 0.45 else 0.0,
        glasses=bool(u() < 0.15),
        makeup=float(u(0, 1)) if not man and u() < 0.5 else 0.0,
    )


def random_features(rng: np.random.Generator, dark: bool) -> dict[str, dict[str, Any]]:
    """Place, size and shape of eyes, brows, nose and mouth; dark skin comes with brown irises."""
    u, n = rng.uniform, rng.normal
    eye: dict[str, Any] = dict(x=u(0.27, 0.33), y=u(-0.2, -0.12), half=u(0.11, 0.135))
    eye["open"] = u(0.38, 0.62) * (0.35 if u() < 0.06 else 1)
    eye["slant"] = n(0.02, 0.03)
    eye |= dict(iris=IRISES[rng.integers(2 if dark else len(IRISES))], gaze=n(0, 0.15))
    brow = dict(lift=u(0.17, 0.25), thick=u(0.07, 0.125), half=u(0.2, 0.26), arch=u(0.03, 0.1))
    brow |= dict(tilt=n(0, 0.03), strength=u(0.6, 0.95))
    nose = dict(width=u(0.17, 0.25), base=u(0.29, 0.38), bridge=u(0.07, 0.1))
    mouth = dict(y=u(0.55, 0.63), half=u(0.22, 0.31), upper=u(0.055, 0.095), lower=u(0.08, 0.13))
    mouth["smile"] = max(n(0.035, 0.03), -0.015)
    mouth |= dict(open=u(0.05, 0.2) if u() < 0.55 else 0.0, teeth=u() < 0.75, color=u(0, 1))  # color: of the make-up
    return dict(eye=eye, brow=brow, nose=nose, mouth=mouth)


def project(face: Face, points: np.ndarray, depth: float | np.ndarray | None = None) -> np.ndarray:
    """Points [N,2] of the face's frame -> pixels [N,2]; without a depth they lie on the head's ellipsoid."""
    x, y = points[:, 0], points[:, 1]
    if depth is None:
        depth = 0.85 * np.sqrt(np.clip(1 - (x / 0.95) ** 2 - (y / 1.5) ** 2, 0, 1))
    z = depth - 0.42  # the head turns about its middle, not about the tip of the nose
    x, z = x * np.cos(face.yaw) + z * np.sin(face.yaw), z * np.cos(face.yaw) - x * np.sin(face.yaw)
    y = y * np.cos(face.pitch) + z * np.sin(face.pitch)
    cos, sin = np.cos(face.roll), np.sin(face.roll)
    return np.stack((x * cos - y * sin, x * sin + y * cos), 1) * face.scale + face.center


# --- skin and light -------------------------------------------------------------------------------------------------

# Hollows and ridges of a face: x, y, radius x, radius y, brightness; mirrored where x is not 0
RELIEF = (
    (0.32, -0.2, 0.2, 0.12, -0.2),
    (0.13, -0.12, 0.06, 0.22, -0.14),
    (0, 0.1, 0.05, 0.3, 0.14),
    (0, 0.46, 0.12, 0.06, -0.16),
    (0.42, 0.16, 0.2, 0.16, 0.1),
    (0, 0.84, 0.2, 0.1, 0.08),
    (0, 0.74, 0.2, 0.05, -0.12),
    (0.5, 0.5, 0.12, 0.3, -0.1),
    (0, -0.7, 0.4, 0.22, 0.09),
    (0.3, 0.42, 0.06, 0.16, -0.08),
)


def skin_field(face: Face, canvas: Canvas) -> Field:
    """A function box -> lit skin float32[h,w,3]: a rounded head, its relief, blush, blotches and pores."""
    height, width = canvas.height, canvas.width
    ys, xs = np.mgrid[0:height:4, 0:width:4].astype(np.float32)
    x, y = unproject(face, xs, ys)
    nx, ny = np.clip(x / 0.92, -0.98, 0.98), np.clip(y / 1.45, -0.98, 0.98)
    nz = np.sqrt(np.clip(1 - nx**2 - ny**2, 0.02, 1))
    lit = nx * face.light[0] + ny * face.light[1] + nz * face.light[2]
    shade = 0.62 + 0.46 * lit
    strength = face.rng.uniform(0.7, 1.3)
    for rx, ry, sx, sy, gain in RELIEF:
        for side in (-1, 1) if rx else (1,):
            far = 1 - side * np.sign(rx) * face.light[0] * 0.6 if rx else 1
            shade += strength * gain * far * np.exp(-(((x - side * rx) / sx) ** 2) - ((y - ry) / sy) ** 2)
    shade += 0.03 * clouds(face.rng, shade.shape, (12, 5))
    cheeks = [np.exp(-(((x - s * 0.42) / 0.17) ** 2) - ((y - 0.22) / 0.15) ** 2) for s in (-1, 1)]
    red = (cheeks[0] + cheeks[1]) * face.rng.uniform(0, 0.09)
    field = face.skin * np.clip(shade, 0.42, 1.6)[..., None] * (1 + red[..., None] * np.array([1, -0.6, -0.4]))
    whole = enlarge(field, height, width)
    pores = clouds(face.rng, (height, width), (1.5 + face.scale / 120,))[..., None] * 0.012
    return lambda box: whole[box] * (1 + pores[box])


def unproject(face: Face, xs: np.ndarray, ys: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Pixels -> roughly the face's frame: roll and scale undone, the turn as a shift."""
    dx, dy = (xs - face.center[0]) / face.scale, (ys - face.center[1]) / face.scale
    cos, sin = np.cos(face.roll), np.sin(face.roll)
    x, y = dx * cos + dy * sin, dy * cos - dx * sin
    return (x - 0.4 * np.sin(face.yaw)) / np.cos(face.yaw), y - 0.35 * np.sin(face.pitch)


def face_outline(face: Face) -> np.ndarray:
    """Forehead to chin, in pixels."""
    w, j = face.width, face.width * face.jaw
    tip = 0.16 + 0.2 * face.chin
    upper = [(0, -1.3), (0.5 * w, -1.22), (0.88 * w, -0.86), (w, -0.3)]
    lower = [(0.985 * w, 0.15), (j, 0.55), (j * 0.72, 0.8), (tip, 0.965), (0, 1.0)]
    outline = mirror(*upper, *lower)
    return smooth(project(face, outline, 0.22 + 0.25 * (1 - np.abs(outline[:, 0]) / w)))


def neck_and_clothes(face: Face, canvas: Canvas, skin: Field) -> None:
    """Neck, shoulders and a collar: all background in the label."""
    rng, w = face.rng, face.width
    straight = dataclasses.replace(face, roll=face.roll * 0.3, yaw=face.yaw * 0.3)
    neck = mirror((-0.6 * w, 0.3), (-0.62 * w, 1.0), (-0.8 * w, 1.6), (0, 2.4))
    canvas.paint(smooth(project(straight, neck, 0.1)), lambda box: skin(box) * 0.78, BG)
    color = np.clip(face.skin * rng.uniform(0.5, 1.1) if rng.random() < 0.25 else muted(rng), 0, 1)
    drop = rng.uniform(0.1, 0.5)
    collar = [(0, 1.4 + drop * 1.3), (-0.2, 1.35 + drop), (-0.45, 1.25)]
    body = mirror(*collar, (-0.9, 1.4), (-2.1, 1.75), (-2.5, 5))
    folds = clouds(rng, canvas.label.shape, (face.scale / 2, face.scale / 5))[..., None] * 0.1
    cloth = color * (0.85 + folds + face.light[0] * 0.1)
    canvas.paint(smooth(project(straight, body, 0.2)), lambda box: cloth[box], BG)
    for side in (-1, 1):
        seam = np.array([(side * 0.45, 1.25), (side * 0.3, 1.5 + drop), (side * 0.05, 1.45 + drop * 1.3)])
        canvas.line(project(straight, seam, 0.2), color * 0.55, face.scale * 0.05, 0.7, 1)


def ears(face: Face, canvas: Canvas, skin: Field) -> None:
    """The ear that the turn shows, or both: background in the label."""
    for side in (-1, 1):
        if side * face.yaw > 0.25:
            continue
        w = face.width * side
        outer = [(0.93 * w, -0.28), (1.12 * w, -0.32), (1.17 * w, -0.12), (1.1 * w, 0.15)]
        points = smooth(project(face, np.array([*outer, (0.98 * w, 0.24), (0.92 * w, 0.1)]), 0.12))
        canvas.paint(points, lambda box: skin(box) * 0.86 * np.array([1.04, 0.96, 0.95]), BG)
        inner = project(face, np.array([(1.08 * w, -0.22), (1.1 * w, -0.05), (1.02 * w, 0.08)]), 0.12)
        canvas.line(inner, face.skin * 0.5, face.scale * 0.03, 0.5, 1)


def nose(face: Face, canvas: Canvas) -> None:
    """Bridge, wings and tip: only shading in the image, one shape in the label."""
    n, s = face.nose, face.scale
    b, w, y = n["bridge"], n["width"], n["base"]
    wing = [(w * 0.75, y - 0.14), (w, y - 0.05), (w * 0.8, y + 0.02), (w * 0.3, y + 0.05)]
    outline = mirror((b, -0.2), (b * 1.15, 0.0), *wing)
    rise = 0.85 + 0.22 * np.clip((outline[:, 1] + 0.3) / 0.6, 0, 1)
    points = smooth(project(face, outline, rise))
    box = canvas.box(points, 0.2 * s)
    canvas.label[box][canvas.alpha(points, box) >= 0.5] = NOSE

    def soft(shape, depth, blur):
        return canvas.alpha(smooth(project(face, np.array(shape), depth)), box, s * blur)

    lit = 1 if face.light[0] > 0 else -1
    for side, factor in ((-lit, 0.8), (lit, 0.93)):
        flank = [(b * 0.8, -0.2), (b * 1.6, 0.0), (w, y - 0.08), (w * 0.5, y - 0.1), (b * 0.6, 0)]
        canvas.shade(box, soft([(side * x, yy) for x, yy in flank], 0.95, 0.03), factor)
    under = [(-w * 0.9, y), (0, y + 0.02), (w * 0.9, y), (w * 0.5, y + 0.1), (-w * 0.5, y + 0.1)]
    canvas.shade(box, soft(under, 0.95, 0.025), 0.72)
    for side in (-1, 1):
        hole = [(w * 0.25, y - 0.005), (w * 0.5, y - 0.035), (w * 0.72, y - 0.005), (w * 0.45, y + 0.02)]
        canvas.shade(box, soft([(side * x, yy) for x, yy in hole], 1.0, 0.008), 0.35)
        crease = np.array([(side * w * 0.8, y - 0.13), (side * w * 1.02, y - 0.05), (side * w * 0.82, y + 0.02)])
        canvas.line(project(face, crease, 0.97), face.skin * 0.45, s * 0.02, 0.45, s * 0.008)
    corners = ((-0.04, y - 0.16), (0.04, y - 0.16), (0.04, y - 0.08), (-0.04, y - 0.08))
    tip = [(x + face.light[0] * 0.05, yy) for x, yy in corners]
    canvas.lay(box, soft(tip, 1.1, 0.025) * 0.3, np.minimum(face.skin * 1.5 + 0.1, 1))


def almond(face: Face, side: int) -> np.ndarray:
    """The opening between the lids [16,2]: the upper edge first, nine points from the inner corner."""
    e = face.eye
    half, lid = e["half"], e["half"] * e["open"]
    t = np.linspace(0, np.pi, 9)
    upper = np.stack((-np.cos(t) * half, -(np.sin(t) ** 0.8) * lid * 1.05), 1)
    lower = np.stack((np.cos(t[1:-1]) * half, np.sin(t[1:-1]) * lid * 0.62), 1)
    points = np.concatenate((upper, lower)) * (side, 1)
    points[:, 1] -= e["slant"] * points[:, 0] * side / half * 0.5  # outer corners up or down
    return points + (e["x"] * side, e["y"])


def eye(face: Face, canvas: Canvas, side: int) -> None:
    """Socket, sclera, iris and lids; side -1 is the viewer's left."""
    s, edge = face.scale, almond(face, side)
    points = smooth(project(face, edge), 4)
    box = canvas.box(points, 0.12 * s)
    mask = canvas.alpha(points, box)
    canvas.shade(box, canvas.alpha(points, box, s * 0.03), 0.7 - 0.2 * face.makeup)
    canvas.label[box][mask >= 0.5] = LE if side < 0 else RE
    bright = np.clip(0.5 + 0.5 * face.light[2] + 0.1 * side * face.light[0], 0.5, 1)
    canvas.lay(box, mask, np.array([0.9, 0.87, 0.85]) * bright * (0.75 + 0.25 * face.skin.mean()))
    iris(face, canvas, side, points, box, mask)
    canvas.line(project(face, edge[:9]), face.hair * 0.25, s * (0.022 + 0.016 * face.makeup), 0.85, s * 0.004)
    crease = project(face, edge[1:8] + (0, -0.045 - 0.02 * face.eye["open"]))
    canvas.line(crease, face.skin * 0.42, s * 0.014, 0.6, s * 0.006)
    canvas.line(project(face, edge[9:] + (0, 0.03)), face.skin * 0.6, s * 0.015, 0.35, s * 0.01)


def iris(face: Face, canvas: Canvas, side: int, points: np.ndarray, box: Box, mask: np.ndarray) -> None:
    """Limbal ring, iris, pupil, the upper lid's shadow and the catch-light, all within the eye's mask."""
    e, s = face.eye, face.scale
    lid = e["half"] * e["open"]
    center = np.array([(e["x"] * side + e["gaze"] * e["half"], e["y"] - lid * 0.25)])
    circle = np.stack((np.cos(np.linspace(0, 6.2, 24)), np.sin(np.linspace(0, 6.2, 24))), 1)

    def disc(radius, color, shift=(0.0, 0.0), opacity=1.0, blur=0.0):
        ring = project(face, center + shift + circle * radius)
        canvas.lay(box, canvas.alpha(ring, box, blur) * mask * opacity, color)

    radius = e["half"] * 0.48
    disc(radius, e["iris"] * 0.4)
    disc(radius * 0.86, e["iris"] * 1.1, blur=s * 0.006)
    disc(radius * 0.42, (0.02, 0.02, 0.02))
    for drop, factor in ((-0.035 * s, 0.9), (lid * s * 0.4, 0.55)):
        lit = canvas.alpha(points + (0, drop), box, s * 0.012)
        canvas.shade(box, mask * (1 - lit), factor)
    disc(radius * 0.17, (1, 1, 1), (np.sign(face.light[0] or 1) * radius * 0.35, -radius * 0.3), 0.9)


def brow(face: Face, canvas: Canvas, side: int) -> None:
    """An arched shape filled with short hairs."""
    b, e, rng = face.brow, face.eye, face.rng
    x, y, half = e["x"] * side * 1.04, e["y"] - b["lift"], b["half"]
    t = np.linspace(-1, 1, 7)  # -1: inner end
    line = y - b["arch"] * (1 - ((t - 0.2) / 1.2) ** 2 - 0.9 * np.clip(t, 0, 1) ** 2) - b["tilt"] * t
    thick = b["thick"] * np.interp(t, [-1, -0.4, 0.3, 1], [0.75, 1, 0.85, 0.2])
    columns = x + side * t * half
    outline = between(np.stack((columns, line - thick / 2), 1), np.stack((columns, line + thick / 2), 1))
    points = smooth(project(face, outline), 4)
    color = np.clip(face.hair * 0.75, 0.02, 0.6) if face.hair.mean() > 0.3 else face.hair * 0.9
    canvas.paint(points, color, LB if side < 0 else RB, face.scale * 0.012, b["strength"] * 0.72)
    s = rng.uniform(-0.98, 0.98, 60)
    rise = np.interp(s, t, line) + rng.uniform(-0.4, 0.4, 60) * np.interp(s, t, thick)
    foot = np.stack((x + side * s * half, rise), 1)
    tip = foot + np.stack((side * rng.uniform(0.02, 0.05, 60), -rng.uniform(0.0, 0.03, 60)), 1)
    hairs = np.stack((project(face, foot), project(face, tip)), 1)
    canvas.lines(hairs, color * 0.6, face.scale * 0.01, b["strength"] * 0.7, fine=2)


def mouth(face: Face, canvas: Canvas) -> None:
    """Upper lip, lower lip and, when it is open, teeth or the dark between."""
    m, s, rng = face.mouth, face.scale, face.rng
    half, y, gap = m["half"] * (1 + 0.25 * (m["open"] > 0)), m["y"], m["open"]
    t = np.linspace(-1, 1, 9)
    curve = y - m["smile"] * 2 * t**2 + 0.02
    bow = m["upper"] * (1 - t**2) ** 0.6 * (1 - 0.28 * np.exp(-((t / 0.16) ** 2)))
    inner_top = curve - gap * 0.35 * (1 - t**2)
    inner_low = curve + gap * 0.65 * (1 - t**2)
    low = inner_low + m["lower"] * (1 - t**2) ** 0.55
    xs = t * half

    def shape(top, bottom):
        outline = between(np.stack((xs, top), 1), np.stack((xs, bottom), 1)[1:-1])
        return smooth(project(face, outline), 4)

    natural = face.skin * np.array([0.92, 0.66, 0.64])
    paint = np.array([(0.62, 0.12, 0.16), (0.72, 0.25, 0.3), (0.5, 0.1, 0.2)])[rng.integers(3)]
    color = natural + (paint - natural) * face.makeup * m["color"]
    if gap:
        interior(face, canvas, shape(inner_top, inner_low), xs, inner_top, gap)
    canvas.paint(shape(low - m["lower"] * 0.15, low + 0.06), face.skin * 0.5, None, s * 0.03, 0.35)
    canvas.paint(shape(inner_top - bow, inner_top), color * 0.8, ULIP, s * 0.006, 0.92)
    canvas.paint(shape(inner_low, low), color, LLIP, s * 0.006, 0.92)
    gloss = np.stack((xs[3:6] * 0.8, (inner_low + m["lower"] * 0.4)[3:6]), 1)
    canvas.line(project(face, gloss), np.minimum(color * 1.7 + 0.1, 1), s * 0.025, 0.35, s * 0.012)
    if not gap:
        canvas.line(project(face, np.stack((xs, curve), 1)), color * 0.3, s * 0.016, 0.8, s * 0.004)


def interior(face: Face, canvas: Canvas, points: np.ndarray, xs: np.ndarray, top: np.ndarray, gap: float) -> None:
    """The open mouth: dark, with the upper teeth where they are seen."""
    canvas.paint(points, (0.16, 0.05, 0.05), IMOUTH)
    box = canvas.box(points, 2)
    if not face.mouth["teeth"]:
        return
    low = top + gap * 0.55 * (1 - 0.4 * (xs / xs[-1]) ** 2)
    edge = between(np.stack((xs, top - 0.02), 1), np.stack((xs * 0.88, low), 1))
    alpha = canvas.alpha(project(face, edge), box) * canvas.alpha(points, box)
    canvas.lay(box, alpha * 0.95, np.array([0.93, 0.9, 0.84]) * (0.72 + 0.25 * face.light[2]))
    for x in np.linspace(-0.6, 0.6, 6) * xs[-1]:
        gap_line = project(face, np.array([(x, top.min() - 0.02), (x, top.max() + gap * 0.5)]))
        canvas.line(gap_line, (0.5, 0.45, 0.4), face.scale * 0.006, 0.35)


def beard(face: Face, canvas: Canvas) -> None:
    """Stubble to full beard: darker, rougher skin around the mouth; it stays face in the label."""
    w, rng = face.width * face.jaw, face.rng
    inner = [(-0.1, 0.42), (-0.34, 0.4), (-w * 0.86, 0.3)]
    outer = [(-w * 1.02, 0.1), (-w * 1.0, 0.5), (-w * 0.74, 0.8), (-0.28, 0.99), (0, 1.02)]
    points = smooth(project(face, mirror(*inner, *outer), 0.45))
    box = canvas.box(points, 0.1 * face.scale)
    alpha = canvas.alpha(points, box, face.scale * 0.035) * (canvas.label[box] == FACE)
    grain = clouds(rng, alpha.shape, (1.4 + face.scale / 150,)) * 0.35 + 0.8
    canvas.lay(box, np.clip(alpha * grain, 0, 1) * face.beard * 0.8, np.clip(face.hair * 0.8, 0, 0.7))


def glasses(face: Face, canvas: Canvas) -> None:
    """Frames, bridge and temples, and a reflection: the label keeps what lies beneath."""
    rng, e, s = face.rng, face.eye, face.scale
    color = rng.choice([0.06, 0.25, 0.6]) * rng.uniform(0.6, 1.3, 3).clip(0, 1.4)
    square, rx, ry = rng.uniform(0.5, 1), rng.uniform(0.22, 0.26), rng.uniform(0.15, 0.2)
    t = np.linspace(0, 2 * np.pi, 40)
    x, y = (np.sign(wave) * np.abs(wave) ** square for wave in (np.cos(t), np.sin(t)))
    ring = np.stack((x * rx, y * ry), 1)
    thick = s * rng.uniform(0.018, 0.05)
    for side in (-1, 1):
        rim = ring + (side * (e["x"] + 0.01), e["y"] + 0.03)
        points = project(face, rim, 0.95)
        canvas.paint(points, (0.85, 0.9, 0.95), None, 0, rng.uniform(0.02, 0.12))
        canvas.line(points, color, thick, 0.95)
        temple = np.array([(side * (e["x"] + rx), e["y"]), (side * face.width * 1.02, e["y"] - 0.06)])
        canvas.line(project(face, temple, np.array([0.9, 0.25])), color, thick, 0.9)
    bridge = np.array([(-(e["x"] - rx + 0.01), e["y"]), (0, e["y"] - 0.04), (e["x"] - rx + 0.01, e["y"])])
    canvas.line(project(face, bridge, 1.0), color, thick, 0.95)


def hair_field(face: Face, canvas: Canvas) -> Field:
    """A function box -> strands float32[h,w,3]: noise along the angle around the parting, with a sheen."""
    height, width, rng = canvas.height, canvas.width, face.rng
    ys, xs = np.mgrid[0:height:2, 0:width:2].astype(np.float32)
    x, y = unproject(face, xs, ys)
    part = rng.uniform(-0.4, 0.4)
    angle, radius = np.arctan2(x - part, -(y + 1.25)), np.hypot(x - part, y + 1.25)
    wave = clouds(rng, angle.shape, (face.scale / 7, face.scale / 20)) * (0.012 + 0.02 * face.curl)
    noise = rng.standard_normal(4096).astype(np.float32)
    place = (angle + wave * (0.5 + radius)) / (2 * np.pi) % 1 * 4096
    coarse, fine = (np.interp(place, np.arange(4096), smooth_line(noise, length)) for length in (60, 16))
    strands = coarse * 0.12 + fine * 0.13
    curls = clouds(rng, angle.shape, (face.scale / 9, face.scale / 20)) * 0.3 * face.curl
    sheen = 0.35 * np.exp(-(((radius - 0.55 - 0.2 * wave) / 0.16) ** 2)) * (0.6 + 0.5 * face.light[0] * np.sign(x))
    slope = x * face.light[0] - 0.5 * (y + 0.4) * -face.light[1]
    lit = 0.72 + 0.25 * slope + strands + curls + sheen * (1 - face.curl * 0.6)
    field = face.hair * np.clip(lit, 0.25, 2)[..., None] + np.clip(sheen, 0, 1)[..., None] * 0.06
    whole = enlarge(field, height, width)
    return lambda box: whole[box]


def ragged(face: Face, points: np.ndarray, amount: float) -> np.ndarray:
    """An outline with curls or stray locks: points of the face's frame moved in and out."""
    bumps = smooth_line(face.rng.standard_normal(len(points)).astype(np.float32), max(3, len(points) // 40))
    away = points - points.mean(0)
    return points + away / np.linalg.norm(away, axis=1, keepdims=True) * bumps[:, None] * amount


def back_hair(face: Face, canvas: Canvas, hair: Field) -> None:
    """What falls behind the neck and shoulders."""
    length = {"bob": face.rng.uniform(0.75, 1.2), "long": face.rng.uniform(1.4, 2.6)}.get(face.style)
    if length is None:
        return
    wide = face.rng.uniform(1.05, 1.4)
    side = [(wide, 0.2), (wide * 1.02, 0.7 * length), (wide * 0.8, length), (0.3, length * 0.95)]
    outline = smooth(mirror((0, -1.52), (0.75, -1.3), (1.02, -0.6), *side), 16)
    points = project(face, ragged(face, outline, 0.02 + 0.05 * face.curl), 0.0)
    canvas.paint(points, lambda box: hair(box) * 0.72, HAIR)


def hairline(face: Face) -> np.ndarray:
    """The front edge of the hair from the right temple to the left, in the face's frame."""
    rng, w = face.rng, face.width
    if face.style == "fringe":
        level, side = rng.uniform(-0.52, -0.34), rng.uniform(-0.1, 0.1)
        xs = np.linspace(0.93 * w, -0.93 * w, 15)
        ys = level + side * xs + 0.05 * np.cos(xs * 2) + rng.uniform(-0.05, 0.05, 15)
        return np.stack((xs, ys), 1)
    level, sharp = rng.uniform(-0.98, -0.74), rng.uniform(2.5, 6)
    xs = np.linspace(0.97 * w, -0.97 * w, 21)
    ys = level + (-0.22 - level) * (np.abs(xs) / (0.97 * w)) ** sharp
    ys += rng.uniform(0, 0.07) * np.exp(-((xs / 0.1) ** 2)) + rng.normal(0, 0.012, 21)  # a peak, a few stray hairs
    if face.style in ("bob", "long", "short"):  # swept to one side
        ys += rng.uniform(0, 0.3) * np.exp(-(((xs - rng.choice((-1, 1)) * 0.62 * w) / (0.3 * w)) ** 2))
    return np.stack((xs, ys), 1)


def front_hair(face: Face, canvas: Canvas, hair: Field) -> None:
    """The cap over the skull down to the hairline, and locks beside the face."""
    if face.style == "bald":
        return
    w, rng = face.width, face.rng
    volume = {"cropped": 0.06, "short": 0.2, "fringe": 0.24, "bob": 0.28, "long": 0.28}[face.style]
    volume = volume * rng.uniform(0.8, 1.5) + 0.2 * face.curl
    side = {"cropped": -0.15, "short": rng.uniform(-0.1, 0.15)}.get(face.style, rng.uniform(0.3, 0.6))
    temple = [(-1.0 * w, side), (-(1.1 * w + volume * 0.4), -0.45)]
    crown = [(-(0.92 * w + volume * 0.4), -0.98 - volume * 0.5), (-0.5 * w, -1.3 - volume)]
    outer = smooth(mirror(*temple, *crown), 12)[: 7 * 12 + 1]
    outer = ragged(face, outer, 0.008 + 0.045 * face.curl)
    line = hairline(face)
    points = np.concatenate((project(face, outer, 0.15), project(face, line, 0.55)))
    canvas.paint(points, hair, HAIR, 0.8)
    shadow = canvas.box(points)
    soft = canvas.alpha(points + (0, 0.06 * face.scale), shadow, face.scale * 0.04) * (canvas.label[shadow] != HAIR)
    canvas.shade(shadow, soft, 0.78)
    if face.style in ("bob", "long", "fringe"):
        locks(face, canvas, hair)


def locks(face: Face, canvas: Canvas, hair: Field) -> None:
    """Hair in front of the ears and the edge of the face."""
    rng, w = face.rng, face.width
    end = {"fringe": rng.uniform(0.2, 1.0), "bob": rng.uniform(0.7, 1.1), "long": rng.uniform(1.2, 2.2)}[face.style]
    for side in (-1, 1):
        inner = rng.uniform(0.78, 1.0) * w
        front = [(0.7 * w, -0.75), (inner, -0.2), (inner * rng.uniform(0.94, 1.06), 0.3 * end)]
        tip = [(inner * 1.08, 0.75 * end), (1.05 * w, end)]
        back = [(1.35 * w, 0.8 * end), (1.38 * w, 0.2), (1.2 * w, -0.6), (0.9 * w, -1.1)]
        outline = smooth(np.array([*front, *tip, *back]) * (side, 1), 10)
        canvas.paint(project(face, ragged(face, outline, 0.006 + 0.03 * face.curl), 0.2), hair, HAIR, 0.8)


def draw_face(seed: int, size: tuple[int, int] | None = None) -> tuple[np.ndarray, np.ndarray]:
    """Seed and (height, width), random if None -> photo uint8[H,W,3] RGB, label uint8[H,W] in 0..10."""
    rng = np.random.default_rng([seed, 11])
    own_size = random_size(rng)
    height, width = size or own_size
    face = random_face(rng, height, width)
    own = [face.skin, face.hair, face.hair * 1.8, face.skin * 0.6]
    canvas = Canvas(backdrop(face.rng, height, width, own))
    skin, hair = skin_field(face, canvas), hair_field(face, canvas)
    back_hair(face, canvas, hair)
    neck_and_clothes(face, canvas, skin)
    ears(face, canvas, skin)
    under_chin(face, canvas)
    canvas.paint(face_outline(face), skin, FACE, 0.7)
    nose(face, canvas)
    for side in (-1, 1):
        eye(face, canvas, side)
        brow(face, canvas, side)
    mouth(face, canvas)
    if face.beard:
        beard(face, canvas)
    if face.glasses:
        glasses(face, canvas)
    front_hair(face, canvas, hair)
    return develop(face, canvas.image), canvas.label


def under_chin(face: Face, canvas: Canvas) -> None:
    """The shadow that the head throws on the neck."""
    points = face_outline(face) + (-face.light[0] * 0.1 * face.scale, 0.12 * face.scale)
    box = canvas.box(points, 0.2 * face.scale)
    canvas.shade(box, canvas.alpha(points, box, face.scale * 0.06), 0.6)


def random_size(rng: np.random.Generator) -> tuple[int, int]:
    """Height and width of 300 to 900 pixels, upright, square or wide."""
    area, shape = rng.uniform(380, 640), np.exp(rng.normal(0.06, 0.14))
    return int(np.clip(area * shape, 300, 900)), int(np.clip(area / shape, 300, 900))


def develop(face: Face, image: np.ndarray) -> np.ndarray:
    """Light from the side, white balance and exposure; then the camera -> uint8[H,W,3]."""
    rng = face.rng
    ramp = 1 + face.light[0] * 0.18 * np.linspace(-1, 1, image.shape[1], dtype=np.float32)[None, :, None]
    balance = 1 + rng.normal(0, 0.04, 3)
    exposure = rng.uniform(0.95, 1.15) * (1.17 - 0.3 * face.skin.mean())  # as a camera measures it
    return camera(rng, np.clip(image * ramp * balance * exposure, 0, 1))
