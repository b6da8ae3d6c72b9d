"""Which photos a command means, and what their label maps are called."""

import sys
from pathlib import Path

from .errors import DataError

SUFFIXES = {".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff"}


def name_photos(given: list[Path], out: Path, recursive: bool = False) -> dict[str, Path]:
    """Photos and folders of photos -> name of each label map below `out`, without .png, and its photo.

    The name is the photo's path in its folder without the suffix; with it where two would be the same (a.jpg and
    a.png); with the folder's name before it where that is not enough. DataError if there are no photos, or if label
    maps would lie among them or replace one.
    """
    check_out(given, out, recursive)
    folders: dict[Path, Path] = {}  # of each photo, once: the folder that it was found in
    for path in given:
        for photo, folder in find_photos(path, recursive):
            folders[photo.parent.resolve() / photo.name] = folder.resolve()
    relative = [photo.relative_to(folder) for photo, folder in folders.items()]
    in_folder = [folder.name / path for folder, path in zip(folders.values(), relative)]
    for names in ([path.with_suffix("") for path in relative], relative, in_folder):
        photos = {name.as_posix(): photo for name, photo in zip(names, folders)}
        if len({name.casefold() for name in photos}) == len(folders):
            break
    else:
        raise DataError("some photos have the same name, and so have their folders: give one folder at a time")
    if folders.keys() & {(out / f"{name}.png").resolve() for name in photos}:
        raise DataError("a label map in OUT_DIR would replace a photo: give another folder")
    return photos


def check_out(given: list[Path], out: Path, recursive: bool) -> None:
    """DataError if `out` is a file, or lies where photos are looked for."""
    if out.exists() and not out.is_dir():
        raise DataError(f"{out} is a file, but OUT_DIR must be a folder: give another name")
    for path in given:
        folder = (path.parent if path.is_file() else path).resolve()
        if out.resolve() == folder or (recursive and path.is_dir() and out.resolve().is_relative_to(folder)):
            raise DataError(f"OUT_DIR lies in {folder.name}, among the photos: give another folder")


def find_photos(given: Path, recursive: bool) -> list[tuple[Path, Path]]:
    """A photo, or the photos in a folder, sorted, each with its folder; prints other files; DataError if none."""
    if given.is_file():
        return [(given, given.parent)]
    if not given.is_dir():
        raise DataError(f"{given} does not exist: correct the path")
    inside = [path for path in sorted(given.glob("**/*" if recursive else "*")) if path.is_file()]
    visible = [p for p in inside if not any(part.startswith(".") for part in p.relative_to(given).parts)]
    found = [path for path in visible if path.suffix.lower() in SUFFIXES]
    kinds = ", ".join(sorted(SUFFIXES))
    if not found:
        raise DataError(f"no photos in {given}: give a folder of {kinds}" + ("" if recursive else ", or --recursive"))
    if others := [path.name for path in visible if path not in found]:
        listed = ", ".join(others[:3]) + (", ..." if len(others) > 3 else "")
        print(f"ignored in {given}: {len(others)} files that are none of {kinds} ({listed})", file=sys.stderr)
    return [(path, given) for path in found]
