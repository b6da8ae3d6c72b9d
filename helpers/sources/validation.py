"""The validation report on the reader's own images and masks: what is wrong with each file, and the remedy."""

import dataclasses
import functools
import os
from pathlib import Path

import numpy as np
from PIL import Image

from .. import catalog
from ..core import files, masks
from ..core.errors import DataError
from ..core.masks import UnknownColor
from . import custom, layouts, restructure
from .layouts import Finding, Sample


@dataclasses.dataclass(frozen=True)
class Look:
    """What one sample shows: its findings, its manifest entry if it is sound, its mask's levels where they are ids."""

    sample: Sample
    findings: list[Finding]
    entry: dict = dataclasses.field(default_factory=dict)  # of the manifest, if it is sound
    levels: tuple[int, ...] = ()


def examine(name: str | Path) -> list[Finding]:
    """What is wrong or odd with each image and mask of a registered dataset, or of a folder; writes nothing."""
    row = row_of(name)
    release = restructure.Release(Path(row.folder), "release", "", custom.OWN)
    listing = custom.list_own(release.root)
    looks = files.thread_map(functools.partial(look_at, row=row, release=release), listing.samples, "examining")
    present = shared_levels(looks, row)
    findings = [finding for look in looks for finding in with_shared_levels(look, present, row)]
    contents = {look.sample: look.entry["image"]["sha256"] for look in looks if look.entry}
    findings += layouts.find_leaks(list(contents), contents).values()
    entries = {look.sample: look.entry for look in looks if look.entry}
    findings += restructure.find_unlike(row, entries).values()
    findings += restructure.of_all_labels(row, list(entries.values()))
    if not listing.samples:
        findings.append(Finding("all", release.root.name, "no image has a mask; name a mask as its image"))
    faulty = {finding.file for finding in findings if finding.severity == "error"}  # an error says more than a warning
    return [finding for finding in listing.findings if finding.file not in faulty] + findings


def unknown_colors(name: str | Path) -> list[UnknownColor]:
    """Colours of a registered dataset's (or a folder's) masks that are not in class_dict.csv, by file and pixel count.

    None where masks hold ids, or a mask cannot be read, which examine reports. For plots.swatches.
    """
    row = row_of(name)

    def unknown_in(sample: Sample) -> list[UnknownColor]:
        try:
            return layouts.unknown_colors(masks.read_colors(sample.label), row, sample.label.name)[0]
        except DataError:
            return []

    samples = custom.list_own(Path(row.folder)).samples if row.table else []
    return [color for colors in files.thread_map(unknown_in, samples, "colours") for color in colors]


def row_of(name: str | Path) -> catalog.Dataset:
    """A registered dataset's row, or that of a folder (a Path, or text with a / in it) which is not registered."""
    if isinstance(name, Path) or "/" in name or os.sep in name:
        return custom.describe(name, "own", custom.Given())
    return custom.refresh(name)


def look_at(sample: Sample, row: catalog.Dataset, release: restructure.Release) -> Look:
    """One sample: what restructure finds, and what only masks of one's own show."""
    entry, findings = restructure.check(sample, row, release, {})
    try:
        ids = custom.read_own(sample, row)
    except DataError:
        if is_swapped(sample, row):
            reason = f"is a photo, and {sample.photo.name} in images/ is its mask: exchange images/ and masks/"
            return Look(sample, [Finding(sample.split, sample.label.name, reason)])
    else:
        if entry and (reason := turned_by_exif(sample, ids) or few_classes(ids, row)):
            findings.append(Finding(sample.split, sample.label.name, reason, "warning"))
    return Look(sample, findings, entry or {}, levels_of(sample, row))


def is_swapped(sample: Sample, row: catalog.Dataset) -> bool:
    """Whether the image can be read as the mask, which itself could not be."""
    try:
        return custom.read_own(dataclasses.replace(sample, label=sample.photo), row).size > 0
    except DataError:
        return False


def turned_by_exif(sample: Sample, ids: np.ndarray) -> str:
    """What to say of an image that EXIF turns or mirrors, and whose mask would fit it either way; "" of any other."""
    with Image.open(sample.photo) as image:
        orientation, stored = image.getexif().get(0x0112, 1), (image.height, image.width)
    either_way = orientation in (2, 3, 4) or (orientation > 1 and stored[0] == stored[1])
    if not either_way or ids.shape != stored:
        return ""
    return f"its image is turned by EXIF ({orientation}): look at both; if they do not fit, save the image without EXIF"


def few_classes(ids: np.ndarray, row: catalog.Dataset) -> str:
    """What to say of a mask of one class, or of none; "" of any other."""
    present = np.unique(ids[ids != masks.VOID])
    if len(present) == 0:
        return "nothing but void in it, so it teaches nothing; paint it, or take it away"
    if len(present) == 1 and len(row.classes) > 1:
        few = len(present) < len(np.unique(ids)) and row.holds_ids
        void = ", and 255 is void: register with levels= if it is a class" if few else ""
        return f"only one class in it ({row.classes[present[0]]}){void}; right if the image shows nothing else"
    return ""


# Grey levels that are not ids: one mapping for all masks ----------------------------------------------------------


def levels_of(sample: Sample, row: catalog.Dataset) -> tuple[int, ...]:
    """Grey levels of a mask, where they should be ids; () if it is not grey."""
    if not row.holds_ids or sample.parts:
        return ()
    try:
        return tuple(np.unique(masks.read_ids(sample.label)).tolist())
    except DataError:
        return ()


def shared_levels(looks: list[Look], row: catalog.Dataset) -> list[int]:
    """Levels of all masks but those that smoothing or JPEG has blurred: theirs would hide the mapping of the rest."""
    levels: set[int] = set()
    for look in looks:
        smooth = len(custom.strange_levels(look.levels, row)) > max(8, len(row.classes))
        blurred = not look.entry and look.sample.label.suffix.lower() in custom.JPEG
        if not (smooth or blurred):
            levels.update(look.levels)
    return sorted(levels)


def with_shared_levels(look: Look, present: list[int], row: catalog.Dataset) -> list[Finding]:
    """A sample's findings; strange levels get the mapping that the levels of all masks suggest, not of this one."""
    strange = custom.strange_levels(look.levels, row)
    if not strange:
        return look.findings
    reason = custom.explain_levels(look.sample.label.name, strange, present or look.levels, row)
    return [dataclasses.replace(f, reason=reason) if "grey level" in f.reason else f for f in look.findings]
