"""Which of the jobs that are being sealed wait at a breakpoint of their campaign."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping
from datetime import datetime
from hashlib import sha256
from heapq import nsmallest
from operator import itemgetter

from sqlalchemy.orm import Session

from nightmill.backbone.work.campaigns import campaign_named
from nightmill.errors import UnknownName
from nightmill.model.breakpoint import Breakpoint, Pilot
from nightmill.model.campaign import Campaign
from nightmill.model.dimensions import KeyValue
from nightmill.planning.sealed import PlannedJob


class Barrier:
    """Says of each job of a stage at which breakpoint it waits.

    Parameters
    ----------
    breakpoints
        Those of the campaign that are not signed off.
    jobs
        The jobs of the stage, where none was sealed before: a sample is of these. Those that come later are in none.
    """

    def __init__(
        self, campaign: Campaign, stage: str, breakpoints: Iterable[Breakpoint], jobs: Iterable[PlannedJob] = ()
    ) -> None:
        upstream = _upstream(campaign, stage)
        self._all: str = ""
        """The breakpoint at which all jobs of the stage wait."""
        self._sampled: Mapping[str, Collection[str]] = {}
        """Each breakpoint at which the jobs wait that are not in its sample, with that."""
        pilots = {}
        for each in breakpoints:
            if each.pilot is None and each.after in upstream:
                self._all = self._all or each.name
            elif each.pilot is not None and each.stage == stage:
                pilots[each.name] = each.pilot
        if pilots:
            self._sampled = {name: sample(pilot, jobs) for name, pilot in pilots.items()}

    def __bool__(self) -> bool:
        return bool(self._all or self._sampled)

    def holds(self, unit: str) -> str | None:
        """Return the breakpoint at which a unit waits; None where it waits at none.

        One that is not in a sample waits for that, also where the sample itself waits for a stage before it.
        """
        out_of = next((name for name, units in self._sampled.items() if unit not in units), None)
        return out_of or self._all or None


def sample(pilot: Pilot, jobs: Iterable[PlannedJob]) -> frozenset[str]:
    """Choose units of each group: the same whenever it is done, and spread as if by lot.

    Raises
    ------
    UnknownName
        Where no unit has one of the keys that make groups.
    """
    groups: defaultdict[tuple[KeyValue | None, ...], list[str]] = defaultdict(list)
    keys: set[str] = set()
    for job in jobs:
        keys.update(job.data_id)
        groups[tuple([job.data_id.get(key) for key in pilot.per])].append(job.unit)
    if groups and (unknown := set(pilot.per) - keys):
        raise UnknownName(f"key of units of stage {pilot.stage!r}", min(unknown), sorted(keys))
    lots = ([(sha256(unit.encode()).digest(), unit) for unit in units] for units in groups.values())
    return frozenset(unit for lot in lots for _, unit in nsmallest(pilot.units, lot, key=itemgetter(0)))


def unknown_campaigns(session: Session, campaign: Campaign, as_of: datetime | None) -> Iterator[str]:
    """Yield which breakpoints would be compared with a campaign that there is not, with where they are written."""
    layer = campaign.origins.get("breakpoints")
    for each in campaign.breakpoints:
        if each.against:
            try:
                campaign_named(session, each.against, as_of=as_of)
            except UnknownName as unknown:
                yield f"breakpoint {each.name!r}, {layer or 'a default'}: against: {unknown}"


def _upstream(campaign: Campaign, stage: str) -> set[str]:
    """Return every stage that a stage needs, by others too."""
    found: set[str] = set()
    left = [stage]
    while left:
        for name in campaign.pipeline.stage(left.pop()).upstream:
            if name not in found:
                found.add(name)
                left.append(name)
    return found
