"""Inspection: a file that is taken in, or that a step made, must be whole and say what its type requires."""

from __future__ import annotations

import json
import os
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache, partial
from hashlib import sha256
from itertools import cycle
from string import ascii_lowercase
from typing import NamedTuple

from pydantic import ValidationError

from nightmill import plugins
from nightmill.errors import BadFile, BadPlugin, FileRefused, PluginFault, UnknownName
from nightmill.files import checks, formats
from nightmill.files.computed import Value
from nightmill.files.footprints import footprints_of
from nightmill.files.headers import metadata_of, some_metadata
from nightmill.files.reading import StrPath
from nightmill.model.content import Candidate, Content, Metadata, Programs, StepInput
from nightmill.model.file_type import Checks, FileType
from nightmill.model.file_warning import FileWarning
from nightmill.model.footprint import Footprint
from nightmill.model.ports import Check, CheckClass, TableFormat


@dataclass(frozen=True, slots=True)
class Inspection:
    """A file that passed its inspection.

    Parameters
    ----------
    sha256
        Hexadecimal digits.
    compression
        What the bytes of a file are inside of: ``gz``, ``bz2``, or nothing; None where nobody looked into it.
    footprints
        Which parts of the sky it covers, where its type wants to know.
    warnings
        What those of its checks found that hold no file back.
    """

    metadata: Metadata
    size_bytes: int
    sha256: str
    compression: str | None = None
    footprints: tuple[Footprint, ...] = ()
    warnings: tuple[FileWarning, ...] = ()


@dataclass(frozen=True, slots=True)
class Opened:
    """A file that its format has read and found whole; what is in it can be looked at as often as one likes.

    Parameters
    ----------
    sha256
        Hexadecimal digits.
    descriptor
        Of the file, where it is open; it must stay so.
    """

    path: StrPath
    format: str
    content: Content
    sha256: str
    descriptor: int | None = None

    def inspect(
        self,
        file_type: FileType,
        *,
        inputs: Sequence[StepInput] | None = None,
        told: Mapping[str, Value] | None = None,
        own_name: bool = True,
        pipeline_dir: str = "",
        programs: Programs | None = None,
    ) -> Inspection:
        """Check it against a type of its format; see :func:`inspect_file`."""
        path, content = self.path, self.content
        try:
            wanted = _checks(self.format, file_type.checks)
        except (UnknownName, BadPlugin) as error:
            raise _unseen(path, error) from error
        there = str(path) if self.descriptor is None else f"/proc/{os.getpid()}/fd/{self.descriptor}"
        read = partial(metadata_of, content.sections, file_type, path, told, own_name=own_name)
        candidate = Candidate(str(path), there, content, read, self.format, self.sha256, pipeline_dir, programs)
        refusals: list[FileRefused] = []
        warnings: list[FileWarning] = []
        for each in wanted:
            if each.compares and inputs is None:
                continue
            try:
                with _at_work(path, "check", checks.GROUP, each.name):
                    each.check.look(candidate, (inputs or ()) if each.compares else ())
            except FileRefused as error:
                if each.warns:
                    warnings.append(FileWarning(check=each.name, reason=error.reason, message=str(error)))
                else:
                    refusals.append(error)
        try:
            with _at_work(path, "format", formats.GROUP, self.format):
                metadata = read()
                footprints = footprints_of(path, file_type, content.sections, metadata.values)
        except FileRefused as error:
            if not refusals:
                raise
            raise _together(path, [*refusals, error]) from error
        if refusals:
            raise _together(path, refusals)
        return Inspection(metadata, content.size_bytes, self.sha256, content.compression, footprints, tuple(warnings))

    def some(self, file_type: FileType, names: Collection[str]) -> Metadata:
        """Take some keys of a type of its format; see :func:`nightmill.files.headers.some_metadata`."""
        with _at_work(self.path, "format", formats.GROUP, self.format):
            return some_metadata(self.content.sections, file_type, names, self.path)


def open_file(path: StrPath, format: str, descriptor: int | None = None, *, verify: bool = True) -> Opened:
    """Read a file once, as one of a format.

    Parameters
    ----------
    path, descriptor
        As for :func:`inspect_file`.
    verify
        Whether checksums in it are to be verified.

    Raises
    ------
    BadFile
        Where the format refuses it.
    PluginFault
        Where the format failed otherwise, or is not there.
    """
    try:
        reader = formats.open_format(format)
    except (UnknownName, BadPlugin) as error:
        raise _unseen(path, error) from error
    digest = _Counted()
    with _at_work(path, "format", formats.GROUP, format):
        content = reader.read(path, descriptor=descriptor, digest=digest, verify=verify)
        if digest.size_bytes != content.size_bytes:
            raise _changed(path, content.size_bytes, digest.size_bytes, format)
    return Opened(path, format, content, digest.sha256.hexdigest(), descriptor)


def verified(file_type: FileType) -> bool:
    """Whether a type wants the checksums in its files verified."""
    return file_type.checks.checksum != "ignored"


def inspect_file(
    path: StrPath,
    file_type: FileType,
    descriptor: int | None = None,
    *,
    inputs: Sequence[StepInput] | None = None,
    told: Mapping[str, Value] | None = None,
    own_name: bool = True,
    pipeline_dir: str = "",
    programs: Programs | None = None,
) -> Inspection:
    """Check a file against its type (structure, checksums, checks, required metadata), reading it once.

    Parameters
    ----------
    path
        Names the file in messages, and is opened where there is no descriptor.
    descriptor
        Of the file, where it is open already.
    inputs
        What the step read that made the file. None for a file that no step made: checks that compare are not run.
    told
        What the step tells of it, as :func:`nightmill.files.headers.metadata_of` takes it.
    own_name
        Whether whoever made or brought the file gave it its name, which then must fit the pattern of its type.
    pipeline_dir
        The bundle of the pipeline whose step made it, for checks that run a program of that.
    programs
        What runs programs that look at it, where they are not trusted more than the step that made it.

    Returns
    -------
    Inspection
        What its type wants of the file, and its size and SHA-256.

    Raises
    ------
    BadFile, BadMetadata
        Where the format, a check or the metadata refuses it. Where several checks do, the error tells of all of them,
        and has the reason of the first.
    PluginFault
        Where a format or check failed otherwise, or is not there.
    """
    opened = open_file(path, file_type.format, descriptor, verify=verified(file_type))
    return opened.inspect(
        file_type, inputs=inputs, told=told, own_name=own_name, pipeline_dir=pipeline_dir, programs=programs
    )


@contextmanager
def _at_work(path: StrPath, what: str, group: str, name: str) -> Iterator[None]:
    """Let a plug-in look at a file: what it refuses is refused, and where it fails, that is not the night's end."""
    try:
        yield
    except FileRefused as error:
        error.check = name if group == checks.GROUP else ""
        raise
    except (Exception, SystemExit) as error:  # of a plug-in: not a file that passes
        offered_by = plugins.package(group, checks.kind_of(name))
        raise PluginFault(
            f"{what} {name!r} of {offered_by} failed on {path}: {type(error).__name__}: {error}",
            remedy=f"tell whoever maintains the {what}; the file may be good",
        ) from error


def _together(path: StrPath, refusals: Sequence[FileRefused]) -> FileRefused:
    """Make one refusal of all that is wrong with a file: who mends it need not come once for each."""
    first = refusals[0]
    if len(refusals) == 1:
        return first
    told = "; ".join([f"({letter}) {each}" for letter, each in zip(cycle(ascii_lowercase), refusals, strict=False)])
    together = BadFile(f"{path}: {len(refusals)} things are wrong: {told}", reason=first.reason)
    together.check = first.check
    return together


def _unseen(path: StrPath, error: UnknownName | BadPlugin) -> PluginFault:
    return PluginFault(f"{path} cannot be looked at: {error.message}", remedy=error.remedy)


def metadata_in(path: StrPath, file_type: FileType, descriptor: int) -> tuple[Metadata, int]:
    """Return what its type wants of an open file, and its size in bytes, without checking it.

    Raises
    ------
    BadFile, BadMetadata, PluginFault
        As :func:`inspect_file`.
    """
    try:
        format = formats.open_format(file_type.format)
    except (UnknownName, BadPlugin) as error:
        raise _unseen(path, error) from error
    with _at_work(path, "format", formats.GROUP, file_type.format):
        content = format.read(path, descriptor=descriptor)
        return metadata_of(content.sections, file_type, path), content.size_bytes


def _changed(path: StrPath, size_bytes: int, read_bytes: int, format: str) -> BadFile:
    return BadFile(
        f"{path} has {size_bytes} bytes, and {read_bytes} were read of it",
        reason="changed",
        remedy="let it be written first; if nobody writes it, the mistake is that of format"
        f" {format!r} of {plugins.package(formats.GROUP, format)}",
    )


class _Wanted(NamedTuple):
    """A check that a file type asks for."""

    name: str
    check: Check
    compares: bool
    warns: bool


@lru_cache(maxsize=1024)
def _checks(format: str, wanted: Checks) -> tuple[_Wanted, ...]:
    """Make the checks of a file type."""
    made: list[_Wanted] = []
    for name, options, warns in wanted.asked():
        kind = checks.check_class(name)
        why = unfit(name, kind, format)
        if not why:
            check = _made(kind, name, options)
            made.append(_Wanted(name, check, getattr(check, "is_comparing", kind.compares), warns))
        elif not Checks.of_every_type(name, warns=warns):
            raise BadPlugin(why)
    return tuple(made)


def unfit(name: str, kind: CheckClass, format: str) -> str:
    """Say why a check cannot look at files of a format; empty where it can."""
    if kind.formats and format not in kind.formats:
        return f"check {name!r} looks at files of format {' or '.join(kind.formats)}, not {format}"
    if getattr(kind, "tables", False) and not isinstance(formats.open_format(format), TableFormat):
        return f"check {name!r} looks at tables, and files of format {format} hold none"
    return ""


def _made(kind: CheckClass, name: str, options: object) -> Check:
    try:
        return kind(kind.Options.model_validate(options))
    except ValidationError as error:
        why = f"does not take the options {json.dumps(options)}: {error.errors()[0]['msg']}"
    except (Exception, SystemExit) as error:  # noqa: BLE001 - raised as that of the plug-in, below
        why = f"cannot be made with the options {json.dumps(options)}: {type(error).__name__}: {error}"
    raise BadPlugin(f"check {name!r} of {plugins.package(checks.GROUP, checks.kind_of(name))} {why}")


class _Counted:
    """A SHA-256 that counts."""

    __slots__ = ("sha256", "size_bytes")

    def __init__(self) -> None:
        self.sha256 = sha256()
        self.size_bytes = 0

    def update(self, data: bytes, /) -> None:
        self.sha256.update(data)
        self.size_bytes += len(data)
