"""Attachments in a spool: written by whoever has the file in hand, read by whoever records it.

They lie in ``attachments/`` of the spool, each under its digest, so that equal ones are one file.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime
from hashlib import sha256
from itertools import chain, islice
from pathlib import Path
from typing import Final
from uuid import uuid4

from pydantic import ValidationError

from nightmill.errors import NightmillError
from nightmill.execution.claims import sync_folder
from nightmill.execution.journal import SpoolAway
from nightmill.files.reading import StrPath
from nightmill.files.rows import rows_of
from nightmill.model.attachment import MEMBERSHIP, Attachment, AttachmentHeader, RowValue
from nightmill.model.file_type import FileType

ATTACHMENTS: Final = "attachments"
"""Folder of the spool."""
SUFFIX: Final = ".jsonl"
_LINES: Final = 10_000
"""So many lines are written at a time."""


class AttachmentLost(NightmillError):
    """An attachment that a journal names is not in the spool, or is not what the journal says."""


def attach_rows(name: StrPath, file_type: FileType, descriptor: int, spool: Path) -> Attachment:
    """Write what a file holds row by row, and its type wants on record, into a spool.

    Parameters
    ----------
    name
        What messages call the file.
    descriptor
        Of the file, open.

    Raises
    ------
    BadFile, PluginFault
        As :func:`nightmill.files.rows.rows_of`.
    SpoolAway
        Where the spool cannot be written.
    """
    return attach_told(name, file_type, rows_of(name, file_type, f"/proc/{os.getpid()}/fd/{descriptor}"), spool)


def attach_told(name: StrPath, file_type: FileType, rows: Iterable[Sequence[RowValue]], spool: Path) -> Attachment:
    """Write the rows of a file's membership, in the order of its columns, into a spool.

    Raises
    ------
    SpoolAway
        Where the spool cannot be written.
    """
    assert file_type.membership is not None
    try:
        return write_attachment(spool, MEMBERSHIP, file_type.membership.names, rows)
    except OSError as error:
        raise SpoolAway(
            f"what {name} holds row by row cannot be written to {spool / ATTACHMENTS}: {error.strerror}",
            remedy="make room in the spool or mend its disk",
        ) from error


def write_attachment(spool: Path, kind: str, columns: Sequence[str], rows: Iterable[Sequence[RowValue]]) -> Attachment:
    """Write rows into a spool, durably.

    Raises
    ------
    OSError
        Where the spool cannot be written; nothing half written stays.
    """
    folder = spool / ATTACHMENTS
    folder.mkdir(parents=True, exist_ok=True)
    part = folder / f".{uuid4().hex}"
    digest, size_bytes, count = sha256(), 0, -1
    header = AttachmentHeader(kind=kind, columns=tuple(columns)).model_dump_json()
    lines = chain([header], (json.dumps(list(row), ensure_ascii=False) for row in rows))
    try:
        with part.open("xb") as file:
            while block := list(islice(lines, _LINES)):
                data = ("\n".join(block) + "\n").encode()
                file.write(data)
                digest.update(data)
                size_bytes += len(data)
                count += len(block)
            file.flush()
            os.fsync(file.fileno())
        part.replace(folder / f"{digest.hexdigest()}{SUFFIX}")
    except BaseException:
        part.unlink(missing_ok=True)
        raise
    sync_folder(folder)
    return Attachment(kind=kind, sha256=digest.hexdigest(), size_bytes=size_bytes, rows=count)


def read_attachment(spool: Path, attachment: Attachment) -> tuple[tuple[str, ...], Iterator[list[RowValue]]]:
    """Return the columns of an attachment, and its rows as they are read.

    Raises
    ------
    AttachmentLost
        Where it is not there, or not what it was: nothing was returned.
    """
    path = spool / ATTACHMENTS / f"{attachment.sha256}{SUFFIX}"
    try:
        with path.open("rb") as file:
            found = sha256()
            while data := file.read(1 << 20):
                found.update(data)
        if found.hexdigest() != attachment.sha256:
            raise AttachmentLost(
                f"the attachment {path} is damaged: its digest is {found.hexdigest()}",
                remedy="bring it back as it was, or rerun the job",
            )
        with path.open("rb") as file:
            header = AttachmentHeader.model_validate_json(file.readline())
    except (OSError, ValidationError) as error:
        why = error.strerror if isinstance(error, OSError) else "its first line is not the header of an attachment"
        raise AttachmentLost(
            f"the attachment {path} cannot be read: {why}", remedy="bring it back from where it was, or rerun the job"
        ) from error
    return header.columns, _rows(path)


def _rows(path: Path) -> Iterator[list[RowValue]]:
    with path.open("rb") as file:
        file.readline()
        for line in file:
            yield json.loads(line)


def older_attachments(spool: Path, than: datetime) -> Iterator[Path]:
    """Yield the attachments of a spool, and what writers left that died, that nobody has written since a time."""
    for path in sorted((spool / ATTACHMENTS).glob("*")):
        if datetime.fromtimestamp(path.stat().st_mtime, UTC) < than:
            yield path
