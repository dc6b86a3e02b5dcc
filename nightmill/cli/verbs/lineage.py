"""``nightmill lineage``: what a file was made of, and what was made of it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Annotated, Final

import typer

from nightmill.cli.render.output import echo
from nightmill.cli.shape import SiteFolder

if TYPE_CHECKING:
    from provenance.lineage import Edge, FileNode, Lineage


EXAMPLES: Final = (
    "nightmill lineage tinycam_2_stack_c0001a01.fits",
    "nightmill lineage img002_2.fits --down",
    "nightmill lineage tinycam_2_stack_c0001a01.fits --planned",
)


def lineage(
    file: Annotated[str, typer.Argument(metavar="FILE", help="Name of a file.")],
    up: Annotated[
        bool, typer.Option("--up", help="What it was made of, all the way to raw files; the default.")
    ] = False,
    down: Annotated[bool, typer.Option("--down", help="What was made of it, all the way.")] = False,
    depth: Annotated[int | None, typer.Option(metavar="N", min=1, help="At most so many steps away.")] = None,
    planned: Annotated[
        bool, typer.Option("--planned", help="Follow all that steps were given, whatever became of it.")
    ] = False,
    opened: Annotated[bool, typer.Option("--opened", help="Leave out only what steps were seen not to open.")] = False,
    contributed: Annotated[
        bool, typer.Option("--contributed", help="Leave out what steps told that they did not use; the default.")
    ] = False,
    site: SiteFolder = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print files, executions and the edges between them as JSON.")
    ] = False,
) -> None:
    """Show what a file was made of, or what was made of it.

    Every step run and every file between, kept or not. What is not known of a file that a step was given leaves it in.
    """
    from nightmill.cli.opening import open_without_types
    from nightmill.cli.render.histories import lineage_of as document
    from nightmill.cli.render.output import print_json
    from nightmill.errors import RequestRefused
    from provenance.lineage import By, Direction, lineage_of

    given = [by for by, wanted in zip(By, (planned, opened, contributed), strict=True) if wanted]
    if len(given) > 1:
        raise RequestRefused(
            f"{' and '.join(f'--{by}' for by in given)} exclude each other", remedy="type the verb once for each"
        )
    by = given[0] if given else By.CONTRIBUTED
    wanted: list[Direction] = ["up"] if up or not down else []
    wanted += ["down"] if down else []
    with open_without_types(site) as own, own.database.reading() as session:
        found = [lineage_of(session, file, direction, depth=depth, by=by) for direction in wanted]
    if as_json:
        print_json([document(each) for each in found])
        return
    for each in found:
        for line in tree(each):
            echo(line)


def tree(found: Lineage) -> Iterator[str]:
    """Write a lineage as an indented tree, sorted by name; what was written before is not written again."""
    is_up = found.direction == "up"
    runs, left_runs = _by(found.edges[found.near], "file_id"), _by(found.left_out, "file_id")
    files, left_files = _by(found.edges[found.far], "execution_id"), _by(found.left_out, "execution_id")
    for of_file in (*runs.values(), *left_runs.values()):
        of_file.sort(key=lambda edge: str(found.executions[edge.execution_id]))
    for of_run in (*files.values(), *left_files.values()):
        of_run.sort(key=lambda edge: (edge.role, found.files[edge.file_id].name))
    told: set[int] = set()
    open_: list[tuple[int, Edge | None, int]] = [(0, None, found.start)]  # at odd depths executions, at even ones files
    while open_:
        depth, edge, id_ = open_.pop()
        indent = "  " * depth
        if depth % 2 and edge is not None:
            execution = found.executions[id_]
            note = "" if execution.result else f" ({execution.state}, not the result of its job)"
            word = "made by" if is_up else "used by" if edge.opened is not False else "given to"
            more = _seen(edge) if not is_up else ", which told of what" if edge.file_id in found.derived else ""
            yield f"{indent}{word} {execution}{note}{more}"
            for each in left_files.get(id_, []) if is_up else []:
                yield f"{indent}  left out: {each.role}: {_line(found.files[each.file_id])}: {_why_not(found, each)}"
            ahead = [each for each in files.get(id_, []) if found.leads(edge.file_id, each.file_id)]
            open_ += [(depth + 1, each, each.file_id) for each in reversed(ahead)]
            continue
        again = id_ in told and id_ in runs
        label = f"{edge.role}: " if edge else ""
        seen = _seen(edge) if edge and is_up else ""
        yield indent + label + _line(found.files[id_]) + seen + (", see above" if again else "")
        if not again and not is_up:
            for each in left_runs.get(id_, []):
                yield f"{indent}  left out by {found.executions[each.execution_id]}: {_why_not(found, each)}"
        told.add(id_)
        open_ += [(depth + 1, each, each.execution_id) for each in reversed(runs.get(id_, []))] if not again else []


def _by(edges: Iterable[Edge], key: str) -> dict[int, list[Edge]]:
    from nightmill.model.base import grouped

    return grouped((getattr(edge, key), edge) for edge in edges)


def _seen(edge: Edge) -> str:
    """Tell what is odd of a use that a walk follows."""
    never = ", never opened" if edge.opened is False else ""
    return f"{never}, not planned" if not edge.planned and edge.opened is not None else never


def _why_not(found: Lineage, edge: Edge) -> str:
    """Tell why a walk does not follow a use."""
    if found.by == "planned":
        return "read, and not planned"
    if found.by == "opened":
        return "never opened"
    return f"eliminated: {edge.reason}" if edge.reason else "not among what the step told that it used"


def _line(node: FileNode) -> str:
    kept = "" if node.kept else ", not kept"
    return f"{node.name} ({node.type}, {node.origin}{kept})"
