"""Which file that a step made is of which output: by its name, by an expression over its header, by the sidecar."""

from __future__ import annotations

import os
import stat
from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase
from functools import cached_property
from typing import Final

from nightmill.errors import BadName, ExpressionError, FileRefused, JobFailed
from nightmill.execution.descriptors import opened_file
from nightmill.execution.evidence import on_one_line
from nightmill.execution.sidecar.outputs import Told, kind_of
from nightmill.expressions import evaluate, parse
from nightmill.files.computed import parse_call
from nightmill.files.inspection import metadata_in
from nightmill.files.name_patterns import NamePattern, NameValue, fields_in
from nightmill.model.fate import Fate
from nightmill.model.file_type import FileType
from nightmill.model.order import JobOrder, OrderOutput, OrderStep

_DISTINCT: Final = "let 'produces', 'where' or the step's sidecar tell them apart"


class Wanted:
    """An output, and what makes a file one of its files.

    Raises
    ------
    JobFailed
        Where its order says what cannot be read.
    """

    def __init__(self, order: JobOrder, step: OrderStep, output: OrderOutput) -> None:
        self.output = output
        self.files: list[str] = []
        self._type = order.file_types.get(output.type, FileType(name=""))
        try:
            fields = fields_in(output.produces)
            kinds = {field: kind_of(field, self._type, output.data_id) for field in fields}
            self._pattern = NamePattern(output.produces, kinds) if fields else None
            self._where = parse(output.where) if output.where else None
        except (BadName, ExpressionError, KeyError) as error:
            raise JobFailed(
                f"the order of step {step.name!r} is wrong for {output.called}: {error}",
                fate=Fate.BAD_OUTPUT,
                step=step.name,
            ) from error

    def told_by(self, name: str) -> Mapping[str, NameValue]:
        """Return the values that a file's own name has.

        Raises
        ------
        BadName
            Where it can be read in two ways.
        """
        return self._pattern.match(name) if self._pattern is not None else {}

    def is_called(self, name: str) -> bool:
        """Say whether a file has a name of its files."""
        if self._pattern is not None:
            return self._pattern.fits(name)
        if self.output.produces:
            return fnmatchcase(name, self.output.produces)
        return name in self.output.names[:1]

    def accepts(self, name: str, work: int) -> bool:
        """Say whether a file of such a name fulfils its expression.

        Raises
        ------
        FileRefused
            Where the file cannot be read, or has a value that is none of those that are asked.
        BadName
            As :meth:`told_by`.
        """
        if self._where is None:
            return True
        called = on_one_line(name)
        with opened_file(name, work, alone=True) as descriptor:
            found, size_bytes = metadata_in(called, self._asked, descriptor)
        record = {
            **self.told_by(name),
            **found.data_id,
            "begins_at": found.begins_at,
            "ends_at": found.ends_at,
            "name": name,
            "type": self._type.name,
            "size_bytes": size_bytes,
            "metadata": {**self.told_by(name), **found.values},
        }
        return evaluate(self._where, record)

    @cached_property
    def _asked(self) -> FileType:
        """Its type with nothing but the keys that the expression asks, none required: the file may be of another."""
        assert self._where is not None
        known = self._type.metadata
        keys = [name.removeprefix("metadata.") for name in self._where.names]
        asked: dict[str, None] = {}
        while keys:
            if (key := keys.pop()) in known and key not in asked:
                asked[key] = None
                keys += parse_call(known[key].compute).keys if known[key].compute else ()
        metadata = {key: known[key].model_copy(update={"required": False}) for key in known if key in asked}
        return self._type.model_copy(update={"metadata": metadata})


def find_files(
    order: JobOrder, step: OrderStep, there: Sequence[str], work: int, told: Mapping[str, Told]
) -> list[Wanted]:
    """Find the files of every output of a step.

    A file that has a name of several outputs is of the one whose expression it fulfils, and that the sidecar says; one
    that is of none is left where it is.

    Parameters
    ----------
    there
        The names in the open working folder, in their order.
    told
        What the sidecar says, by names of files.

    Raises
    ------
    JobFailed
        Where a file is of two outputs, cannot be read by an expression, or is not what the sidecar says.
    """
    wanted = [Wanted(order, step, output) for output in step.outputs]
    by_name = [each for each in wanted if not each.output.produces]
    by_pattern = [each for each in wanted if each.output.produces]
    for name in there:
        own = [each for each in by_name if each.is_called(name)]
        fits = own or [each for each in by_pattern if each.is_called(name)]
        if not fits or (not own and _is_folder(name, work)):
            continue
        if (line := told.get(name)) is not None:
            fits = [each for each in fits if each.output.role == line.output]
        fits = [each for each in fits if _accepts(each, name, work, step)]
        if len(fits) > 1:
            both = " and a file of ".join([_described(each.output) for each in fits])
            raise _failed(step, f"made {on_one_line(name)}, which is a file of {both}", _DISTINCT)
        for each in fits:
            each.files.append(name)
    _check_lines(step, wanted, told)
    return wanted


def _accepts(wanted: Wanted, name: str, work: int, step: OrderStep) -> bool:
    try:
        return wanted.accepts(name, work)
    except (BadName, FileRefused) as error:
        raise _failed(step, f"made a bad {wanted.output.called}: {error.message}") from error


def _check_lines(step: OrderStep, wanted: Sequence[Wanted], told: Mapping[str, Told]) -> None:
    """Refuse what the sidecar says of files that are not there, or not of the output that it names."""
    files = {each.output.role: set(each.files) for each in wanted}
    for name, line in told.items():
        if name not in files[line.output]:
            raise JobFailed(
                f"the sidecar of step {step.name!r} is wrong in line {line.line}: output {line.output!r} has no file"
                f" {on_one_line(name)!r}",
                fate=Fate.BAD_OUTPUT,
                step=step.name,
                remedy="such a file is in the step's folder, has a name that 'produces' says, and fulfils 'where'",
            )


def _described(output: OrderOutput) -> str:
    return f"{output.called}{f', where {output.where}' if output.where else ''}"


def _is_folder(name: str, work: int) -> bool:
    return stat.S_ISDIR(os.stat(name, dir_fd=work, follow_symlinks=False).st_mode)


def _failed(step: OrderStep, what: str, remedy: str = "") -> JobFailed:
    return JobFailed(f"step {step.name!r} {what}", fate=Fate.BAD_OUTPUT, step=step.name, remedy=remedy)
