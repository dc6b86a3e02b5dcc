"""What a campaign made up to a breakpoint, compared with what another made; where a rule allows, signed off by that."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from math import isfinite
from statistics import median
from typing import Final

from sqlalchemy.orm import Session

from nightmill.backbone.among import among
from nightmill.backbone.schema import JobRow
from nightmill.backbone.work import campaigns, sign_offs
from nightmill.backbone.work.products import Product, What, before, counts, products
from nightmill.backbone.work.steering import of_row
from nightmill.errors import RequestRefused
from nightmill.expressions import evaluate, parse
from nightmill.model.breakpoint import Breakpoint
from nightmill.model.campaign import Campaign
from nightmill.model.states import JobState
from nightmill.operations.sign_off import reached_breakpoints, sign_off
from nightmill.operations.site import Site

RULE: Final = "rule"
"""Who signed off what a rule did."""


@dataclass(frozen=True)
class KeyDifference:
    """How far a key of the metadata of files is from that of their counterparts.

    Parameters
    ----------
    files
        How many have it, as their counterparts do.
    file
        The one where the difference is largest.
    """

    type: str
    key: str
    files: int
    median: float
    largest: float
    file: str


@dataclass(frozen=True)
class Comparison:
    """Files beside those that another campaign made of the same units.

    Parameters
    ----------
    same
        How many are the same bytes.
    differing
        How many are not.
    missing
        How many have no counterpart.
    """

    against: str
    same: int
    differing: int
    missing: int
    keys: tuple[KeyDifference, ...]


@dataclass(frozen=True)
class Sample:
    """What was made up to a breakpoint.

    Parameters
    ----------
    waiting
        How many jobs wait at it.
    done, failed
        How the jobs stand that it lets go before it.
    holds
        Whether its rule holds; None where it has none.
    """

    breakpoint: str
    waiting: int
    done: int
    failed: int
    comparison: Comparison | None
    rule: str = ""
    holds: bool | None = None

    @property
    def counts(self) -> dict[str, int]:
        """What a rule may ask."""
        counted = {"done": self.done, "failed": self.failed}
        if (found := self.comparison) is not None:
            counted |= {"same": found.same, "differing": found.differing, "missing": found.missing}
        return counted

    @property
    def ruling(self) -> str:
        """The rule with its values."""
        return f"{self.rule} ({', '.join(f'{name} {count}' for name, count in self.counts.items())})"


@dataclass(frozen=True)
class Ruled:
    """What rules came to.

    Parameters
    ----------
    signed
        The breakpoints that they signed off.
    waits
        Why others wait for a person, in words.
    """

    signed: tuple[str, ...] = ()
    waits: tuple[str, ...] = ()


def look(site: Site, name: str, *, breakpoint: str = "", against: str = "") -> list[Sample]:
    """Return what a campaign made up to the breakpoints that it has reached.

    Parameters
    ----------
    breakpoint
        This one alone.
    against
        What it is compared with, in the place of the campaign that the breakpoint names.

    Raises
    ------
    RequestRefused
        Where it has not reached one, or would be compared with itself.
    UnknownName
        Where there is no such campaign or breakpoint.
    """
    if against == name:
        raise RequestRefused(f"campaign {name!r} would be compared with itself", remedy="name another with --against")
    with site.database.reading() as session:
        row = campaigns.campaign_named(session, name)
        campaign = Campaign.model_validate(row.definition)
        reached = reached_breakpoints(session, name, row.id, campaign, breakpoint)
        return [
            _sample(session, row.id, each, against or each.against)
            for each in campaign.breakpoints
            if each.name in reached
        ]


def sign_by_rule(site: Site, name: str) -> Ruled:
    """Sign off the breakpoints that a campaign has reached and whose rule holds.

    Whoever else signs one off at the same time, it is signed off once. What a person rejected waits for a person.
    """
    with site.database.reading() as session:
        row = campaigns.own_campaign(session, name)
        ruled = [each for each in Campaign.model_validate(row.definition).breakpoints if each.rule]
        if not ruled or of_row(row).halts:
            return Ruled()
        waiting = sign_offs.waiting(session, row.id, ruled)
        reached = [each for each in ruled if each.name in waiting and _has_ended(session, row.id, each)]
        rejected = {each.name for each in reached if sign_offs.rejected(session, row.id, each.name)}
        samples = [_sample(session, row.id, each, each.against) for each in reached if each.name not in rejected]
    signed = []
    waits = [f"breakpoint {each!r} waits for a person, as one rejected it before" for each in sorted(rejected)]
    for each in samples:
        if not each.holds:
            waits.append(f"breakpoint {each.breakpoint!r} waits for a person: its rule does not hold: {each.ruling}")
            continue
        try:
            sign_off(site, name, why=each.ruling, breakpoint=each.breakpoint, who=RULE)
            signed.append(each.breakpoint)
        except RequestRefused as refused:  # somebody was faster, or the campaign is to halt
            waits.append(str(refused))
    return Ruled(tuple(signed), tuple(waits))


def _has_ended(session: Session, campaign_id: int, breakpoint: Breakpoint) -> bool:
    """Say whether a breakpoint is reached, and nothing of its stage was taken up again since."""
    if sign_offs.unfinished_before(session, campaign_id, breakpoint):
        return False
    return not any(state in campaigns.GOING_ON for state in counts(session, before(campaign_id, breakpoint)))


def _sample(session: Session, campaign_id: int, breakpoint: Breakpoint, against: str) -> Sample:
    jobs = before(campaign_id, breakpoint)
    states = counts(session, jobs)
    found = Sample(
        breakpoint.name,
        sign_offs.waiting(session, campaign_id, [breakpoint]).get(breakpoint.name, 0),
        states.get(JobState.DONE, 0),
        states.get(JobState.FAILED, 0),
        None,
        breakpoint.rule,
    )
    if against:
        other = campaigns.campaign_named(session, against).id
        ours = products(session, jobs)
        same_units = among(JobRow.unit, {unit for unit, *_ in ours})
        of_other = (JobRow.campaign_id == other) & (JobRow.stage == breakpoint.stage) & same_units
        found = replace(found, comparison=compare(against, ours, products(session, of_other)))
    if not breakpoint.rule:
        return found
    return replace(found, holds=evaluate(parse(breakpoint.rule), {"metadata": found.counts}))


def compare(
    against: str, ours: Mapping[What, Sequence[Product]], theirs: Mapping[What, Sequence[Product]]
) -> Comparison:
    """Compare files with those of another campaign that are of the same unit, type, output and data ID."""
    same = differing = missing = 0
    differences: dict[tuple[str, str], list[tuple[float, str]]] = {}
    for what, files in ours.items():
        for file, other in _pairs(files, theirs.get(what, ())):
            if other is None:
                missing += 1
                continue
            same, differing = (same + 1, differing) if file.sha256 == other.sha256 else (same, differing + 1)
            for key in file.metadata.keys() & other.metadata.keys():
                one, another = _number(file.metadata[key]), _number(other.metadata[key])
                if one is not None and another is not None:
                    differences.setdefault((what[1], key), []).append((abs(one - another), file.name))
    keys = []
    for (type_, key), found in sorted(differences.items()):
        largest, name = max(found)
        keys.append(KeyDifference(type_, key, len(found), median([each for each, _ in found]), largest, name))
    return Comparison(against, same, differing, missing, tuple(keys))


def _pairs(files: Sequence[Product], others: Sequence[Product]) -> Iterator[tuple[Product, Product | None]]:
    """Pair files that are told apart by nothing but their steps' own names for them."""
    if len(files) == len(others) == 1:
        yield files[0], others[0]
        return
    named = {each.produced_name: each for each in others}
    for file in files:
        yield file, named.get(file.produced_name)


def _number(value: object) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float) or not isfinite(value):
        return None
    return float(value)
