"""Files that nightmill itself makes of an attempt, beside its log in the store of that: no step made them."""

from __future__ import annotations

from nightmill.files.checksum import fingerprint
from nightmill.model.attachment import Attachment
from nightmill.model.dimensions import split
from nightmill.model.journal import MadeFile
from nightmill.model.order import JobOrder


def own_file(
    order: JobOrder, kind: str, name: str, path: str, source: str, attachments: tuple[Attachment, ...] = ()
) -> MadeFile:
    """Return what is to be published of such a file, which has the data ID and the times of its unit.

    Parameters
    ----------
    kind
        Its role, which is its type as well.
    path
        Below the URL of the log's store.
    source
        Leads to its bytes.
    """
    size_bytes, digest = fingerprint(source)
    dimensions, metadata = split(order.data_id)
    return MadeFile(
        name=name,
        role=kind,
        type=kind,
        step="",
        size_bytes=size_bytes,
        sha256=digest,
        store=order.log_store,
        path=path,
        data_id=dimensions,
        metadata=metadata,
        begins_at=order.begins_at,
        ends_at=order.ends_at,
        attachments=attachments,
    )
