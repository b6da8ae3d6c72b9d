"""Writes Colab badge and set-up cell into every notebook, and the repository's name into pyproject.toml."""

import argparse
import re
import sys
from pathlib import Path

import nbformat
from nbformat import NotebookNode

from helpers.core import files

from . import setup_cell


def put_badge(notebook: NotebookNode, name: str, slug: str) -> None:
    """Replace the badge of the first cell, or add one under its title."""
    cell = notebook.cells[0]
    lines = cell.source.split("\n")
    new = setup_cell.badge(slug, name)
    old = [i for i, line in enumerate(lines) if "colab.research.google.com" in line]
    if old:
        lines[old[0]] = new
    else:
        lines[1:1] = ["", new]
    cell.source = "\n".join(lines)


def put_setup(notebook: NotebookNode, slug: str) -> None:
    """Replace the set-up cell, or add one before the first code cell; its number and outputs stay."""
    for cell in notebook.cells:
        if cell.cell_type == "code" and cell.source.startswith(setup_cell.MARK):
            cell.source = setup_cell.source(slug)
            return
    notebook.cells.insert(1, nbformat.v4.new_code_cell(setup_cell.source(slug)))


def rewritten(path: Path, slug: str) -> bytes:
    """The notebook file with badge and set-up cell for this repository."""
    notebook = nbformat.read(path, as_version=4)
    put_badge(notebook, path.name, slug)
    put_setup(notebook, slug)
    return (nbformat.writes(notebook) + "\n").encode()


def with_repository(pyproject: Path, slug: str) -> bytes:
    """pyproject.toml with the repository's name replaced."""
    text = pyproject.read_text(encoding="utf-8")
    text, found = re.subn(r'(?m)^repository = "[^"]*"', f'repository = "{slug}"', text)
    if found != 1:
        raise ValueError(f"{pyproject.name} should hold one line `repository = ...`, it holds {found}")
    return text.encode()


def main(arguments: list[str] | None = None) -> int:
    """Command line: rewrite what differs, name it."""
    parser = argparse.ArgumentParser(prog="python -m tools.badges", description=__doc__)
    parser.add_argument("slug", nargs="?", help="OWNER/REPO on GitHub; default: as pyproject.toml says")
    parser.add_argument("--root", type=Path, default=setup_cell.REPO, help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    pyproject = options.root / "pyproject.toml"
    try:
        slug = setup_cell.check_slug(options.slug or setup_cell.repository(pyproject))
        new = {path: rewritten(path, slug) for path in sorted((options.root / "notebooks").glob("0*.ipynb"))}
        new[pyproject] = with_repository(pyproject, slug)
    except ValueError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    for path, data in new.items():
        if path.read_bytes() != data:
            files.write_atomic(path, data)
            print(f"{path.name}: now {slug}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
