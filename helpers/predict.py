"""Photo of any size -> label map at the photo's own size; and the network as ONNX for other runtimes."""

import contextlib
import copy
import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from tqdm import tqdm

from . import preprocess
from .augment import flip_table, to_float
from .catalog import Dataset
from .core import env, files, hardware, masks
from .core.errors import DataError, UNetError
from .core.registry import load_dataset
from .settings import Settings
from .training import export

PRETRAINED = env.REPO / "weights" / "helen-demo.pt"  # trained by the demo run, so that 05 and 06 work before 04
OPSET = 18  # of ONNX: what runtimes read since 2023, and the oldest that torch's exporter writes without a converter
LARGEST_SIDE = 1024  # logits are enlarged up to this side, larger label maps from there, so that memory stays small


class FromPhotos(nn.Module):
    """A network with its normalisation before it: uint8[B,S,T,3] RGB -> logits f32[B,C,S,T].

    flip: the mean of the photo's logits and those of its mirror image, flipped back, left and right classes swapped.
    """

    def __init__(self, model: nn.Module, settings: Settings, dataset: Dataset, flip: bool):
        super().__init__()
        self.model, self.mean, self.std, self.flip = model, settings.mean, settings.std, flip
        self.mirrored: Tensor
        self.register_buffer("mirrored", flip_table(dataset.flip_pairs)[: len(dataset.classes)].long())

    def forward(self, photos: Tensor) -> Tensor:
        logits = self.model(to_float(photos, self.mean, self.std))
        if not self.flip:
            return logits
        # The mean of logits gives the geometric mean of the probabilities, up to a factor that all classes share.
        # The mirror image goes through by itself: one batch of twice the size would need twice the memory.
        other = self.model(to_float(photos.flip(2), self.mean, self.std))
        return (logits + other.flip(3).index_select(1, self.mirrored)) / 2


class Segmenter:
    """A trained network with what it needs to be used: input size, normalisation, dataset, device.

    flip: average the logits of each photo and of its mirror image; takes twice the time. dataset: by default the one
    that the settings name.
    """

    def __init__(
        self,
        model: nn.Module,
        settings: Settings,
        device: torch.device | str | None = None,
        flip: bool = False,
        dataset: Dataset | None = None,
    ):
        self.device = torch.device(device or hardware.pick_device())
        self.model, self.settings = model, settings
        self.dataset = dataset or load_dataset(settings.dataset)
        self.network = FromPhotos(model, settings, self.dataset, flip).eval()
        self.network.to(self.device).to(memory_format=torch.channels_last)
        self.about: dict = {}  # from the export: scores, what it was trained on, versions

    @torch.no_grad()
    def logits(self, photos: list[np.ndarray]) -> Tensor:
        """uint8[H,W,3] photos of any sizes -> f32[B,C,S,T], resized by the very code that made the training arrays."""
        resized = np.stack([preprocess.resize_photo(photo, self.settings.shape) for photo in photos])
        return self.network(torch.from_numpy(resized).to(self.device))

    def predict(self, photos: list[np.ndarray]) -> list[np.ndarray]:
        """uint8[H,W,3] photos of any sizes -> uint8[H,W] label maps at their own sizes."""
        logits = self.logits(photos).cpu()
        return [enlarge(one, photo.shape[:2]) for one, photo in zip(logits, photos)]


def enlarge(logits: Tensor, size: tuple[int, int]) -> np.ndarray:
    """Logits f32[C,S,T] -> uint8[H,W]: bilinear on the logits, then arg max; labels are never interpolated.

    One channel at a time: a C-th of the memory, and about three times faster, since it stays in the cache.
    """
    scale = min(1.0, LARGEST_SIDE / max(size))
    work = [max(1, round(side * scale)) for side in size]
    label, best = torch.zeros(work, dtype=torch.uint8), torch.full(work, -torch.inf)
    for i, channel in enumerate(logits):
        value = F.interpolate(channel[None, None], work, mode="bilinear", align_corners=False)[0, 0]
        label.masked_fill_(value > best, i)
        best = torch.maximum(best, value)
    if tuple(work) != tuple(size):
        label = F.interpolate(label[None, None].float(), size, mode="nearest-exact")[0, 0].to(torch.uint8)
    return label.numpy()


def load(where: Path | str, device: torch.device | str | None = None, flip: bool = False) -> Segmenter:
    """Path or http(s) address of an export (trainer.export) -> Segmenter; CheckpointError if it is not one."""
    model, settings, about = export.read_export(where)
    segmenter = Segmenter(model, settings, device, flip, dataset_of(about))
    segmenter.about = {k: about[k] for k in ("scores", "trained_on", "versions")}
    return segmenter


def dataset_of(about: dict) -> Dataset:
    """The dataset that an export describes: what a prediction means is the file's, whatever is registered here."""
    name, classes = about["settings"]["dataset"], tuple(about["classes"])
    try:
        row = load_dataset(name)
    except UNetError:  # registered on another machine
        row = None
    if row is None or row.classes != classes:
        row = Dataset(name, name, classes, (), tuple(range(1, len(classes))), "mean_iou")
    colors = tuple((int(r), int(g), int(b)) for r, g, b in about["colors"])
    pairs = tuple((int(a), int(b)) for a, b in about.get("flip_pairs", row.flip_pairs))
    groups = {key: tuple(ids) for key, ids in about.get("groups", row.groups).items()}
    return replace(row, colors=colors, flip_pairs=pairs, groups=groups)


@contextlib.contextmanager
def writing(path: Path) -> Iterator[None]:
    """An OSError while `path` is written as a DataError with its remedy."""
    try:
        yield
    except OSError as error:
        fault = f"{env.shown(path)}: cannot be written ({error.strerror or error})"
        raise DataError(f"{fault}; make room, or give another place, and try again") from error


def predict_files(segmenter: Segmenter, photos: dict[str, Path], out: Path, batch: int = 8) -> dict[str, str]:
    """Photos by name -> out/<name>.png, a label map each at the photo's own size; returns name -> fault of the bad.

    While the network works on one batch, the next is decoded and the one before is enlarged and written; no more are
    in memory, however many photos there are. DataError if a label map cannot be written: those before it are whole.
    """

    def read(name: str) -> np.ndarray | DataError:
        try:
            return files.read_photo(photos[name], segmenter.settings.white)
        except DataError as error:
            return error

    def write(name: str, logits: Tensor, size: tuple[int, int]) -> None:
        with writing(out / f"{name}.png"):
            masks.write_label(out / f"{name}.png", enlarge(logits, size))

    names = list(photos)
    batches = [names[first : first + batch] for first in range(0, len(names), batch)]
    faults: dict[str, str] = {}
    written: Iterator[None] = iter(())
    with (
        ThreadPoolExecutor(hardware.cores()) as pool,
        tqdm(total=len(names), desc="predict", **files.bar_style()) as bar,
    ):
        decoded = pool.map(read, names[:batch])  # begins now; the results are waited for where they are taken
        for this, following in zip(batches, [*batches[1:], []]):
            found = dict(zip(this, decoded))
            good = {name: photo for name, photo in found.items() if isinstance(photo, np.ndarray)}
            faults |= {name: str(fault) for name, fault in found.items() if name not in good}
            decoded = pool.map(read, following)
            logits = segmenter.logits(list(good.values())).cpu() if good else torch.empty(0)
            for _ in written:  # of the batch before; raises what its writing raised
                bar.update()
            written = pool.map(write, good, logits, [photo.shape[:2] for photo in good.values()])
            bar.update(len(this) - len(good))
        for _ in written:
            bar.update()
    return faults


def to_onnx(segmenter: Segmenter, path: Path) -> None:
    """Write a Segmenter's network as ONNX for other runtimes.

    Input "photo" uint8[B,S,T,3]: RGB at the network's input size, any B; the network normalises it, and averages with
    its mirror image if the Segmenter does so. Output "logits" f32[B,C,S,T]: the largest channel is the class id.
    Metadata: dataset; classes, colors and size (rows, columns) as JSON. UNetError if a package is missing or the file
    cannot be written; an older file at `path` then stays.
    """
    try:
        import onnx
        import onnxscript  # noqa: F401  # torch's exporter needs it
    except ImportError as error:
        raise UNetError(f"ONNX cannot be written ({error}): pip install onnx onnxscript") from error
    program = torch.onnx.export(
        copy.deepcopy(segmenter.network).cpu(),  # the same file, whatever device it works on
        (torch.zeros(2, *segmenter.settings.shape, 3, dtype=torch.uint8),),  # 2: a batch of 1 would be taken as fixed
        dynamo=True,
        opset_version=OPSET,
        verbose=False,
        input_names=["photo"],
        output_names=["logits"],
        dynamic_shapes=({0: torch.export.Dim("batch")},),
    )
    assert program is not None  # it is None only where a file is given
    model, dataset = program.model_proto, segmenter.dataset
    graph = model.graph
    for part in (graph, *graph.input, *graph.output, *graph.node, *graph.value_info, *graph.initializer):
        part.ClearField("metadata_props")  # the exporter's own notes, which name folders of this machine
    metadata = {"classes": dataset.classes, "colors": dataset.colors, "size": segmenter.settings.shape}
    onnx.helper.set_model_props(model, {"dataset": dataset.name} | {k: json.dumps(v) for k, v in metadata.items()})
    with writing(path):
        files.write_atomic(path, model.SerializeToString())
