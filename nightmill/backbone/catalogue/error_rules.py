"""Errors that a site knows by name, in the catalogue: every version of each rule, and which of them holds.

Nothing is ever changed: a rule that is written anew is another version, and a row says that one was switched on or off.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from nightmill.backbone.among import among
from nightmill.backbone.schema import ErrorRuleRow, ErrorSwitchRow
from nightmill.backbone.sites import this_site
from nightmill.model.error_rule import ErrorRule
from nightmill.model.order import ErrorName


@dataclass(frozen=True, slots=True)
class KnownError:
    """A version of a rule as it is on record.

    Parameters
    ----------
    id
        By which attempts name it; 0 for one that is not on record.
    is_on
        Whether it holds.
    """

    id: int
    version: int
    rule: ErrorRule
    who: str
    why: str
    at: datetime
    is_on: bool

    def __str__(self) -> str:
        return f"{self.rule.name} (version {self.version})"


def add_rule(session: Session, rule: ErrorRule, *, who: str, why: str, now: datetime) -> int:
    """Put a rule on record, off, as the next version of its name; return the version.

    One that is the same as the last version is not added again.
    """
    newest = session.scalar(
        select(ErrorRuleRow)
        .where(ErrorRuleRow.site_id == this_site(session), ErrorRuleRow.name == rule.name)
        .order_by(ErrorRuleRow.version.desc())
        .limit(1)
    )
    definition = rule.model_dump(mode="json", exclude_defaults=True)
    if newest is not None and newest.definition == definition:
        return newest.version
    row = ErrorRuleRow(
        site_id=this_site(session),
        name=rule.name,
        version=newest.version + 1 if newest is not None else 1,
        explanation=rule.explanation,
        link=rule.link,
        definition=definition,
        who=who,
        why=why,
        at=now,
    )
    session.add(row)
    session.flush()
    return row.version


def switch(session: Session, error_id: int, *, is_on: bool, who: str, why: str, now: datetime) -> None:
    """Switch a rule on or off; one that is switched on takes the place of every other version of its name."""
    session.add(ErrorSwitchRow(error_id=error_id, is_on=is_on, who=who, why=why, at=now))
    session.flush()


def known_errors(session: Session, *, name: str = "") -> list[KnownError]:
    """Return every version of each rule of this site, by name and version.

    Parameters
    ----------
    name
        Of this name alone.
    """
    latest = (
        select(func.max(ErrorSwitchRow.id))
        .join(ErrorRuleRow, ErrorRuleRow.id == ErrorSwitchRow.error_id)
        .where(ErrorRuleRow.site_id == this_site(session))
        .group_by(ErrorRuleRow.name)
    )
    on = select(ErrorSwitchRow.error_id).where(ErrorSwitchRow.id.in_(latest), ErrorSwitchRow.is_on)
    query = select(ErrorRuleRow, ErrorRuleRow.id.in_(on)).where(ErrorRuleRow.site_id == this_site(session))
    if name:
        query = query.where(ErrorRuleRow.name == name)
    ordered = query.order_by(ErrorRuleRow.name, ErrorRuleRow.version)
    return [_known(row, is_on=bool(is_on)) for row, is_on in session.execute(ordered)]


def errors_by_id(session: Session, ids: Collection[int]) -> dict[int, KnownError]:
    """Return versions of rules, whether or not they hold; of them none counts as on."""
    rows = session.scalars(select(ErrorRuleRow).where(among(ErrorRuleRow.id, ids))) if ids else ()
    return {row.id: _known(row, is_on=False) for row in rows}


def error_ids(session: Session, errors: Collection[ErrorName]) -> dict[ErrorName, int]:
    """Return the IDs of versions of rules of this site, as far as they are on record."""
    if not errors:
        return {}
    query = select(ErrorRuleRow.name, ErrorRuleRow.version, ErrorRuleRow.id).where(
        ErrorRuleRow.site_id == this_site(session), ErrorRuleRow.name.in_({each.error for each in errors})
    )
    found = {ErrorName(error=name, version=version): id_ for name, version, id_ in session.execute(query)}
    return {each: found[each] for each in errors if each in found}


def _known(row: ErrorRuleRow, *, is_on: bool) -> KnownError:
    return KnownError(
        id=row.id,
        version=row.version,
        rule=ErrorRule.model_validate(row.definition),
        who=row.who,
        why=row.why,
        at=row.at,
        is_on=is_on,
    )


def in_force(session: Session) -> list[KnownError]:
    """Return the rules of this site that hold, in the order in which they are asked: one query."""
    return in_order([each for each in known_errors(session) if each.is_on])


def last_switch(session: Session) -> int:
    """Return a number that changes with the rules that hold: of the last switch, 0 where there was none."""
    return session.scalar(select(func.max(ErrorSwitchRow.id))) or 0


def in_order(errors: Sequence[KnownError]) -> list[KnownError]:
    """Return rules in the order in which they are asked."""
    return sorted(errors, key=lambda each: (each.rule.priority, each.rule.name))
