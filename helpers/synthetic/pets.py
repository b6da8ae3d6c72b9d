"""Synthetic cats and dogs with exact trimaps: outlines with fur, photo and label from the same shapes."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageFilter

from .canvas import Box, Canvas, backdrop, camera, circle, clouds, colors, mirror, smooth, smooth_line

PET, BACKGROUND, BORDER = 1, 2, 3  # ids of a trimap
COATS = colors("e2c8a0 c48a50 784e30 3c302a 1e1c1e 969290 ebe6de")

Coat = Callable[..., Callable[[Box], np.ndarray]]  # (colour, shade) -> painter of a box


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
    facing: float  # 1, or -1 for mirrored


def random_animal(rng: np.random.Generator, height: int, width: int, dog: bool) -> Animal:
    """An animal that about fills the picture."""
    coat = COATS[rng.integers(len(COATS))] * rng.uniform(0.8, 1.15)
    second = COATS[rng.integers(len(COATS))] if rng.random() < 0.6 else coat * 0.9
    lying = bool(rng.random() < 0.35)
    scale = min(height * rng.uniform(0.36, 0.5), width * rng.uniform(0.36, 0.5)) * (0.8 if lying else 1)
    center = np.array([width * rng.normal(0.5, 0.06), height * rng.normal(0.53, 0.04)])
    stripes, fluff = float(rng.uniform(0.1, 0.5) * (rng.random() < 0.5)), rng.uniform(0.01, 0.05)
    facing = float(rng.choice((-1, 1)))
    return Animal(dog, np.clip(coat, 0.04, 0.97), second, lying, stripes, fluff, scale, center, facing)


def place(animal: Animal, points: np.ndarray | list) -> np.ndarray:
    """The animal's frame -> pixels."""
    return np.asarray(points, float) * (animal.facing * animal.scale, animal.scale) + animal.center


def furry(animal: Animal, rng: np.random.Generator, points: np.ndarray | list) -> np.ndarray:
    """A smooth outline through points, ragged as the coat is, in pixels."""
    line = smooth(points, 14)
    away = line - line.mean(0)
    bumps = smooth_line(rng.standard_normal(len(line)).astype(np.float32), 3)[:, None]
    return place(animal, line + away / (np.linalg.norm(away, axis=1, keepdims=True) + 1e-6) * bumps * animal.fluff)


def fur(animal: Animal, rng: np.random.Generator, height: int, width: int) -> Coat:
    """A function (colour, shade) -> painter of a box: hairs, stripes and light from above."""
    hairs = clouds(rng, (height, width), (animal.scale / 5, animal.scale / 18, 2.2))
    across = np.arange(width)[None] / animal.scale * 9 + hairs * 0.9 + np.arange(height)[:, None] / animal.scale * 2
    texture = 1 + 0.12 * hairs - animal.stripes * (np.sin(across * np.pi) > 0.35)
    light = np.linspace(1.15, 0.8, height)[:, None]
    return lambda color, shade=1.0: lambda area: color * shade * (texture * light)[area][..., None]


def body(animal: Animal, canvas: Canvas, rng: np.random.Generator, coat: Coat) -> tuple[float, float]:
    """Tail, body, legs and chest; returns where the head is."""
    tail = [(0.5, 0.75), (0.9, 0.5), (1.0, 0.0), (1.1, 0.0), (1.05, 0.6), (0.6, 0.95)]
    if animal.lying:
        back = [(-0.75, 0.25), (-0.3, 0.0), (0.5, 0.02), (1.0, 0.25)]
        outline = np.array([*back, (1.12, 0.62), (0.8, 0.85), (-0.7, 0.85)])
        front_leg = [(-0.85, 0.62), (-0.2, 0.6), (-0.2, 0.86), (-1.0, 0.87)]
        legs = [front_leg, [(0.5, 0.55), (1.0, 0.6), (0.9, 0.87), (0.3, 0.87)]]
        head = (-0.62, 0.0)
    else:
        outline = mirror((0.3, -0.35), (0.48, 0.2), (0.6, 0.8), (0.35, 0.98))
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


def ears(animal: Animal, canvas: Canvas, rng: np.random.Generator, coat: Coat, x: float, y: float) -> None:
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


def head(animal: Animal, canvas: Canvas, rng: np.random.Generator, coat: Coat, x: float, y: float) -> None:
    """Head, muzzle, eyes and nose."""
    if not animal.dog:
        ears(animal, canvas, rng, coat, x, y)
    canvas.paint(furry(animal, rng, circle(8) * (0.44, 0.38) + (x, y)), coat(animal.coat, 1.1), PET, 0.6)
    if animal.dog:
        ears(animal, canvas, rng, coat, x, y)
    muzzle = circle(8) * (0.22, 0.24 if animal.dog else 0.17) + (x, y + 0.2)
    canvas.paint(furry(animal, rng, muzzle), coat(animal.second, 1.1), PET, 1)
    eye = (0.16, 0.1, 0.06) if animal.dog else tuple(rng.uniform((0.5, 0.5, 0.1), (0.8, 0.7, 0.4)))
    for side in (-1, 1):
        for radius, color in ((0.075, eye), (0.042, (0.02, 0.02, 0.02))):
            canvas.paint(place(animal, circle(8) * radius + (x + side * 0.18, y - 0.05)), color)
    nose, color = [(-0.07, 0.08), (0.07, 0.08), (0.0, 0.17)], (0.7, 0.42, 0.42)
    if animal.dog:
        nose, color = [(-0.1, 0.1), (0.1, 0.1), (0.05, 0.22), (-0.05, 0.22)], (0.12, 0.08, 0.08)
    canvas.paint(place(animal, np.array(nose) + (x, y)), color, None, 0.6)
    canvas.line(place(animal, np.array([(x, y + 0.17), (x, y + 0.28)])), (0.15, 0.1, 0.1), max(1, animal.scale / 60))


def trimap(pet: np.ndarray) -> np.ndarray:
    """bool[H,W] -> 1 pet, 2 background, and a band of 3 that lies on both sides of the outline, uint8[H,W]."""
    soft = Image.fromarray(pet.astype(np.uint8) * 255).filter(ImageFilter.GaussianBlur(max(2.0, min(pet.shape) / 60)))
    share = np.asarray(soft, np.float32) / 255
    return np.select([share > 0.85, share < 0.15], [PET, BACKGROUND], BORDER).astype(np.uint8)


def draw_pet(seed: int, dog: bool) -> tuple[np.ndarray, np.ndarray]:
    """-> photo uint8[H,W,3] of a size of its own, trimap uint8[H,W] of 1 pet, 2 background, 3 border."""
    rng = np.random.default_rng([seed, 37])
    height, width = (int(side) for side in rng.integers(230, 460, 2))
    animal = random_animal(rng, height, width, dog)
    canvas = Canvas(backdrop(rng, height, width, [animal.coat, animal.second, animal.coat * 0.6]))
    shadow = place(animal, np.array([(-0.8, 0.9), (0.8, 0.9), (0.9, 1.02), (-0.9, 1.02)]))
    canvas.paint(shadow, (0.05, 0.05, 0.05), None, animal.scale * 0.08, 0.5)
    coat = fur(animal, rng, height, width)
    head(animal, canvas, rng, coat, *body(animal, canvas, rng, coat))
    return camera(rng, np.clip(canvas.image * rng.uniform(0.7, 1.15), 0, 1)), trimap(canvas.label == PET)
