"""The software of a site: what is known, what is new, who uses what, and in what two stacks differ."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from string import hexdigits
from typing import Final

from sqlalchemy.orm import Session

from nightmill.backbone.audit import last_of_each
from nightmill.backbone.catalogue import software as catalogue
from nightmill.backbone.catalogue.files import known_files, near_names
from nightmill.backbone.catalogue.software import KnownStack, Use, Verdict
from nightmill.backbone.work.campaigns import campaign_named
from nightmill.clock import utc_now
from nightmill.errors import RequestRefused, UnknownName
from nightmill.execution.owner import host_name
from nightmill.model.base import grouped
from nightmill.model.node import NewSoftware, NodeProfile, SoftwarePolicy
from nightmill.model.software import Acceptance, Change, changes
from nightmill.operations.acts import Act, current_user
from nightmill.operations.site import Site
from provenance.history import Execution, job_history, maker_of

LOOK: Final = "software"
"""The act that notes what a site does with new software."""
LEAST_DIGITS: Final = 6
"""By so many digits of its digest a stack may be named."""


def profile_for(site: Site) -> NodeProfile:
    """Return what a worker may use that carries out the jobs of a slice: it knows what software is new."""
    return site.profile.model_copy(update={"software": site.patiently(lambda: policy_of(site))})


def policy_of(site: Site) -> SoftwarePolicy:
    """Return what becomes of steps whose software is new, with what is not new by now.

    Where the site has begun to look at it since the last time, whatever its steps ran with so far is known.
    """
    new = site.config.software.new
    with site.database.reading() as session:
        if _last(session) == new:
            return SoftwarePolicy() if new is NewSoftware.ALLOW else _policy(session, new)
    site.database.write(partial(_note, site=site, new=new))
    with site.database.reading() as session:
        return _policy(session, new)


def _policy(session: Session, new: NewSoftware) -> SoftwarePolicy:
    known = sorted(digest for digest, is_known in catalogue.standing(session).items() if is_known)
    return SoftwarePolicy(new=new, known=tuple(known))


def _last(session: Session) -> str:
    """Return what a site did with new software when it was last noted."""
    noted = last_of_each(session, LOOK)
    return str(noted[LOOK].detail["new"]) if LOOK in noted else NewSoftware.ALLOW.value


def _note(session: Session, site: Site, new: NewSoftware) -> None:
    before = _last(session)
    if before == new:
        return
    act = Act(site.database, LOOK, current_user())
    found = 0
    if before == NewSoftware.ALLOW:
        why = f"used before software.new was {new}"
        found = catalogue.accept_used(session, who=act.who, why=why, host=host_name(), now=utc_now())
    act.note(session, LOOK, {"new": new.value, "used": found})


def accept(site: Site, name: str, *, why: str, who: str | None = None) -> KnownStack:
    """Accept a stack without a regression: steps may run with it from now on.

    Parameters
    ----------
    name
        The first digits of its digest.

    Raises
    ------
    RequestRefused
        Where ``why`` is empty, the user may not change the site, or the digits are those of several stacks.
    UnknownName
        Where there is no such stack.
    """
    act = Act.begin(site, "regress", who=who, why=why, needs_why=True)

    def work(session: Session) -> KnownStack:
        stack = stack_named(session, name)
        verdict = Verdict(stack.id, None, Acceptance.ACCEPTED, True, (), host_name(), act.who, why, utc_now())
        catalogue.add_verdicts(session, [verdict])
        return stack

    return act.write(name, work, lambda stack: {"accepted": stack.bare_sha256})


def stack_named(session: Session, name: str) -> KnownStack:
    """Return the stack whose digest begins so; of several with the same software and other bundles the last.

    Raises
    ------
    RequestRefused
        Where these are too few digits, or begin the digests of several.
    UnknownName
        Where there is none.
    """
    begin = name.lower().removeprefix("sha256:")
    if len(begin) < LEAST_DIGITS:
        raise RequestRefused(
            f"{name!r} is too short for a digest", remedy=f"give {LEAST_DIGITS} digits: see 'nightmill ops software'"
        )
    found = catalogue.stacks_like(session, begin)
    if not found:
        raise UnknownName("software", name, (), remedy="see 'nightmill ops software'")
    if len({each.bare_sha256 for each in found}) > 1:
        told = ", ".join(sorted({each.bare_sha256[:16] for each in found}))
        raise RequestRefused(f"{name!r} begins the digests of several stacks: {told}", remedy="give more digits")
    return next((each for each in found if each.sha256.startswith(begin)), found[-1])


# ------------------------------------------------------------------------------- what is on record


@dataclass(frozen=True)
class StackInUse:
    """A stack, whatever the bundle, and what steps ran with it.

    Parameters
    ----------
    is_known
        Whether the site knows it; None where it has not judged it.
    odd_hosts
        Hosts to how they differ, in words, from most others that ran the same step of a campaign.
    """

    stack: KnownStack
    is_known: bool | None
    executions: int
    hosts: Sequence[str]
    campaigns: Sequence[str]
    first_at: datetime
    last_at: datetime
    odd_hosts: Mapping[str, str]


def in_use(site: Site, campaign: str = "") -> list[StackInUse]:
    """Return the stacks that steps of the site ran with, the first used first.

    Parameters
    ----------
    campaign
        Of this one alone.

    Raises
    ------
    UnknownName
        Where there is no such campaign.
    """
    with site.database.reading() as session:
        if campaign:
            campaign_named(session, campaign)
        found = list(catalogue.uses(session, campaign))
        stacks = catalogue.stacks_by_id(session, {use.software_id for use in found})
        standing = catalogue.standing(session)
    odd = _odd(found, stacks)
    of_each = grouped((stacks[use.software_id].bare_sha256, use) for use in found)
    return [
        StackInUse(
            stack=stacks[theirs[0].software_id],
            is_known=standing.get(digest),
            executions=sum(use.executions for use in theirs),
            hosts=sorted({use.host for use in theirs}),
            campaigns=sorted({use.campaign for use in theirs}),
            first_at=min(use.first_at for use in theirs),
            last_at=max(use.last_at for use in theirs),
            odd_hosts=odd.get(digest, {}),
        )
        for digest, theirs in of_each.items()
    ]


def new_in_use(site: Site) -> list[StackInUse]:
    """Return the stacks that steps of the site ran with and that it does not know."""
    return [each for each in in_use(site) if not each.is_known]


def _odd(found: Sequence[Use], stacks: Mapping[int, KnownStack]) -> Mapping[str, Mapping[str, str]]:
    """Return by digest the hosts that ran a step of a campaign with another stack than most executions had."""
    counts: defaultdict[tuple[str, str], Counter[str]] = defaultdict(Counter)
    one_of = {stack.bare_sha256: stack for stack in stacks.values()}
    for use in found:
        counts[use.campaign, use.step][stacks[use.software_id].bare_sha256] += use.executions
    usual = {of: counted.most_common(1)[0][0] for of, counted in counts.items()}
    with_usual = {(use.campaign, use.step, use.host) for use in found if _is_usual(use, usual, stacks)}
    odd: dict[str, dict[str, str]] = {}
    for use in found:
        own, most = stacks[use.software_id].bare_sha256, usual[use.campaign, use.step]
        if own != most and (use.campaign, use.step, use.host) not in with_usual:  # or it was updated in between
            sections = dict.fromkeys(change.section for change in changes(one_of[most].stack, one_of[own].stack))
            sections.pop("bundle", None)
            odd.setdefault(own, {})[use.host] = ", ".join(sections)
    return odd


def _is_usual(use: Use, usual: Mapping[tuple[str, str], str], stacks: Mapping[int, KnownStack]) -> bool:
    return stacks[use.software_id].bare_sha256 == usual[use.campaign, use.step]


# ------------------------------------------------------------------------------------- comparison


@dataclass(frozen=True)
class Side:
    """One of two things whose software is compared.

    Parameters
    ----------
    what
        What it is, in words.
    steps
        Its stacks by the step that ran with them; by an empty name where it is a stack itself.
    """

    what: str
    steps: Mapping[str, KnownStack]


@dataclass(frozen=True)
class StepComparison:
    """The software of a step, beside that of another.

    Parameters
    ----------
    step
        Of both; empty where stacks are compared.
    before, after
        None where there is no such step.
    """

    step: str
    before: KnownStack | None
    after: KnownStack | None
    changes: Sequence[Change]

    @property
    def same(self) -> bool:
        """Whether nothing differs."""
        return self.before is not None and self.after is not None and not self.changes


def side_of(session: Session, name: str, job: tuple[str, str, str] | None, number: int | None = None) -> Side:
    """Return the software of what a name stands for.

    Parameters
    ----------
    name
        A file, or the first digits of the digest of a stack.
    job
        Campaign, stage and unit, where the name is that of a job.
    number
        Of its attempt.

    Raises
    ------
    UnknownName
        Where there is no such thing.
    RequestRefused
        Where nothing is known of its software, or the digits are those of several stacks.
    """
    if job is not None:
        history = job_history(session, *job, number=number)
        attempt = f"/a{history.shown.number:02d}" if history.shown is not None else ""
        return Side(f"{'/'.join(job)}{attempt}", _steps(session, name, history.executions))
    if (file := known_files(session, [name]).get(name)) is not None:
        maker = maker_of(session, file.id)
        made = [maker.execution] if maker is not None else []
        return Side(
            f"{name}, made by {maker.attempt_name} {made[0].step}" if maker else name, _steps(session, name, made)
        )
    if set(name.lower().removeprefix("sha256:")) - set(hexdigits):
        remedy = "name CAMPAIGN/STAGE/UNIT, a file, or digits that 'nightmill ops software' shows"
        raise UnknownName("job, file or software", name, near_names(session, name), remedy=remedy)
    stack = stack_named(session, name)
    return Side(f"software {stack.sha256[:12]}", {"": stack})


def _steps(session: Session, name: str, executions: Sequence[Execution]) -> Mapping[str, KnownStack]:
    steps = {
        each.step: next(iter(catalogue.stacks_like(session, each.software_sha256)))
        for each in executions
        if each.software_sha256
    }
    if not steps:
        raise RequestRefused(
            f"nothing is on record of the software of {name}", remedy="name a job that ran, or a file that one made"
        )
    return steps


def compare_software(before: Side, after: Side) -> list[StepComparison]:
    """Compare the software of two things step by step; a stack is compared with each one that the other has."""
    if "" in before.steps or "" in after.steps:
        pairs: Iterator[tuple[str, KnownStack | None, KnownStack | None]] = (
            (one or other, old, new) for one, old in _distinct(before) for other, new in _distinct(after)
        )
    else:
        names = dict.fromkeys([*before.steps, *after.steps])
        pairs = ((name, before.steps.get(name), after.steps.get(name)) for name in names)
    return [
        StepComparison(
            step, old, new, tuple(changes(old.stack, new.stack)) if old is not None and new is not None else ()
        )
        for step, old, new in pairs
    ]


def _distinct(side: Side) -> list[tuple[str, KnownStack]]:
    """Return the stacks of a side, each once, with the first step that has it."""
    found: dict[str, tuple[str, KnownStack]] = {}
    for step, stack in side.steps.items():
        found.setdefault(stack.sha256, (step, stack))
    return list(found.values())
