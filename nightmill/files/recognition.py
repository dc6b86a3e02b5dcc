"""Which file type a file is of, by what its header says."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property, lru_cache
from typing import Final

from nightmill.errors import BadMetadata, BadName, ExpressionError, FileRefused, guess
from nightmill.expressions import Expression, evaluate, parse
from nightmill.expressions.terms import Field, Joined, Not, Term
from nightmill.files.inspection import Opened, open_file, verified
from nightmill.files.name_patterns import name_kinds
from nightmill.files.reading import StrPath
from nightmill.model.content import Metadata
from nightmill.model.file_type import FileType, MetadataKey

OF_THE_FILE: Final = ("original_name", "size_bytes")
"""What ``recognise`` may ask of a file, beside what its type reads of the header."""


def check_recognise(file_type: FileType) -> Iterator[str]:
    """Yield what is wrong with the ``recognise`` of a file type."""
    if not file_type.recognise:
        return
    try:
        asked = _keys(_parsed(file_type.recognise))
    except ExpressionError as error:
        yield f"recognise: {error}"
        return
    try:
        of_name = name_kinds(file_type)
    except BadName:  # told with its pattern
        return
    known = [*file_type.metadata, *of_name, *OF_THE_FILE]
    for name in sorted(asked.difference(known)):
        yield f"recognise asks for {name!r}, which the metadata of the type does not read{guess(name, known)}"


@dataclass(frozen=True)
class Sorting:
    """How files are sorted into types.

    Parameters
    ----------
    types
        Those to choose from, each with ``recognise``.
    given
        The type that all of them are offered as; None where they are to be sorted.
    """

    types: Sequence[FileType]
    given: FileType | None = None

    def open(self, path: StrPath, descriptor: int | None, name: str) -> tuple[FileType, Opened]:
        """Read a file, once a format, and say which type it is of.

        Parameters
        ----------
        path, descriptor
            As for :func:`nightmill.files.inspection.inspect_file`.
        name
            That it came with.

        Raises
        ------
        BadFile, PluginFault
            Where it cannot be read.
        BadMetadata
            Where it is not of the given type (``other_type``), of none (``no_type``) or of several (``several_types``).
        """
        if self.given is not None:
            opened = open_file(path, self.given.format, descriptor, verify=verified(self.given))
            self._require(self.given, opened, name)
            return self.given, opened
        fitting: list[tuple[FileType, Opened]] = []
        seen: list[Opened] = []
        failures: dict[tuple[str, bool], FileRefused] = {}
        for reading, alike in self._readings.items():
            try:
                opened = open_file(path, reading[0], descriptor, verify=reading[1])
            except FileRefused as error:
                failures[reading] = error
                continue
            seen.append(opened)
            fitting += [(each, opened) for family in alike for each in family.fitting(opened, name)]
        if len(fitting) == 1:
            return fitting[0]
        if fitting:
            told = ", ".join([f"{each.name} ({each.recognise})" for each, _ in fitting])
            raise BadMetadata(
                f"{path} fits several file types: {told}",
                reason="several_types",
                remedy="let 'recognise' tell them apart, or say --type",
            )
        if not seen:
            raise next(iter(failures.values()))
        by_format = {opened.format: opened for opened in seen}
        others = []
        for each in self.types:
            failure = failures.get(_reading(each))
            why = unfit_for(each, by_format[each.format], name) if failure is None else failure.message
            others.append(f"{each.name}: {why}")
        raise BadMetadata(
            f"{path} fits no file type; {'; '.join(others)}",
            reason="no_type",
            remedy="say --type, or let the 'recognise' of a type fit",
        )

    @cached_property
    def _readings(self) -> dict[tuple[str, bool], list[_Family]]:
        """The types by how their files are read, those together that read the same key in the same way."""
        readings: dict[tuple[str, bool], list[_Family]] = {}
        for each in self.types:
            alike = readings.setdefault(_reading(each), [])
            if not any(family.takes(each) for family in alike):
                alike.append(_Family([each], dict(each.metadata)))
        return readings

    def _require(self, given: FileType, opened: Opened, name: str) -> None:
        if why := unfit_for(given, opened, name):
            beside = [each for each in self.types if each.format == given.format and each.name != given.name]
            fitting = [each.name for each in beside if not unfit_for(each, opened, name)]
            raise BadMetadata(
                f"{opened.path} is not of type {given.name!r}: {why}",
                reason="other_type",
                remedy=f"it fits {' and '.join(fitting)}" if fitting else "offer it as what it is",
            )


@dataclass
class _Family:
    """Types that can be asked together: none of them reads a key in another way than the others."""

    types: list[FileType]
    metadata: dict[str, MetadataKey]

    def takes(self, file_type: FileType) -> bool:
        """Add a type, and return True, where it reads no key in another way."""
        if file_type.name_pattern != self.types[0].name_pattern:
            return False
        if any(self.metadata.get(name, key) != key for name, key in file_type.metadata.items()):
            return False
        self.types.append(file_type)
        self.metadata |= file_type.metadata
        return True

    @cached_property
    def together(self) -> FileType:
        """A type that reads what any of them does."""
        return self.types[0].model_copy(update={"metadata": self.metadata})

    @cached_property
    def asked(self) -> frozenset[str]:
        """The keys that any of them asks for."""
        return frozenset().union(*[_keys(_parsed(each.recognise)) for each in self.types])

    def fitting(self, opened: Opened, name: str) -> list[FileType]:
        """Return those whose ``recognise`` a file fulfils: each key is read once for all of them."""
        try:
            found = opened.some(self.together, self.asked)
        except BadMetadata:  # of which of them, that is seen one by one
            return [each for each in self.types if not unfit_for(each, opened, name)]
        record = _record(found, name, opened.content.size_bytes)
        return [each for each in self.types if evaluate(_parsed(each.recognise), record)]


def unfit_for(file_type: FileType, opened: Opened, name: str) -> str:
    """Say why a file does not fulfil the ``recognise`` of a type; empty where it does, or there is none.

    Parameters
    ----------
    name
        That it came with.
    """
    if not file_type.recognise:
        return ""
    expression = _parsed(file_type.recognise)
    try:
        found = opened.some(file_type, _keys(expression))
    except BadMetadata as error:
        return error.message.removeprefix(f"{opened.path}: ")
    record = _record(found, name, opened.content.size_bytes)
    return "" if evaluate(expression, record) else _missed(expression, record)


def _record(found: Metadata, name: str, size_bytes: int) -> dict[str, object]:
    return {
        **found.data_id,
        "begins_at": found.begins_at,
        "ends_at": found.ends_at,
        "original_name": name,
        "size_bytes": size_bytes,
        "metadata": found.values,
    }


def _missed(expression: Expression, record: Mapping[str, object]) -> str:
    """Say which values an expression does not fit: of conditions joined with ``and`` those of the ones that failed."""
    root = expression.root
    terms: Sequence[Term] = root.terms if isinstance(root, Joined) and root.word == "and" else (root,)
    failed = [each for each in terms if not evaluate(Expression(expression.text, each, expression.names), record)]
    told = {}
    for field in (field for term in failed for field in _fields(term)):
        metadata = record["metadata"]
        value = metadata.get(field.name) if field.metadata and isinstance(metadata, Mapping) else record.get(field.name)
        shown = value.isoformat() if isinstance(value, datetime) else repr(value)
        told[field.name] = f"{field.name} is {shown}" if value is not None else f"{field.name} has no value"
    return ", ".join(told.values())


def _reading(file_type: FileType) -> tuple[str, bool]:
    return file_type.format, verified(file_type)


def _fields(term: Term) -> Iterator[Field]:
    match term:
        case Joined():
            for each in term.terms:
                yield from _fields(each)
        case Not():
            yield from _fields(term.term)
        case _:
            yield term.field


def _keys(expression: Expression) -> set[str]:
    return {name.removeprefix("metadata.") for name in expression.names}


_parsed = lru_cache(maxsize=1024)(parse)
