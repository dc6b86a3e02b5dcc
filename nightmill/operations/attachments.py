"""Rows of files, from the spool into the catalogue: hidden, before the transaction that reveals them with the files."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from nightmill.backbone.catalogue.attachments import load, loaded
from nightmill.clock import utc_now
from nightmill.execution.attachments import AttachmentLost, read_attachment
from nightmill.model.attachment import Attachment
from nightmill.model.order import AttemptKey
from nightmill.model.report import JobReport
from nightmill.operations.site import Site
from provenance.products import registered


def load_rows(site: Site, attachments: Iterable[Attachment], *, spool: Path | None = None) -> dict[str, int]:
    """Load attachments that are not loaded yet; return the IDs of all of them by their digests.

    Parameters
    ----------
    spool
        Where they lie; by default that of the site.

    Raises
    ------
    AttachmentLost
        Where one is not there, or not what it was.
    """
    wanted = {each.sha256: each for each in attachments}
    if not wanted:
        return {}
    with site.database.reading() as session:
        ids = loaded(session, wanted)
    for sha256, attachment in wanted.items():
        if sha256 not in ids:
            columns, rows = read_attachment(spool or site.config.spool, attachment)
            ids[sha256] = load(site.database, attachment, columns, rows, now=utc_now())
    return ids


def load_reported(
    site: Site, reports: Sequence[JobReport], *, spool: Path | None = None
) -> tuple[dict[str, int], dict[AttemptKey, str]]:
    """Load the rows of the files that reports will register.

    Returns
    -------
    tuple
        The IDs by the digests; and the attempts of which something is lost, with what.
    """
    ids: dict[str, int] = {}
    lost: dict[AttemptKey, str] = {}
    for report in reports:
        attachments = [each for file in registered(report) for each in file.attachments] if report.state.ended else []
        try:
            ids |= load_rows(site, (each for each in attachments if each.sha256 not in ids), spool=spool)
        except AttachmentLost as error:
            lost[report.attempt] = f"{report.attempt}: {error}"
    return ids, lost
