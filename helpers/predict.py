"""Photo of any size -> label map at the photo's own size.

`python -m helpers.predict PHOTOS_DIR OUT_DIR` writes one label PNG a photo, `--to-onnx FILE` the network for others.
"""

import argparse
import copy
import json
import sys
import time
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional as F
from tqdm import tqdm

from . import catalog, preprocess, unet
from .augment import flip_table, to_float
from .core import env, files, hardware, masks
from .core.errors import DataError, UNetError
from .core.registry import load_dataset
from .settings import Settings
from .training import checkpoint

PRETRAINED = env.REPO / "weights" / "helen-demo.pt"  # trained by the demo run, so that 05 and 06 work before 04
PHOTO_SUFFIXES = {".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff"}
OPSET = 18  # of ONNX: what runtimes read since 2023, and the oldest that torch's exporter writes without a converter
FINEST = 1024  # logits are enlarged to at most this side; beyond it the label map is, so that memory stays small


class FromPhotos(nn.Module):
    """A network with its normalisation before it: uint8[B,S,T,3] RGB -> logits f32[B,C,S,T].

    flip: the mean of the photo's logits and of its mirror image's, these turned back, left and right classes swapped.
    """

    def __init__(self, model: nn.Module, settings: Settings, dataset: catalog.Dataset, flip: bool):
        super().__init__()
        self.model, self.mean, self.std, self.flip = model, settings.mean, settings.std, flip
        self.register_buffer("mirrored", flip_table(dataset.flip_pairs)[: len(dataset.classes)].long())

    def forward(self, photos: Tensor) -> Tensor:
        logits = self.model(to_float(photos, self.mean, self.std))
        if not self.flip:
            return logits
        # Logits and not probabilities: their mean is the geometric mean of the probabilities but for one number a
        # pixel, which decides nothing, neither here nor after `enlarge`; so what follows takes them as it is. The
        # mirror image goes by itself: as one batch of twice the size it would need twice the memory.
        other = self.model(to_float(photos.flip(2), self.mean, self.std))
        return (logits + other.flip(3).index_select(1, self.mirrored)) / 2


class Segmenter:
    """A trained network with what it needs to be used: input size, normalisation, dataset, device.

    flip: each photo is looked at twice, as it is and as its mirror image, and the two are averaged.
    """

    def __init__(
        self, model: unet.UNet, settings: Settings, device: torch.device | str | None = None, flip: bool = False
    ):
        self.device = torch.device(device or hardware.pick_device())
        self.model, self.settings, self.dataset = model, settings, load_dataset(settings.dataset)
        self.network = FromPhotos(model, settings, self.dataset, flip).eval()
        self.network.to(self.device, memory_format=torch.channels_last)
        self.about: dict = {}  # an export's own words: scores, what it was trained on, versions

    @torch.no_grad()
    def logits(self, photos: list[np.ndarray]) -> Tensor:
        """uint8[H,W,3] photos of any sizes -> f32[B,C,S,T], resized by the very code that made the training arrays."""
        small = np.stack([preprocess.resize_photo(photo, self.settings.shape) for photo in photos])
        return self.network(torch.from_numpy(small).to(self.device))

    def predict(self, photos: list[np.ndarray]) -> list[np.ndarray]:
        """uint8[H,W,3] photos of any sizes -> uint8[H,W] label maps at their own sizes."""
        logits = self.logits(photos).cpu()
        return [enlarge(one, photo.shape[:2]) for one, photo in zip(logits, photos, strict=True)]


def enlarge(logits: Tensor, size: tuple[int, int]) -> np.ndarray:
    """Logits f32[C,S,T] -> uint8[H,W]: bilinear on the logits, then the largest; labels are never interpolated."""
    scale = min(1.0, FINEST / max(size))
    work = [max(1, round(side * scale)) for side in size]
    label = largest(logits, work)
    if tuple(work) != tuple(size):
        label = F.interpolate(label[None, None].float(), size, mode="nearest-exact")[0, 0].to(torch.uint8)
    return label.numpy()


def largest(logits: Tensor, size: list[int]) -> Tensor:
    """Logits f32[C,S,T], enlarged bilinearly -> uint8[H,W], the largest's channel; of equal ones the first, as argmax.

    One channel at a time: a C-th of the memory, and about three times faster, since it stays in the cache.
    """
    label, best = torch.zeros(size, dtype=torch.uint8), torch.full(size, -torch.inf)
    for i, channel in enumerate(logits):
        value = F.interpolate(channel[None, None], size, mode="bilinear", align_corners=False)[0, 0]
        label.masked_fill_(value > best, i)
        best = torch.maximum(best, value)
    return label


def load(where: Path | str, device: torch.device | str | None = None, flip: bool = False) -> Segmenter:
    """Path or http(s) address of an export (trainer.export) -> Segmenter; CheckpointError if it is not one."""
    model, settings, about = checkpoint.read_export(where)
    segmenter = Segmenter(model, settings, device, flip)
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

    While the network works on one batch, the next is decoded and the one before is enlarged and written; no more are
    in memory, however many photos there are. DataError if a label map cannot be written: those before it are whole.
    """
    names, faults = list(photos), {}
    chunks = [names[i : i + batch] for i in range(0, len(names), batch)]
    with ThreadPoolExecutor(hardware.cores()) as pool, tqdm(total=len(names), desc="predict") as bar:
        coming, leaving = [], []
        for chunk, following in zip([[], *chunks], [*chunks, []], strict=True):  # the first has only a following one
            ready = dict(zip(chunk, [future.result() for future in coming], strict=True))
            coming = [pool.submit(attempt, photos[n]) for n in following]
            faults |= {n: str(r) for n, r in ready.items() if isinstance(r, DataError)}
            todo = label_maps(segmenter, {out / f"{n}.png": r for n, r in ready.items() if n not in faults})
            finish(leaving, bar)
            leaving = [pool.submit(write, *one) for one in todo]
            bar.update(len(chunk) - len(leaving))
        finish(leaving, bar)
    return faults


def label_maps(segmenter: Segmenter, photos: dict[Path, np.ndarray]) -> list[tuple[Path, Tensor, tuple[int, int]]]:
    """Run the network on one batch -> what `write` takes of each photo, without the photo, which may be large."""
    if not photos:
        return []
    logits = segmenter.logits(list(photos.values())).cpu()
    return [(path, one, photo.shape[:2]) for (path, photo), one in zip(photos.items(), logits, strict=True)]


def write(path: Path, logits: Tensor, size: tuple[int, int]) -> None:
    """Logits f32[C,S,T] -> a label map of `size` in a file; DataError if it cannot be written."""
    try:
        masks.write_label(path, enlarge(logits, size))
    except OSError as error:
        raise DataError(f"{env.shown(path)}: cannot be written ({error.strerror or error}); make room, or give another "
                        "folder, and predict again") from error  # fmt: skip


def finish(leaving: list[Future], bar: tqdm) -> None:
    """Wait until the label maps are written, and count them; raises what their writing raised."""
    for future in leaving:
        future.result()
        bar.update()


def attempt(photo: Path) -> np.ndarray | DataError:
    """The photo, or the error that says why not."""
    try:
        return files.read_photo(photo)
    except DataError as error:
        return error


def to_onnx(network: Segmenter | Path | str, path: Path | str) -> None:
    """Write a Segmenter's network, or that of an export by path or address, as ONNX for other runtimes.

    Input "photo" uint8[B,S,T,3]: RGB at the network's input size, any B; it is normalised inside, and averaged with
    its mirror image if the Segmenter does so. Output "logits" f32[B,C,S,T]: the largest channel is the class's id.
    Metadata: dataset; classes, colors and size (rows, columns) as JSON. UNetError if a package is missing or the file
    cannot be written; what was there stays then.
    """
    data = onnx_bytes(network if isinstance(network, Segmenter) else load(network, "cpu"))
    try:
        files.write_atomic(Path(path), data)
    except OSError as error:
        raise UNetError(f"{env.shown(path)}: cannot be written ({error.strerror or error}); make room, or give another "
                        "file, and try again") from error  # fmt: skip


def onnx_bytes(segmenter: Segmenter) -> bytes:
    """The content of to_onnx's file."""
    try:
        import onnx
        import onnxscript  # noqa: F401  # torch's exporter needs it
    except ImportError as error:
        raise UNetError(f"ONNX cannot be written ({error}): pip install onnx onnxscript") from error
    network = copy.deepcopy(segmenter.network).cpu()  # the same file, whatever device it works on
    example = torch.zeros(2, *segmenter.settings.shape, 3, dtype=torch.uint8)  # 2: a batch of 1 would be taken as fixed
    program = torch.onnx.export(
        network, (example,), dynamo=True, opset_version=OPSET, verbose=False,
        input_names=["photo"], output_names=["logits"], dynamic_shapes=({0: torch.export.Dim("batch")},),
    )  # fmt: skip
    model, dataset = program.model_proto, segmenter.dataset
    graph = model.graph
    for part in (graph, *graph.input, *graph.output, *graph.node, *graph.value_info, *graph.initializer):
        part.ClearField("metadata_props")  # the exporter's own notes, which tell the folders of this machine
    told = {"classes": dataset.classes, "colors": dataset.colors, "size": segmenter.settings.shape}
    onnx.helper.set_model_props(model, {"dataset": dataset.name} | {k: json.dumps(v) for k, v in told.items()})
    return model.SerializeToString()


USAGE = """python -m helpers.predict [--weights WEIGHTS] [--flip] [--colors] PHOTOS_DIR OUT_DIR
       python -m helpers.predict [--weights WEIGHTS] [--flip] --to-onnx FILE"""


def main(arguments: list[str] | None = None) -> int:
    """The command line; returns the exit status: 0 if every photo was predicted."""
    parser = argparse.ArgumentParser(prog="python -m helpers.predict", usage=USAGE, description=__doc__)
    parser.add_argument("photos", type=Path, nargs="?", metavar="PHOTOS_DIR")
    parser.add_argument("out", type=Path, nargs="?", metavar="OUT_DIR")
    parser.add_argument("--weights", default=str(PRETRAINED), help="an export, by path or address")
    parser.add_argument("--flip", action="store_true", help="average with the mirror image: twice the time")
    parser.add_argument("--colors", action="store_true", help="also OUT_DIR/colors: the label maps to look at")
    parser.add_argument("--to-onnx", type=Path, metavar="FILE", help="in place of two folders: write the network")
    options = parser.parse_args(arguments)
    if (options.out is None) == (options.to_onnx is None) or (options.photos and options.to_onnx):
        parser.error("give PHOTOS_DIR and OUT_DIR, or --to-onnx FILE")
    try:
        return write_network(options) if options.to_onnx else predict_folder(options)
    except UNetError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1


def write_network(options: argparse.Namespace) -> int:
    """What --to-onnx does; returns the exit status."""
    to_onnx(load(options.weights, "cpu", options.flip), options.to_onnx)
    print(f"network in {options.to_onnx}")
    return 0


def find_photos(folder: Path) -> list[Path]:
    """The photos right in a folder, sorted; tells of other files there; DataError if it is none or holds none."""
    if not folder.is_dir():
        fault = "is a file: give the folder that it lies in" if folder.exists() else "is not there: correct the path"
        raise DataError(f"{folder} {fault}")
    files_there = sorted(p for p in folder.glob("[!.]*") if p.is_file())
    found, kinds = [p for p in files_there if p.suffix.lower() in PHOTO_SUFFIXES], ", ".join(sorted(PHOTO_SUFFIXES))
    if not found:
        raise DataError(f"no photos in {folder}: give a folder of {kinds}")
    if others := [p.name for p in files_there if p not in found]:
        listed = ", ".join(others[:3]) + ", ..." * (len(others) > 3)
        print(f"not looked at: {len(others)} files that are none of {kinds} ({listed})", file=sys.stderr)
    return found


def color(label_maps: list[Path], dataset: catalog.Dataset) -> None:
    """colors/<name>.png beside each label map, in the classes' colours: ids themselves look black."""
    for path in label_maps:
        picture = masks.colorize(masks.read_label(path, len(dataset.classes)), dataset)
        with files.atomic(path.parent / "colors" / path.name) as file:
            Image.fromarray(picture).save(file, format="PNG")


def predict_folder(options: argparse.Namespace) -> int:
    """What PHOTOS_DIR OUT_DIR does; returns the exit status."""
    found = find_photos(options.photos)
    if options.out.exists() and not options.out.is_dir():
        raise DataError(f"{options.out} is a file, where OUT_DIR is to be a folder: give another name")
    if options.out.resolve() == options.photos.resolve():
        raise DataError("OUT_DIR is PHOTOS_DIR, so label maps would replace photos: give another folder")
    twins = len(found) != len({p.stem.casefold() for p in found})  # a.jpg and a.png would write the same a.png
    segmenter, start = load(options.weights, flip=options.flip), time.perf_counter()
    photos = {p.name if twins else p.stem: p for p in found}
    faults = predict_files(segmenter, photos, options.out)
    for fault in faults.values():
        print(f"left out: {fault}", file=sys.stderr)
    written = len(found) - len(faults)
    if options.colors:
        color([options.out / f"{name}.png" for name in photos if name not in faults], segmenter.dataset)
    print(f"{written} label maps in {options.out}, {written / (time.perf_counter() - start):.1f} images/s")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
