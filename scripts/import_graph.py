"""Draw which packages of dltrain import which, from the source itself: docs/imports.svg.

    python scripts/import_graph.py            # write the drawing
    python scripts/import_graph.py --check    # exit 1 where the drawing is not of today's imports

Nothing is imported. An arrow points from who imports to what is imported; one that a longer way of
arrows implies is left out. Every package stands below all that import it.
"""

from __future__ import annotations

import argparse
import ast
import itertools
import sys
from collections.abc import Collection, Mapping, Sequence
from html import escape
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
SOURCE = ROOT / "src" / "dltrain"
DRAWING = ROOT / "docs" / "imports.svg"
Graph = dict[str, list[str]]

# In units of the drawing.
BOX, GAP, FLOOR, MARGIN = (112, 34), 30, 92, 20


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--check", action="store_true", help="write nothing")
    drawn = drawing(packages(import_graph(sources())))
    if not parser.parse_args().check:
        DRAWING.write_text(drawn, encoding="utf-8")
    elif not DRAWING.exists() or DRAWING.read_text(encoding="utf-8") != drawn:
        sys.exit(f"{DRAWING.relative_to(ROOT)} is old: run python scripts/import_graph.py")


def sources() -> dict[str, str]:
    """Every module's source, by what it is imported as."""
    return {module_of(file): file.read_text(encoding="utf-8") for file in SOURCE.rglob("*.py")}


def module_of(file: Path) -> str:
    """What a source file is imported as."""
    parts = file.relative_to(SOURCE.parent).with_suffix("").parts
    return ".".join(parts).removesuffix(".__init__")


def package_of(module: str) -> str:
    """The part of dltrain that a module such as ``dltrain.models.mlp`` belongs to."""
    parts = module.split(".")
    return parts[1] if len(parts) > 1 else ""


def import_graph(sources: Mapping[str, str]) -> Graph:
    """Which of the modules each of them imports: anywhere in it, for type checkers too."""
    graph = {}
    for module, source in sources.items():
        names: set[str] = set()
        for node in ast.walk(ast.parse(source)):
            if isinstance(node, ast.Import):
                names |= {alias.name for alias in node.names}
            elif isinstance(node, ast.ImportFrom):
                # ``from package import module`` is an import of the module, not of its siblings.
                full = {f"{node.module}.{alias.name}" for alias in node.names}
                names |= {name if name in sources else str(node.module) for name in full}
        graph[module] = sorted(names & sources.keys() - {module})
    return graph


def packages(graph: Graph) -> Graph:
    """The graph of whole packages; the top level, which knows its version alone, is left out."""
    found: dict[str, set[str]] = {package_of(module): set() for module in graph}
    for module, imported in graph.items():
        found[package_of(module)] |= {package_of(other) for other in imported}
    return {name: sorted(found[name] - {name, ""}) for name in sorted(found) if name}


def way(graph: Mapping[str, Sequence[str]], start: str, ends: Collection[str]) -> list[str]:
    """The shortest way by imports from ``start`` to one of ``ends``, both included; or nothing."""
    ways = [[start]]
    seen: set[str] = set()
    for current in ways:
        for module in graph[current[-1]]:
            if module in ends:
                return [*current, module]
            if module not in seen:
                seen.add(module)
                ways.append([*current, module])
    return []


def circles(graph: Mapping[str, Sequence[str]]) -> set[str]:
    """Every shortest circle, from its first module in the alphabet back to it."""
    found = set()
    for module in graph:
        circle = way(graph, module, {module})
        if circle and module == min(circle):
            found.add(" -> ".join(circle))
    return found


def floors(graph: Graph) -> list[list[str]]:
    """The packages of each floor, the lowest first: as many as the longest way down is long."""
    if circles(graph):
        sys.exit(f"no floors: {', '.join(sorted(circles(graph)))}")
    heights: dict[str, int] = {}

    def height(name: str) -> int:
        if name not in heights:
            heights[name] = max((height(below) + 1 for below in graph[name]), default=0)
        return heights[name]

    rows: list[list[str]] = [[] for _ in range(max(map(height, graph)) + 1)]
    for name in graph:
        rows[heights[name]].append(name)
    return rows


def plain(graph: Graph) -> Graph:
    """Without the arrows that longer ways imply."""
    return {
        name: [one for one in below if not any(way(graph, b, {one}) for b in below if b != one)]
        for name, below in graph.items()
    }


def arranged(rows: list[list[str]], arrows: Graph) -> tuple[list[list[str]], list[list[str]]]:
    """Each floor from left to right, with a free place wherever an arrow goes through; the arrows.

    The order is that of the middles of what an entry is connected with.
    """
    floor = {name: number for number, row in enumerate(rows) for name in row}
    rows = [list(row) for row in rows]
    chains = []
    for name, below in arrows.items():
        for one in below:
            free = [f"{name}>{one}>{n}" for n in range(floor[name] - 1, floor[one], -1)]
            for place in free:
                rows[int(place.rpartition(">")[2])].append(place)
            chains.append([name, *free, one])
    near: dict[str, list[str]] = {name: [] for row in rows for name in row}
    for chain in chains:
        for upper, lower in itertools.pairwise(chain):
            near[upper].append(lower)
            near[lower].append(upper)
    places = {}
    for _ in range(50):
        for row in rows:
            places |= {name: i - (len(row) - 1) / 2 for i, name in enumerate(row)}
        for row in rows:
            row.sort(key=lambda n: (sum(places.get(o, 0) for o in near[n]) / len(near[n]), n))
            places |= {name: i - (len(row) - 1) / 2 for i, name in enumerate(row)}
    return rows, chains


def drawing(graph: Graph) -> str:
    """The graph as an SVG file."""
    rows, chains = arranged(floors(graph), plain(graph))
    wide = {name: BOX[0] if name in graph else 0 for row in rows for name in row}
    widths = [sum(wide[name] + GAP for name in row) - GAP for row in rows]
    width, height = max(widths) + 2 * MARGIN, (len(rows) - 1) * FLOOR + BOX[1] + 2 * MARGIN
    middles = {}
    for number, (row, whole) in enumerate(zip(rows, widths, strict=True)):
        x, y = (width - whole) / 2, height - MARGIN - BOX[1] / 2 - number * FLOOR
        for name in row:
            middles[name] = (x + wide[name] / 2, y)
            x += wide[name] + GAP
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:g} {height:g}" '
        f'width="{width:g}" height="{height:g}" font-family="sans-serif" font-size="14">',
        "<title>Which package of dltrain imports which</title>",
        '<defs><marker id="end" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="8" '
        'markerHeight="8" orient="auto"><path d="M0 0 8 4 0 8z" fill="#555"/></marker></defs>',
        f'<rect width="{width:g}" height="{height:g}" fill="#fff"/>',
    ]
    for chain in chains:
        points = [middles[name] for name in chain]
        path = f"M{points[0][0]:.0f} {points[0][1] + BOX[1] / 2:g}"
        for (x1, y1), (x2, y2) in itertools.pairwise(points):
            y1, y2 = y1 + BOX[1] / 2, y2 - BOX[1] / 2
            middle = (y1 + y2) / 2
            path += f"C{x1:.0f} {middle:g} {x2:.0f} {middle:g} {x2:.0f} {y2:g}"
            if (x2, y2 + BOX[1] / 2) != points[-1]:
                path += f"V{y2 + BOX[1]:g}"
        lines.append(f'<path d="{path}" fill="none" stroke="#555" marker-end="url(#end)"/>')
    for name in graph:
        x, y = middles[name]
        lines += [
            f'<rect x="{x - BOX[0] / 2:g}" y="{y - BOX[1] / 2:g}" width="{BOX[0]}" '
            f'height="{BOX[1]}" rx="5" fill="#eef3fa" stroke="#335"/>',
            f'<text x="{x:g}" y="{y + 5:g}" text-anchor="middle">{escape(name)}</text>',
        ]
    return "\n".join([*lines, "</svg>", ""])


if __name__ == "__main__":
    main()
