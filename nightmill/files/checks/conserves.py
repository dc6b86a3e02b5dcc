"""The check that nothing is lost between what a step read and what it made."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from operator import eq, ge, le
from pathlib import Path
from typing import Final, Literal, Self

from pydantic import Field, model_validator

from nightmill.errors import BadFile
from nightmill.files.checks.like_input import with_role
from nightmill.files.checks.tables import rows_in
from nightmill.files.formats import open_format
from nightmill.model.base import Frozen
from nightmill.model.content import Candidate, Content, StepInput

_HOLDS: Final[dict[str, Callable[[float, float], bool]]] = {"==": eq, "<=": le, ">=": ge}


class Counts(Frozen):
    """Options of the check; one of ``rows``, ``hdus`` and ``files`` is given."""

    rows: str = ""
    """The role of inputs whose rows are added up; those of the output are counted."""
    hdus: str = ""
    """The role of inputs whose HDUs with data are added up; those of the output are counted."""
    files: str = ""
    """The role of inputs that are counted themselves."""
    counted: Literal["rows", "hdus"] = "rows"
    """With ``files``: what of the output is counted."""
    compare: Literal["==", "<=", ">="] = "=="
    """How the number of the output compares with that of the inputs."""
    tolerance: float = Field(default=0.0, ge=0)
    """By which share of the number of the inputs it may miss that."""
    table: int | str = 1
    """The table of the output."""
    input_table: int | str = 1
    """The table of each input."""
    input_format: str = ""
    """The format of the inputs, where it is another than that of the output."""

    @model_validator(mode="after")
    def _counts_one(self) -> Self:
        if sum(map(bool, (self.rows, self.hdus, self.files))) != 1:
            raise ValueError("one with rows, hdus or files, and the role of inputs")
        return self


class Conserves:
    """``conserves``: rows, HDUs or files of the inputs with a role are as many as rows or HDUs of the output."""

    Options: Final = Counts
    formats: Final = ()
    compares: Final = True

    def __init__(self, options: Counts) -> None:
        self.options = options
        [self.role] = self.input_roles(options)
        self.what = "rows" if options.rows else "hdus" if options.hdus else options.counted

    @staticmethod
    def input_roles(options: Counts) -> tuple[str, ...]:
        """Return the role that it compares with."""
        return (options.rows or options.hdus or options.files,)

    def look(self, file: Candidate, inputs: Sequence[StepInput]) -> None:
        """Refuse a file that is ``not_conserved``; one is refused, too, where the step read nothing with the role."""
        wanted, given = self.options, with_role(file, inputs, self.role)
        own = self._count(file.name, file.path, file.format, file.content, wanted.table)
        if wanted.files:
            theirs, of_what = len(given), "files"
        else:
            format = wanted.input_format or file.format
            theirs, of_what = sum(self._in(each, format) for each in given), _CALLED[self.what]
        slack = wanted.tolerance * theirs
        if not _HOLDS[wanted.compare](own, theirs) and abs(own - theirs) > slack:
            more = f", give or take {slack:g}" if slack else ""
            raise BadFile(
                f"{file.name} has {own:,} {_CALLED[self.what]}, and {len(given)} inputs ({self.role}) of which it was"
                f" made {'are' if wanted.files else 'have'} {theirs:,} {of_what}: not {wanted.compare}{more}",
                reason="not_conserved",
                remedy="look at what the step left out or took twice, or change check 'conserves' of its type",
            )

    def _in(self, each: StepInput, format: str) -> int:
        with Path(each.path).open("rb") as opened:
            content = open_format(format).read(each.name, descriptor=opened.fileno()) if self.what == "hdus" else None
        return self._count(each.name, each.path, format, content, self.options.input_table)

    def _count(self, name: str, path: str, format: str, content: Content | None, table: int | str) -> int:
        if self.what == "rows" or content is None:
            return sum(1 for _ in rows_in(name, path, format, table, ()))
        return sum(1 for section in content.sections if section.get("NAXIS"))


_CALLED: Final = {"rows": "rows", "hdus": "HDUs with data"}
