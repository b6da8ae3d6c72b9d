"""Reads which part of helpers/ imports which, and draws the picture in docs/architecture.md: python -m tools.house."""

import ast
import re
from graphlib import TopologicalSorter
from pathlib import Path

from helpers.core import files

from .setup_cell import REPO

PAGE = REPO / "docs" / "architecture.md"
PICTURE = re.compile(r"```mermaid\n.*?```\n", re.S)
Graph = dict[str, set[str]]  # who imports -> whom


def imported(tree: ast.AST, package: list[str]) -> set[str]:
    """Dotted names that a module of `package` imports anywhere; of `from a import b` both a and a.b."""
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        if isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            module = ".".join([*base, *([node.module] if node.module else [])])
            found |= {module, *(f"{module}.{alias.name}" for alias in node.names)}
    return found


def modules(root: Path = REPO) -> Graph:
    """The modules of helpers/, such as core.files, and which of each other they import."""
    paths = [path for path in sorted((root / "helpers").rglob("*.py")) if path.name != "__init__.py"]
    names = {".".join(path.relative_to(root).with_suffix("").parts): path for path in paths}
    found = {name: imported(ast.parse(path.read_text()), name.split(".")[:-1]) for name, path in names.items()}
    short = {name: name.removeprefix("helpers.") for name in names}
    return {short[name]: {short[other] for other in found[name] & names.keys() - {name}} for name in names}


def rooms(graph: Graph) -> Graph:
    """The same by rooms: a folder, or a file at the top."""
    found: Graph = {name.split(".")[0]: set() for name in graph}
    for name, others in graph.items():
        found[name.split(".")[0]] |= {other.split(".")[0] for other in others} - {name.split(".")[0]}
    return found


def reach(graph: Graph) -> Graph:
    """All that each node imports, directly or not; graphlib.CycleError names a circle."""
    found: Graph = {}
    for name in TopologicalSorter(graph).static_order():  # what is imported comes first
        found[name] = graph[name].union(*(found[other] for other in graph[name]))
    return found


def picture(graph: Graph) -> str:
    """Mermaid text of the arrows that no longer way replaces; what imports stands above what it imports."""
    farther, lines = reach(graph), []
    for name in sorted(graph):
        direct = graph[name].difference(*(farther[other] for other in graph[name]))
        lines += [f"    {name} --> {other}" for other in sorted(direct)]
    return "\n".join(["```mermaid", "flowchart TD", *lines, "```", ""])


def main() -> None:
    """Write today's picture into the page."""
    text = PICTURE.sub(picture(rooms(modules())), PAGE.read_text())
    files.write_atomic(PAGE, text.encode())


if __name__ == "__main__":
    main()
