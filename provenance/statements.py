"""Rows of statements: what workers signed, and how far the chains of their journals reach."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from sqlalchemy import insert, select, update
from sqlalchemy.orm import Session

from nightmill.backbone.among import among
from nightmill.backbone.schema import ChainRow, StatementRow
from nightmill.backbone.upsert import add_missing
from nightmill.model.report import JobReport
from nightmill.model.statement import Envelope
from provenance.executions import AttemptIds


def write_statements(session: Session, reports: Sequence[JobReport], attempts: AttemptIds) -> None:
    """Put on record what was signed of ended attempts, as it stands: whoever asks verifies it."""
    rows = [_row(report.sealed, attempts[report.attempt]) for report in reports if report.sealed is not None]
    if not rows:
        return
    there = set(
        session.scalars(select(StatementRow.attempt_id).where(among(StatementRow.attempt_id, attempts.values())))
    )
    if not (new := [row for row in rows if row["attempt_id"] not in there]):
        return
    session.execute(insert(StatementRow), new)
    heads = {str(row["journal"]): row for row in sorted(new, key=lambda row: int(row["number"]))}
    known = {row.journal: row.length for row in session.scalars(select(ChainRow).where(ChainRow.journal.in_(heads)))}
    ends = [
        {"journal": journal, "length": row["number"], "head_sha256": row["sha256"]}
        for journal, row in heads.items()
        if int(row["number"]) > known.get(journal, 0)
    ]
    add_missing(session, ChainRow, ends, unique=("journal",))
    if longer := [row for row in ends if row["journal"] in known]:
        session.execute(update(ChainRow), longer)


def _row(envelope: Envelope, attempt_id: int) -> dict[str, str | int]:
    claim = envelope.statement.predicate
    signature = envelope.signatures[0]
    return {
        "attempt_id": attempt_id,
        "payload": envelope.message.decode(),
        "sha256": envelope.sha256,
        "keyid": signature.keyid,
        "signature": signature.sig,
        "journal": claim.journal,
        "number": claim.number,
        "previous_sha256": claim.previous,
    }


def statements_of(session: Session, attempt_ids: Sequence[int]) -> dict[int, Envelope]:
    """Return what was signed of attempts, by their IDs."""
    query = select(StatementRow).where(among(StatementRow.attempt_id, attempt_ids))
    rows = session.scalars(query)
    return {row.attempt_id: Envelope.of_record(row.payload, row.signature, row.keyid) for row in rows}


def breaks(session: Session, journals: Sequence[str]) -> Iterator[str]:
    """Yield where the chains of journals are broken, a sentence each."""
    for start in range(0, len(journals), 500):
        wanted = list(journals[start : start + 500])
        heads = {row.journal: row for row in session.scalars(select(ChainRow).where(among(ChainRow.journal, wanted)))}
        query = select(
            StatementRow.journal, StatementRow.number, StatementRow.sha256, StatementRow.previous_sha256
        ).where(among(StatementRow.journal, wanted))
        links: dict[str, dict[int, tuple[str, str]]] = {journal: {} for journal in wanted}
        for journal, number, digest, previous in session.execute(query):
            links[journal][number] = digest, previous
        for journal in wanted:
            yield from _breaks(journal, links[journal], heads.get(journal))


def _breaks(journal: str, links: dict[int, tuple[str, str]], head: ChainRow | None) -> Iterator[str]:
    length = max([*links, head.length if head else 0])
    for number in range(1, length + 1):
        if number not in links:
            yield f"statement {number} of journal {journal} is not on record"
        elif number - 1 in links and links[number][1] != links[number - 1][0]:
            yield f"statement {number} of journal {journal} does not follow statement {number - 1}"
        elif number == 1 and links[number][1]:
            yield f"statement 1 of journal {journal} follows another"
    if head is None:
        yield f"the end of the chain of journal {journal} is not on record"
    elif head.length in links and links[head.length][0] != head.head_sha256:
        yield f"the chain of journal {journal} ends with another statement than is on record"
