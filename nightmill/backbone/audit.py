"""Who did what, when, and why: a row for each act of an operator, in the transaction of the act."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from nightmill.backbone.schema import AuditRow
from nightmill.backbone.sites import this_site


def record_act(
    session: Session,
    *,
    who: str,
    verb: str,
    subject: str,
    now: datetime,
    why: str = "",
    detail: Mapping[str, Any] | None = None,
) -> None:
    """Write an act down.

    Parameters
    ----------
    who
        The operator.
    verb
        The command, as it is typed: ``calib certify``.
    subject
        What it was done to: a campaign, a set, a file.
    now
        When, with its zone.
    why
        In the operator's words.
    detail
        Whatever more is worth keeping; JSON.
    """
    act = {"who": who, "verb": verb, "subject": subject, "why": why, "detail": dict(detail) if detail else {}}
    session.add(AuditRow(site_id=this_site(session), at=now, **act))
    session.flush()


def last_acts(session: Session, verb: str) -> dict[str, datetime]:
    """Return when an act was last done to each of its subjects, at this site."""
    query = select(AuditRow.subject, func.max(AuditRow.at)).group_by(AuditRow.subject)
    own = (AuditRow.site_id == this_site(session), AuditRow.verb == verb)
    return {subject: at for subject, at in session.execute(query.where(*own))}
