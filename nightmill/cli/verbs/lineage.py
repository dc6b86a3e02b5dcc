"""``nightmill lineage``: what a file was made of, and what was made of it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated, Final

import typer

from nightmill.cli.render.output import echo
from nightmill.cli.shape import SiteFolder

if TYPE_CHECKING:
    from provenance.lineage import FileNode, Lineage


EXAMPLES: Final = (
    "nightmill lineage tinycam_2_stack_c0001a01.fits",
    "nightmill lineage img002_2.fits --down",
)


def lineage(
    file: Annotated[str, typer.Argument(metavar="FILE", help="Name of a file.")],
    up: Annotated[
        bool, typer.Option("--up", help="What it was made of, all the way to raw files; the default.")
    ] = False,
    down: Annotated[bool, typer.Option("--down", help="What was made of it, all the way.")] = False,
    depth: Annotated[int | None, typer.Option(metavar="N", min=1, help="At most so many steps away.")] = None,
    site: SiteFolder = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print files, executions and the edges between them as JSON.")
    ] = False,
) -> None:
    """Show what a file was made of, or what was made of it.

    Every step run and every file between, kept or not.
    """
    from nightmill.cli.opening import open_without_types
    from nightmill.cli.render.histories import lineage_of as document
    from nightmill.cli.render.output import print_json
    from provenance.lineage import Direction, lineage_of

    wanted: list[Direction] = ["up"] if up or not down else []
    wanted += ["down"] if down else []
    with open_without_types(site) as opened, opened.database.reading() as session:
        found = [lineage_of(session, file, direction, depth=depth) for direction in wanted]
    if as_json:
        print_json([document(each) for each in found])
        return
    for each in found:
        for line in tree(each):
            echo(line)


def tree(found: Lineage) -> Iterator[str]:
    """Write a lineage as an indented tree, sorted by name; what was written before is not written again."""
    executions: dict[int, list[int]] = {}
    files: dict[int, list[tuple[str, int]]] = {}
    for edge in found.edges[found.near]:
        executions.setdefault(edge.file_id, []).append(edge.execution_id)
    for edge in found.edges[found.far]:
        files.setdefault(edge.execution_id, []).append((edge.role, edge.file_id))
    for each in executions.values():
        each.sort(key=lambda id_: str(found.executions[id_]))
    for below in files.values():
        below.sort(key=lambda pair: (pair[0], found.files[pair[1]].name))
    word = "made by" if found.direction == "up" else "used by"
    told: set[int] = set()
    open_: list[tuple[int, str, int]] = [(0, "", found.start)]  # at odd depths executions, at even ones files
    while open_:
        depth, role, id_ = open_.pop()
        indent = "  " * depth
        if depth % 2:
            execution = found.executions[id_]
            note = "" if execution.result else f" ({execution.state}, not the result of its job)"
            yield f"{indent}{word} {execution}{note}"
            open_ += [(depth + 1, *each) for each in reversed(files.get(id_, []))]
            continue
        again = id_ in told and id_ in executions
        label = f"{role}: " if role else ""
        yield indent + label + _line(found.files[id_]) + (", see above" if again else "")
        told.add(id_)
        open_ += [(depth + 1, "", each) for each in reversed(executions.get(id_, []))] if not again else []


def _line(node: FileNode) -> str:
    kept = "" if node.kept else ", not kept"
    return f"{node.name} ({node.type}, {node.origin}{kept})"
