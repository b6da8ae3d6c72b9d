"""Photo of any size -> label map at the photo's own size.

`python -m helpers.predict PHOTOS_DIR OUT_DIR` writes one label PNG a photo.
"""

import argparse
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F
from tqdm import tqdm

from . import catalog, checkpoint, env, files, masks, preprocess, unet
from .augment import to_float
from .errors import DataError, UNetError

PRETRAINED = env.REPO / "weights" / "helen-demo.pt"  # trained by the demo run, so that 05 and 06 work before 04
PHOTO_SUFFIXES = {".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff"}
FINEST = 1024  # logits are enlarged to at most this side; beyond it the label map is, so that memory stays small


class Segmenter:
    """A trained network with what it needs to be used: input size, normalisation, dataset, device."""

    def __init__(self, model: unet.UNet, settings: catalog.Settings, device: torch.device | str | None = None):
        self.device = torch.device(device or env.pick_device())
        self.model, self.settings = model.to(self.device, memory_format=torch.channels_last).eval(), settings
        self.dataset = catalog.dataset(settings.dataset)
        self.about: dict = {}  # an export's own words: scores, what it was trained on, versions

    @torch.no_grad()
    def logits(self, photos: list[np.ndarray]) -> Tensor:
        """uint8[H,W,3] photos of any sizes -> f32[B,C,S,T], resized by the very code that made the training arrays."""
        small = np.stack([preprocess.resize_photo(photo, self.settings.shape) for photo in photos])
        x = torch.from_numpy(small).to(self.device)
        return self.model(to_float(x, self.settings.mean, self.settings.std))

    def predict(self, photos: list[np.ndarray]) -> list[np.ndarray]:
        """uint8[H,W,3] photos of any sizes -> uint8[H,W] label maps at their own sizes."""
        logits = self.logits(photos).cpu()
        return [enlarge(one, photo.shape[:2]) for one, photo in zip(logits, photos, strict=True)]


def enlarge(logits: Tensor, size: tuple[int, int]) -> np.ndarray:
    """Logits f32[C,S,T] -> uint8[H,W]: bilinear on the logits, then the largest; labels are never interpolated."""
    scale = min(1.0, FINEST / max(size))
    work = [max(1, round(side * scale)) for side in size]
    label = F.interpolate(logits[None], work, mode="bilinear", align_corners=False).argmax(1)
    if tuple(work) != tuple(size):
        label = F.interpolate(label[None].float(), size, mode="nearest-exact")[0]
    return label[0].to(torch.uint8).numpy()


def load(where: Path | str, device: torch.device | str | None = None) -> Segmenter:
    """Path or http(s) address of an export (trainer.export) -> Segmenter; CheckpointError if it is not one."""
    model, settings, about = checkpoint.read_export(where)
    segmenter = Segmenter(model, settings, device)
    segmenter.about = {k: about[k] for k in ("scores", "trained_on", "versions")}
    return segmenter


def find_weights(dataset: str, run: str) -> Path:
    """The export of a run, else (for faces) the one that comes with the project; DataError if there is neither."""
    for path in (env.run_dir(dataset, run) / "best.pt", *([PRETRAINED] if dataset == "helen" else [])):
        if path.exists():
            return path
    raise DataError(f"run {run!r} of {dataset} has no weights, and none come with the project: run notebook 04 first")


def predict_files(segmenter: Segmenter, photos: dict[str, Path], out: Path, batch: int = 8) -> dict[str, str]:
    """Photos by name -> out/<name>.png, a label map each at the photo's own size; returns name -> fault, of the bad.

    The next batch is decoded while the network works on this one.
    """
    names, faults = list(photos), {}
    chunks = [names[i : i + batch] for i in range(0, len(names), batch)]
    with ThreadPoolExecutor(env.cores()) as pool, tqdm(total=len(names), desc="predict") as bar:
        coming = [pool.submit(attempt, photos[n]) for n in chunks[0]] if chunks else []
        for chunk, following in zip(chunks, [*chunks[1:], []], strict=True):
            ready = [future.result() for future in coming]
            coming = [pool.submit(attempt, photos[n]) for n in following]
            faults |= {n: str(r) for n, r in zip(chunk, ready, strict=True) if isinstance(r, DataError)}
            good = {n: r for n, r in zip(chunk, ready, strict=True) if not isinstance(r, DataError)}
            labels = segmenter.predict(list(good.values())) if good else []
            list(pool.map(masks.write_label, [out / f"{n}.png" for n in good], labels))
            bar.update(len(chunk))
    return faults


def attempt(photo: Path) -> np.ndarray | DataError:
    """The photo, or the error that says why not."""
    try:
        return files.read_photo(photo)
    except DataError as error:
        return error


def main(arguments: list[str] | None = None) -> int:
    """The command line; returns the exit status: 0 if every photo was predicted."""
    parser = argparse.ArgumentParser(prog="python -m helpers.predict", description=__doc__)
    parser.add_argument("photos", type=Path, metavar="PHOTOS_DIR")
    parser.add_argument("out", type=Path, metavar="OUT_DIR")
    parser.add_argument("--weights", default=str(PRETRAINED), help="an export, by path or address")
    options = parser.parse_args(arguments)
    found = sorted(p for p in options.photos.glob("*") if p.suffix.lower() in PHOTO_SUFFIXES)
    if not found:
        kinds = ", ".join(sorted(PHOTO_SUFFIXES))
        print(f"error: no photos in {options.photos}: give a folder of {kinds}", file=sys.stderr)
        return 1
    if options.out.resolve() == options.photos.resolve():
        print("error: OUT_DIR is PHOTOS_DIR, so label maps would replace photos: give another folder", file=sys.stderr)
        return 1
    twins = len(found) != len({p.stem.casefold() for p in found})  # a.jpg and a.png would write the same a.png
    try:
        segmenter = load(options.weights)
        faults = predict_files(segmenter, {p.name if twins else p.stem: p for p in found}, options.out)
    except UNetError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    for fault in faults.values():
        print(f"left out: {fault}", file=sys.stderr)
    print(f"{len(found) - len(faults)} label maps in {options.out}")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
