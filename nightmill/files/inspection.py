"""Inspection: a file that is taken in, or that a step made, must be whole and say what its type requires."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from hashlib import sha256

from pydantic import ValidationError

from nightmill import plugins
from nightmill.errors import BadFile, BadPlugin, FileRefused, PluginFault, UnknownName
from nightmill.files import checks, formats
from nightmill.files.footprints import footprints_of
from nightmill.files.headers import metadata_of
from nightmill.files.reading import StrPath
from nightmill.model.content import Candidate, Metadata, StepInput
from nightmill.model.file_type import Checks, FileType
from nightmill.model.footprint import Footprint
from nightmill.model.ports import Check, CheckClass


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
    """

    metadata: Metadata
    size_bytes: int
    sha256: str
    compression: str | None = None
    footprints: tuple[Footprint, ...] = ()


def inspect_file(
    path: StrPath,
    file_type: FileType,
    descriptor: int | None = None,
    *,
    inputs: Sequence[StepInput] | None = None,
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

    Returns
    -------
    Inspection
        What its type wants of the file, and its size and SHA-256.

    Raises
    ------
    BadFile, BadMetadata
        Where the format, a check or the metadata refuses it.
    PluginFault
        Where a format or check failed otherwise, or is not there.
    """
    try:
        format = formats.open_format(file_type.format)
        wanted = _checks(file_type.format, file_type.checks)
    except (UnknownName, BadPlugin) as error:
        raise PluginFault(f"{path} cannot be looked at: {error.message}", remedy=error.remedy) from error
    digest = _Counted()
    verify = file_type.checks.checksum != "ignored"
    at_work = of_format = ("format", formats.GROUP, file_type.format)
    try:
        content = format.read(path, descriptor=descriptor, digest=digest, verify=verify)
        if digest.size_bytes != content.size_bytes:
            raise _changed(path, content.size_bytes, digest.size_bytes, file_type.format)
        there = str(path) if descriptor is None else f"/proc/{os.getpid()}/fd/{descriptor}"
        told = partial(metadata_of, content.sections, file_type, path)
        candidate = Candidate(str(path), there, content, told)
        for name, compares, check in wanted:
            at_work = ("check", checks.GROUP, name)
            if not compares:
                check.look(candidate, ())
            elif inputs is not None:
                check.look(candidate, inputs)
        at_work = of_format
        metadata = told()
        footprints = footprints_of(path, file_type, content.sections, metadata.values)
    except FileRefused as error:
        error.check = "" if at_work is of_format else at_work[2]
        raise
    except (Exception, SystemExit) as error:  # of a plug-in: not the night's end, and not a file that passes
        what, group, name = at_work
        raise PluginFault(
            f"{what} {name!r} of {plugins.package(group, name)} failed on {path}: {type(error).__name__}: {error}",
            remedy=f"tell whoever maintains the {what}; the file may be good",
        ) from error
    return Inspection(metadata, content.size_bytes, digest.sha256.hexdigest(), content.compression, footprints)


def _changed(path: StrPath, size_bytes: int, read_bytes: int, format: str) -> BadFile:
    return BadFile(
        f"{path} has {size_bytes} bytes, and {read_bytes} were read of it",
        reason="changed",
        remedy="let it be written first; if nobody writes it, the mistake is that of format"
        f" {format!r} of {plugins.package(formats.GROUP, format)}",
    )


@lru_cache(maxsize=1024)
def _checks(format: str, wanted: Checks) -> tuple[tuple[str, bool, Check], ...]:
    """Make the checks of a file type."""
    made: list[tuple[str, bool, Check]] = []
    for name, options in wanted:
        kind = checks.check_class(name)
        if not kind.formats or format in kind.formats:
            made.append((name, kind.compares, _made(kind, name, options)))
        elif name not in Checks.model_fields:  # those that every type has do without what they cannot look at
            raise BadPlugin(unfit(name, kind, format))
    return tuple(made)


def unfit(name: str, kind: CheckClass, format: str) -> str:
    """Say that a check cannot look at files of a format."""
    return f"check {name!r} looks at files of format {' or '.join(kind.formats)}, not {format}"


def _made(kind: CheckClass, name: str, options: object) -> Check:
    try:
        return kind(kind.Options.model_validate(options))
    except ValidationError as error:
        why = f"does not take the options {json.dumps(options)}: {error.errors()[0]['msg']}"
    except (Exception, SystemExit) as error:  # noqa: BLE001 - raised as that of the plug-in, below
        why = f"cannot be made with the options {json.dumps(options)}: {type(error).__name__}: {error}"
    raise BadPlugin(f"check {name!r} of {plugins.package(checks.GROUP, name)} {why}")


class _Counted:
    """A SHA-256 that counts."""

    __slots__ = ("sha256", "size_bytes")

    def __init__(self) -> None:
        self.sha256 = sha256()
        self.size_bytes = 0

    def update(self, data: bytes, /) -> None:
        self.sha256.update(data)
        self.size_bytes += len(data)
