"""Whether what a journal tells belongs to an attempt that the backbone issued, and what may be done about it.

A journal is a file that anybody who reaches the spool can write, copy or bring back from a backup. It is believed of
attempts that were issued, with the very order that they were issued with, told by the process that carries them out,
and as far as it does not contradict that order.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime

from nightmill.backbone.catalogue.signing_keys import signing_keys
from nightmill.backbone.work.ownership import of_other_sites
from nightmill.errors import StoreError
from nightmill.execution.claims import Claim, claim_of
from nightmill.execution.journal import Journal
from nightmill.execution.owner import lives
from nightmill.execution.recover import Rights, contradicted
from nightmill.execution.sealing import unsealed
from nightmill.model.fate import Fate
from nightmill.model.fit import misfit
from nightmill.model.journal import MadeFile
from nightmill.model.order import AttemptKey, order_sha256
from nightmill.model.report import JobReport, fold, stacks
from nightmill.model.states import AttemptState
from nightmill.operations.site import Site
from provenance.known import Known, Place, holders, known


@dataclass
class Judged:
    """What is to be made of the reports of one journal."""

    known: Mapping[AttemptKey, Known]
    believed: set[AttemptKey] = field(default_factory=set)
    """Attempts of which it may be recorded what the journal tells."""
    rights: dict[AttemptKey, Rights] = field(default_factory=dict)
    """Those of them that are open in the journal, and what may be done about each once its writer is dead."""
    misfits: dict[AttemptKey, str] = field(default_factory=dict)
    """Why others are not believed. An attempt that has ended, and of which nothing more is to be told, is neither."""


def judge(site: Site, journal: Journal, lost_hosts: Mapping[str, datetime]) -> Judged:
    """Compare what a journal tells with what was issued; nothing is changed."""
    reports = fold(journal.entries)
    software = stacks(journal.entries)
    with site.database.reading() as session:
        judged = Judged(known(session, reports))
        keys = {keyid: key.public_key for keyid, key in signing_keys(session).items()}
        elsewhere = of_other_sites(session, {attempt.campaign for attempt in judged.known})
        for attempt, report in reports.items():
            before = judged.known.get(attempt)
            if attempt.campaign in elsewhere:
                judged.misfits[attempt] = f"{attempt}: its campaign is of site {elsewhere[attempt.campaign]!r}"
                continue
            if before is not None and before.state.ended and not before.given_up:
                if report.state is AttemptState.PUBLISHED and before.fate not in (Fate.PUBLISHED, Fate.NAME_COLLISION):
                    judged.misfits[attempt] = f"{attempt}: it is on record as {before.fate}, and told as published"
                continue
            claim = claim_of(site.config.spool, attempt)
            if (
                why := _disbelieved(report, before, claim, journal, lost_hosts)
                or misfit(report, software)
                or _forged(report, keys)
            ):
                judged.misfits[attempt] = f"{attempt}: {why}"
            else:
                judged.believed.add(attempt)
        still_open = [reports[attempt] for attempt in judged.believed if not reports[attempt].state.ended]
        places = {place for report in still_open for place in _places(report)}
        taken = holders(session, places)
    for report in still_open:
        before = judged.known[report.attempt]
        others = {place for place in _places(report) if taken.get(place, before.attempt_id) != before.attempt_id}
        judged.rights[report.attempt] = Rights(
            before.fate if before.given_up else None, before.evidence if before.given_up else "", frozenset(others)
        )
    return judged


def _forged(report: JobReport, keys: Mapping[str, bytes]) -> str:
    """Say why what its worker is told to have signed is not that, or not what the journal tells; empty where it is."""
    if report.sealed is None:
        return ""
    try:
        statement = report.sealed.statement
    except ValueError:
        return "what is told as signed is not a statement about an attempt"
    if why := unsealed(report.sealed, keys):
        return f"its statement is not believed: {why}"
    claim = statement.predicate
    if claim.attempt != report.attempt or claim.order_sha256 != order_sha256(report.order):
        return f"its statement is about {claim.attempt}, with another order"
    signed = {file.name: file.sha256 for file in statement.subject}
    if other := [file.name for file in report.intended if signed.get(file.name) != file.sha256]:
        return f"{other[0]} is told with other bytes than its worker signed"
    return ""


def _disbelieved(
    report: JobReport, before: Known | None, claim: Claim | None, journal: Journal, lost_hosts: Mapping[str, datetime]
) -> str:
    """Say why a report is none of an attempt that was issued to its writer; empty where it is."""
    if before is None:
        return "it was never issued by this database; was that brought back from a backup? see 'nightmill recover'"
    if order_sha256(report.order) != before.order_sha256:
        return "it was issued with another order than the journal holds"
    name = journal.path.stem
    if journal.header is not None and journal.header.writer not in ("", name):
        return f"the journal is a copy of {journal.header.writer}.jsonl, or had its name changed"
    if claim is not None:
        return "" if claim.journal == name else f"it is carried out by {claim}"
    issuer = before.issuer
    if issuer is None or before.given_up or journal.wrote(issuer.owner):
        return ""
    if lives(issuer.owner, issuer.since, lost_hosts) is False:
        return ""
    return f"it is carried out by process {issuer.owner.pid} on {issuer.owner.host}, which did not write this"


def _places(report: JobReport) -> set[Place]:
    return {(file.store, file.path) for file in report.intended}


def take_back(site: Site, collided: Iterable[tuple[int, Sequence[MadeFile]]]) -> None:
    """Remove what attempts had published that failed when they were recorded, as others have names of theirs.

    Removed are bytes of an attempt's own intent where nothing else is registered. What a store keeps, as it is away,
    stands there without a row.

    Parameters
    ----------
    collided
        As :attr:`provenance.record.Recorded.collided`.
    """
    for attempt_id, files in collided:
        with site.database.reading() as session:
            taken = holders(session, {(file.store, file.path) for file in files})
        for file in files:
            if taken.get((file.store, file.path), attempt_id) == attempt_id:
                with suppress(StoreError):
                    if not contradicted([file], site.stagers):
                        site.stagers[file.store].remove(file.path)
