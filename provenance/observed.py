"""What is known of runs of steps beside what they did: how they were confined, what they opened, what they told."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any, Final, NamedTuple

from sqlalchemy.orm import Session

from nightmill.backbone.schema import DifferenceRow
from nightmill.backbone.upsert import add_missing
from nightmill.model.journal import MadeFile
from nightmill.model.observed import Observation
from nightmill.model.report import JobReport


class Fact(NamedTuple):
    """What is known of a file that a step read; None is unknown."""

    opened: bool | None = None
    """What the witness saw."""
    contributed: bool | None = None
    """What the step told."""
    reason: str | None = None
    """Why it did not contribute, in the words of the step."""

    def behind(self, other: Fact) -> Fact:
        """Return what this says of a file that another one of which it says was made of."""
        if other.contributed is False:
            return Fact(None, False, other.reason)
        return self._replace(opened=None)


UNKNOWN: Final = Fact()


def facts(observed: Observation | None, read: Collection[tuple[str, str]]) -> dict[tuple[str, str], Fact]:
    """Return what is known of files that a step read.

    What the step names as used contributed, and what it names as eliminated did not. A step that names what it used of
    a role tells it of the whole role: other files of that did not contribute. Of roles that it does not name, or names
    for single outputs alone, nothing more is known.

    Parameters
    ----------
    read
        The name of each file, with the role that it had.
    """
    if observed is None:
        return dict.fromkeys(read, UNKNOWN)
    opened, eliminated = frozenset(observed.opened), {each.name: each.reason for each in observed.eliminated}
    of_outputs = frozenset().union(*(each.inputs for each in observed.depends))
    used = of_outputs.union(observed.used)
    roles = {role for name, role in read if name in used - of_outputs}
    found = {}
    for name, role in read:
        seen = name in opened if observed.witness else None
        if name in eliminated:
            found[name, role] = Fact(seen, False, eliminated[name])
        elif name in used:
            found[name, role] = Fact(seen, True)
        else:
            found[name, role] = Fact(seen, False if role in roles else None)
    return found


def observed_columns(observed: Observation | None) -> dict[str, Any]:
    """Return what is known of a step beside what it did, as the row of its execution has it."""
    if observed is None:
        return dict.fromkeys(("level", "confined", "witness", "told", "reached"))
    held = observed.confined
    return {
        "level": held.level.value,
        "confined": {"by": list(held.by), "lacking": list(held.lacking)} if held.by or held.lacking else None,
        "witness": observed.witness,
        "told": observed.told,
        "reached": list(observed.reached) or None,
    }


def made_of(observed: Observation | None, names: Sequence[str]) -> frozenset[str] | None:
    """Return the names of what a file was made of, by the word of its step; None where that does not tell.

    Parameters
    ----------
    names
        Those of the file, any of which the step may have used.
    """
    if observed is None or not observed.depends:
        return None
    told = [each.inputs for each in observed.depends if each.output in names]
    return frozenset().union(*told) if told else None


def names_of(file: MadeFile) -> tuple[str, ...]:
    """Return the names by which a step may tell of a file that it made."""
    return (file.name, file.produced_name) if file.produced_name else (file.name,)


def write_differences(
    session: Session,
    reports: Sequence[JobReport],
    executions: Mapping[tuple[int, str], int],
    files: Mapping[tuple[int, str], int],
    attempts: Mapping[Any, int],
) -> None:
    """Put on record how what ended attempts were planned to do, were seen to do, and told that they did differ.

    Parameters
    ----------
    executions
        IDs, by the attempt's ID and the step.
    files
        IDs of files on record, by the attempt's ID and the name.
    """
    rows = [
        {
            "execution_id": executions[attempts[report.attempt], step.name],
            "number": number,
            "kind": each.kind.value,
            "name": each.name,
            "file_id": files.get((attempts[report.attempt], each.name)),
            "detail": each.detail,
            "consequence": each.consequence.value,
        }
        for report in reports
        for step in report.steps
        if step.observed is not None
        for number, each in enumerate(step.observed.differences)
    ]
    add_missing(session, DifferenceRow, rows, unique=("execution_id", "number"))
