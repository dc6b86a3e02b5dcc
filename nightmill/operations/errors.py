"""A site learns errors by name: rules are added, tried on what failed before, and switched on and off."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial

from sqlalchemy import select
from sqlalchemy.orm import Session, aliased

from nightmill.backbone.catalogue import error_rules as catalogue
from nightmill.backbone.catalogue.error_rules import KnownError
from nightmill.backbone.schema import (
    AttemptRow,
    CampaignRow,
    ErrorRuleRow,
    ExecutionRow,
    FileRow,
    JobRow,
    ReplicaRow,
    StoreRow,
)
from nightmill.backbone.sites import is_here
from nightmill.backbone.work.ownership import is_own
from nightmill.clock import utc_now
from nightmill.config.rules import LOG
from nightmill.errors import RequestRefused, UnknownName
from nightmill.model.error_rule import ErrorRule
from nightmill.model.fate import Fate
from nightmill.model.order import AttemptKey
from nightmill.model.states import AttemptState
from nightmill.operations.acts import Act
from nightmill.operations.failures import Failure, Recogniser, log_of
from nightmill.operations.site import Site

ENDED_BADLY = [state.value for state in AttemptState if state.ended and state is not AttemptState.PUBLISHED]


@dataclass(frozen=True, slots=True)
class PastFailure:
    """An attempt that failed, with the name that its error has on record, if any."""

    attempt: AttemptKey
    failure: Failure
    error: str


@dataclass(frozen=True, slots=True)
class Named:
    """A failure that a rule would have named.

    Parameters
    ----------
    error
        The name that it has on record; empty where it has none.
    by_others
        The name that the rules that hold would give it without the rule; empty where they would give none.
    """

    attempt: AttemptKey
    fate: Fate
    step: str
    error: str
    by_others: str


@dataclass(frozen=True, slots=True)
class Trial:
    """What a rule would have named, of so many failures that were looked at."""

    rule: ErrorRule
    looked_at: int
    named: Sequence[Named]


def add(site: Site, rules: Sequence[ErrorRule], *, why: str, who: str | None = None) -> list[KnownError]:
    """Put rules on record, each as the next version of its name; none of them holds before it is switched on.

    One that is the same as the newest version of its name stays that.

    Raises
    ------
    RequestRefused
        Where ``why`` is empty, or the user may not change the site.
    """
    act = Act.begin(site, "errors add", who=who, why=why, needs_why=True)

    def work(session: Session) -> list[KnownError]:
        versions = [catalogue.add_rule(session, rule, who=act.who, why=why, now=utc_now()) for rule in rules]
        return [_found(session, rule.name, version) for rule, version in zip(rules, versions, strict=True)]

    def detail(added: Sequence[KnownError]) -> Mapping[str, object]:
        return {"rules": [{**each.rule.model_dump(mode="json", exclude_defaults=True)} for each in added]}

    return act.write(", ".join(rule.name for rule in rules), work, detail)


def switch(
    site: Site, name: str, *, is_on: bool, why: str, version: int | None = None, who: str | None = None
) -> KnownError:
    """Switch a rule on or off: from now on failures are named by it, or are not.

    Parameters
    ----------
    version
        To switch on; by default the newest. It takes the place of any other.

    Raises
    ------
    RequestRefused
        Where ``why`` is empty, or the rule is as it should be already.
    UnknownName
        Where there is no such rule.
    """
    act = Act.begin(site, f"errors {'on' if is_on else 'off'}", who=who, why=why, needs_why=True)

    def work(session: Session) -> KnownError:
        if is_on:
            rule = _found(session, name, version)
        else:
            rule = next((each for each in _versions(session, name) if each.is_on), _found(session, name, None))
        if rule.is_on is is_on:
            raise RequestRefused(f"error {rule} is {'on' if is_on else 'off'} already", remedy="leave it as it is")
        catalogue.switch(session, rule.id, is_on=is_on, who=act.who, why=why, now=utc_now())
        return replace(rule, is_on=is_on)

    return act.write(name, work, lambda rule: {"version": rule.version})


def errors(site: Site, *, everything: bool = False) -> list[KnownError]:
    """Return the rules of the site by name: of each the newest version, and the one that holds.

    Parameters
    ----------
    everything
        Every version.
    """
    with site.database.reading() as session:
        found = catalogue.known_errors(session)
    newest = {each.rule.name: each.version for each in found}
    return [each for each in found if everything or each.is_on or each.version == newest[each.rule.name]]


def newest(site: Site, name: str) -> ErrorRule:
    """Return the newest version of a rule that is on record.

    Raises
    ------
    UnknownName
        Where there is no such rule.
    """
    with site.database.reading() as session:
        return _found(session, name, None).rule


def trial(site: Site, rules: Sequence[ErrorRule], *, latest: int, campaign: str = "") -> list[Trial]:
    """Say what rules would have named of the attempts that failed before; writes nothing.

    Parameters
    ----------
    latest
        So many of the last failures are looked at.
    campaign
        Of this campaign alone.
    """
    with site.database.reading() as session:
        past = list(_past(site, session, latest, campaign))
        holding = catalogue.in_force(session)
    trials = []
    for rule in rules:
        recognise = Recogniser([KnownError(0, 0, rule, "", "", utc_now(), is_on=False)])
        others = Recogniser([each for each in holding if each.rule.name != rule.name])
        named = []
        for each in past:
            if recognise(each.failure):
                other = others(each.failure)
                failure = each.failure
                by_others = other.rule.name if other else ""
                named.append(Named(each.attempt, failure.fate, failure.step, each.error, by_others))
        trials.append(Trial(rule, len(past), named))
    return trials


def _past(site: Site, session: Session, latest: int, campaign: str) -> Iterator[PastFailure]:
    """Yield the last failures of the site, the last first, with what their logs are read of."""
    log, copy = aliased(FileRow), aliased(ReplicaRow)
    here = select(StoreRow.id).where(is_here(session))
    query = (
        select(
            CampaignRow.name, JobRow.stage, JobRow.unit, AttemptRow.number, AttemptRow.fate, AttemptRow.failed_step,
            AttemptRow.evidence, ErrorRuleRow.name, ExecutionRow.exit_code, log.size_bytes, copy.path, StoreRow.name,
        )
        .join(JobRow, JobRow.id == AttemptRow.job_id)
        .join(CampaignRow, CampaignRow.id == JobRow.campaign_id)
        .outerjoin(ErrorRuleRow, ErrorRuleRow.id == AttemptRow.error_id)
        .outerjoin(
            ExecutionRow, (ExecutionRow.attempt_id == AttemptRow.id) & (ExecutionRow.step == AttemptRow.failed_step)
        )
        .outerjoin(log, (log.attempt_id == AttemptRow.id) & (log.type == LOG))
        .outerjoin(copy, (copy.file_id == log.id) & copy.store_id.in_(here))
        .outerjoin(StoreRow, StoreRow.id == copy.store_id)
        .where(is_own(session), AttemptRow.state.in_(ENDED_BADLY), AttemptRow.fate.is_not(None))
        .order_by(AttemptRow.id.desc())
        .limit(latest)
    )  # fmt: skip
    if campaign:
        query = query.where(CampaignRow.name == campaign)
    for name, stage, unit, number, fate, step, evidence, error, code, size_bytes, path, store in session.execute(query):
        attempt = AttemptKey(campaign=name, stage=stage, unit=unit, number=number)
        read_log = partial(log_of, site.stagers.get(store), path, size_bytes) if store else str
        yield PastFailure(attempt, Failure(stage, step or "", Fate(fate), code, evidence or "", read_log), error or "")


def _versions(session: Session, name: str) -> list[KnownError]:
    found = catalogue.known_errors(session, name=name)
    if not found:
        known = sorted({each.rule.name for each in catalogue.known_errors(session)})
        raise UnknownName("error", name, known, remedy="see 'nightmill errors list'")
    return found


def _found(session: Session, name: str, version: int | None) -> KnownError:
    """Return a version of a rule, by default the newest."""
    versions = _versions(session, name)
    found = next((each for each in versions if each.version == version), None) if version else versions[-1]
    if found is None:
        raise RequestRefused(
            f"error {name!r} has the versions 1 to {versions[-1].version}, and none is {version}",
            remedy="see 'nightmill errors list --all'",
        )
    return found
