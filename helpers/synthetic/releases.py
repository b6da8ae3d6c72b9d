"""Writes synthetic samples as releases, in the layouts of Helen*, CamVid, Cityscapes pairs and Oxford-IIIT Pet.

Same counts and versions, same bytes. What is there already and can be read stays, so that a stopped run goes on.
"""

import functools
import io
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from tqdm import tqdm

from .. import catalog
from ..core import files, hardware
from ..core.errors import DataError
from . import faces, pets, streets

QUALITY = 90  # of the JPEGs


@dataclass(frozen=True)
class Sample:
    """Files of one sample; `encode(*arguments)` draws it and gives their bytes, in the same order."""

    paths: tuple[Path, ...]
    encode: Callable[..., tuple[bytes, ...]]
    arguments: tuple

    def write(self) -> None:
        """Write the files, unless all of them are there and can be decoded whole."""
        if not all(map(is_whole, self.paths)):
            for path, data in zip(self.paths, self.encode(*self.arguments), strict=True):
                files.write_atomic(path, data)


def write_all(samples: list[Sample], title: str, progress: bool) -> None:
    """Write all samples on all cores, with a bar if wanted. Spawned: a notebook's kernel must not be forked."""
    workers, bar = max(1, min(hardware.cores(), len(samples))), files.bar_style()
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
        for _ in tqdm(pool.map(Sample.write, samples, chunksize=4), title, len(samples), disable=not progress, **bar):
            pass


def is_whole(path: Path) -> bool:
    """Whether the picture is there and can be decoded to its end."""
    try:
        return path.exists() and files.read_photo(path) is not None
    except DataError:
        return False


def encoded(pixels: np.ndarray, format: str) -> bytes:
    """uint8[H,W] or [H,W,3] -> the bytes of a JPEG or PNG file."""
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, format, quality=QUALITY)  # PNG has none and ignores it
    return stream.getvalue()


def sample_id(seed: int) -> str:
    """A name as the release has them, a number and a count: every seed below a billion has its own."""
    return f"{(seed + 1) * 387420489 % 1_000_000_007:09}_1"


def face_seed(split: str, number: int) -> int:
    """Which face the number-th of a split is: train and test share none."""
    return number + (100_000 if split == "test" else 0)


def blended(image: np.ndarray, label: np.ndarray) -> np.ndarray:
    """Photo uint8[H,W,3] and label uint8[H,W] -> the release's picture for human eyes, uint8[H,W,3]."""
    colors = np.array(catalog.HELEN.colors, np.float32)[label]
    return (0.45 * image + 0.55 * colors).astype(np.uint8)


def encode_face(seed: int) -> tuple[bytes, ...]:
    """Photo, picture for human eyes, label."""
    image, label = faces.draw_face(seed)
    return encoded(image, "JPEG"), encoded(blended(image, label), "JPEG"), encoded(label, "PNG")


def write_helen(root: Path, train: int, test: int, progress: bool = True) -> Path:
    """Faces in root/helenstar_release, which is returned: train/ and test/ with three files a sample."""
    release = Path(root) / "helenstar_release"
    samples = []
    for split, count in {"train": train, "test": test}.items():
        for seed in (face_seed(split, number) for number in range(count)):
            name = sample_id(seed)
            paths = tuple(release / split / f"{name}_{kind}" for kind in ("image.jpg", "viz.jpg", "label.png"))
            samples.append(Sample(paths, encode_face, (seed,)))
    write_all(samples, "draw faces", progress)
    return release


# --- CamVid and Cityscapes ------------------------------------------------------------------------------------------

# CamVid's own name of each class of FINE, in its order, as Kaggle's release has them.
CAMVID_NAMES = (
    "Road Sidewalk Building Wall Fence Column_Pole TrafficLight SignSymbol Tree VegetationMisc Sky Pedestrian "
    "Bicyclist Car Truck_Bus Truck_Bus Train MotorcycleScooter Bicyclist LaneMkgsDriv ParkingBlock"
)
SEQUENCES = ("0001TP", "0006R0", "0016E5", "Seq05VD")  # names of CamVid's drives


def lookup(values: dict[str, Any], void: int | tuple[int, ...]) -> np.ndarray:
    """A value of each class of FINE, and of VOID -> uint8[256] or uint8[256,3] to index by a label map."""
    table = np.array([void] * 256, np.uint8)
    for name, value in values.items():
        table[streets.ID[name]] = value
    return table


def camvid_table(colors: bool) -> np.ndarray:
    """FINE -> the colours of Kaggle's masks, or SegNet's ids: 0-10, and 11 for void."""
    rows = {row.name: row for row in catalog.CAMVID_TABLE}
    own = {name: rows[camvid] for name, camvid in zip(streets.FINE, CAMVID_NAMES.split())}
    if colors:
        return lookup({name: row.color for name, row in own.items()}, rows["Void"].color)
    return lookup({name: catalog.CAMVID.id(row.maps_to) for name, row in own.items()}, 11)


def pair_colors() -> np.ndarray:
    """FINE -> the colours of Cityscapes' labels; the strip for parking is one of its void ones."""
    own = {"lane": catalog.CITYSCAPES_CLASSES["road"], "parking": catalog.CITYSCAPES_VOID["parking"]}
    return lookup(catalog.CITYSCAPES_CLASSES | own, (0, 0, 0))


def encode_frame(seed: int, frame: int, table: np.ndarray) -> tuple[bytes, ...]:
    """One frame of a sequence, 480 x 360, and its label."""
    image, fine = streets.draw_street(seed, frame)
    return encoded(image, "PNG"), encoded(table[fine], "PNG")


def encode_pair(seed: int, frame: int) -> tuple[bytes, ...]:
    """Photo left, colour label right, one JPEG of 512 x 256."""
    image, fine = streets.draw_street(seed, frame, (256, 256), squeeze=0.5, own_car=True)
    return (encoded(np.concatenate((image, pair_colors()[fine]), 1), "JPEG"),)


def frames_of(counts: dict[str, int]) -> list[tuple[str, int, int, int]]:
    """(split, number, street, frame): whole sequences to one split, since neighbouring frames are nearly the same."""
    found, street = [], 0
    for split, count in counts.items():
        found += [(split, i, street + i // streets.FRAMES, i % streets.FRAMES) for i in range(count)]
        street += -(-count // streets.FRAMES)
    return found


def write_camvid(root: Path, train: int, test: int, progress: bool = True, kaggle: bool = False) -> Path:
    """CamVid as SegNet's tutorial has it (ids), or as Kaggle has it (colours and class_dict.csv).

    A tenth of `train`, but at least two frames, is val.
    """
    table = camvid_table(colors=kaggle)
    folder, ending = ("_labels", "_L") if kaggle else ("annot", "")
    val = max(2, train // 10)
    samples = []
    for split, _, street, frame in frames_of({"train": train - val, "val": val, "test": test}):
        name = f"{SEQUENCES[street % 4]}_{street:03}{30 * frame:03}"
        paths = root / split / f"{name}.png", root / f"{split}{folder}" / f"{name}{ending}.png"
        samples.append(Sample(paths, encode_frame, (street, frame, table)))
    write_all(samples, "draw streets", progress)
    if kaggle:
        rows = [f"{row.name},{','.join(map(str, row.color))}" for row in catalog.CAMVID_TABLE]
        files.write_atomic(root / "class_dict.csv", "\n".join(["name,r,g,b", *rows, ""]).encode())
    return root


def write_cityscapes(root: Path, train: int, test: int, progress: bool = True) -> Path:
    """Cityscapes image pairs: train/N.jpg and val/N.jpg, both counted from 1, from streets of their own."""
    samples = [
        Sample((root / split / f"{number + 1}.jpg",), encode_pair, (5000 + street, frame))
        for split, number, street, frame in frames_of({"train": train, "val": test})
    ]
    write_all(samples, "draw streets", progress)
    return root


# --- pets -----------------------------------------------------------------------------------------------------------

BREEDS = ("Abyssinian", "beagle", "Bengal", "boxer", "Birman", "pug", "Maine_Coon", "samoyed")  # a capital says cat


def encode_pet(seed: int, dog: bool) -> tuple[bytes, ...]:
    """Photo and trimap."""
    image, trimap = pets.draw_pet(seed, dog)
    return encoded(image, "JPEG"), encoded(trimap, "PNG")


def write_pets(root: Path, train: int, test: int, progress: bool = True) -> Path:
    """images/, annotations/trimaps/ and the two official lists, of eight breeds."""
    names = [f"{BREEDS[i % 8]}_{i // 8 + 1}" for i in range(train + test)]
    samples = []
    for seed, name in enumerate(names):
        paths = root / "images" / f"{name}.jpg", root / "annotations" / "trimaps" / f"{name}.png"
        samples.append(Sample(paths, encode_pet, (seed, name[0].islower())))
    write_all(samples, "draw pets", progress)
    for title, part in (("trainval", names[:train]), ("test", names[train:])):
        lines = [f"{name} {BREEDS.index(name.rpartition('_')[0]) + 1} {1 + name[0].islower()} 1" for name in part]
        files.write_atomic(root / "annotations" / f"{title}.txt", "\n".join([*lines, ""]).encode())
    return root


# Dataset -> (root, train, test, progress=True) -> the folder that holds the release.
WRITERS: dict[str, Callable[..., Path]] = {
    "helen": write_helen,
    "pets": write_pets,
    "camvid": write_camvid,
    "camvid32": functools.partial(write_camvid, kaggle=True),
    "cityscapes": write_cityscapes,
}
