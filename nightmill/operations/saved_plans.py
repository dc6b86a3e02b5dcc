"""Plans are kept as they were seen, and submitted as they were seen or not at all.

The lines of a plan lie in the spool, named by its digest, with all that its row says: a database that was brought back
from an older backup is told of what it forgot before it gives a number to a campaign.
"""

from __future__ import annotations

import gzip
import os
import zlib
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any, Final

from sqlalchemy.orm import Session

from nightmill.backbone.schema import SavedPlanRow
from nightmill.backbone.work import campaigns, saved_plans
from nightmill.clock import utc_now
from nightmill.errors import PlanDiffers, RequestRefused
from nightmill.execution.journal import SpoolAway
from nightmill.model.base import Frozen
from nightmill.model.campaign import Campaign
from nightmill.operations import memory
from nightmill.operations.acts import Act
from nightmill.operations.preview import preview
from nightmill.operations.site import Site
from nightmill.planning.compare import compare
from nightmill.planning.digest import PlanLines, sealed_first, text_of
from nightmill.planning.planned import CampaignPlan

FOLDER: Final = "plans"
"""Of the spool."""
MOST_TOLD: Final = 20
"""Differences that a refusal lists."""


class SavedPlan(Frozen):
    """A plan that was kept: what its row says, and the first line of its file."""

    digest: str
    campaign: str
    number: int
    definition: Mapping[str, Any]
    at: datetime
    who: str

    def __str__(self) -> str:
        return f"as {self.who} saved it on {self.at:%Y-%m-%d %H:%M} UTC"

    def load(self) -> Campaign:
        """Return the campaign."""
        return Campaign.model_validate(self.definition)


@dataclass(frozen=True)
class KeptPlan:
    """A saved plan, and what became of it.

    Parameters
    ----------
    submitted
        Whether its campaign is on record with its number.
    size_bytes
        Of its lines in the spool; None where they are missing.
    """

    saved: SavedPlan
    submitted: bool
    size_bytes: int | None


def save(site: Site, campaign: Campaign, *, who: str | None = None) -> tuple[CampaignPlan, PlanLines]:
    """Plan a campaign and keep the plan; the number that stands in its names is its own from now on.

    The same plan saved again changes nothing.

    Parameters
    ----------
    who
        See :meth:`~nightmill.operations.acts.Act.begin`.

    Raises
    ------
    PlanRefused
        Where it cannot be planned.
    RequestRefused
        Where the campaign is on record already, the folder of its pipeline cannot be packed, or the database was
        brought back from an older backup.
    SpoolAway
        Where the spool cannot keep it.
    """
    act = Act.begin(site, "plan --save", who=who)
    memory.require_current(site)
    bring_back(site)
    while True:
        plan = preview(site, campaign)
        plan.require()
        text = text_of(plan)
        saved = SavedPlan(
            digest=text.digest,
            campaign=campaign.name,
            number=plan.number,
            definition=campaign.model_dump(mode="json"),
            at=utc_now(),
            who=act.who,
        )
        is_new = _keep(site.config.spool, saved, text)
        try:
            if site.database.write(partial(_save, act=act, saved=saved, is_new=is_new)):
                return plan, text
        except RequestRefused:
            _forget(site.config.spool, saved, is_new)
            raise
        _forget(site.config.spool, saved, is_new)


def find(site: Site, prefix: str) -> SavedPlan:
    """Return a saved plan by its digest, or the beginning of that.

    Raises
    ------
    UnknownName
        Where there is none.
    RequestRefused
        Where several begin so.
    """
    bring_back(site)
    with site.database.reading() as session:
        return _of(saved_plans.saved_plan(session, prefix.lower()))


def kept(site: Site) -> list[KeptPlan]:
    """Return the saved plans, the newest first."""
    bring_back(site)
    with site.database.reading() as session:
        found = [(_of(row), submitted) for row, submitted in saved_plans.saved_plans(session)]
    return [KeptPlan(saved, submitted, _size_bytes(site.config.spool, saved)) for saved, submitted in found]


def remove(site: Site, prefix: str, *, who: str | None = None, why: str = "") -> KeptPlan:
    """Remove a saved plan, by its digest or the beginning of that, and return what it was.

    Its lines go first: with them it would come back. A campaign that was submitted of it stays as it is. Where none
    was, its number may be given to another campaign.

    Parameters
    ----------
    who
        See :meth:`~nightmill.operations.acts.Act.begin`.
    why
        In the operator's words.

    Raises
    ------
    UnknownName
        Where there is none.
    RequestRefused
        Where several begin so.
    SpoolAway
        Where its lines cannot be removed; nothing was done.
    """
    act = Act.begin(site, "plans remove", who=who, why=why)
    digest = find(site, prefix).digest
    [removed] = [each for each in kept(site) if each.saved.digest == digest]
    saved = removed.saved
    try:
        _path(site.config.spool, saved.digest).unlink(missing_ok=True)
    except OSError as error:
        raise SpoolAway(
            f"the lines of saved plan {shown(saved.digest)} cannot be removed: {error.filename}: {error.strerror}",
            remedy="mend the disk of the spool, or see who may write there; nothing was removed",
        ) from error
    act.write(
        saved.campaign,
        lambda session: saved_plans.remove(session, saved.digest),
        lambda _: {"digest": saved.digest, "number": saved.number},
    )
    return removed


def bring_back(site: Site) -> None:
    """Put on record the saved plans that the database does not know: it may be older than the spool."""
    paths = {path.stem: path for path in (site.config.spool / FOLDER).glob("*.gz")}
    if not paths:
        return
    with site.database.reading() as session:
        lost = saved_plans.unknown(session, paths)
    for digest in sorted(lost):
        try:
            saved = SavedPlan.model_validate_json(next(_lines(paths[digest]), b""))
        except ValueError as error:
            raise _damaged(paths[digest], "its first line does not say what was saved") from error
        site.database.write(partial(_again, saved=saved))


def saved_text(site: Site, saved: SavedPlan) -> PlanLines:
    """Return the lines of a saved plan.

    Raises
    ------
    RequestRefused
        Where they are not in the spool, or damaged.
    """
    path = _path(site.config.spool, saved.digest)
    if not path.exists():
        raise RequestRefused(
            f"the lines of saved plan {shown(saved.digest)} are not in the spool: {path} is missing",
            remedy="compare where it was saved, or save the plan as it is now",
        )
    try:
        text = PlanLines.read(islice(_lines(path), 1, None), str(saved))
    except ValueError as error:
        raise _damaged(path, "its lines are not those of a plan") from error
    if text.digest != saved.digest:
        raise _damaged(path, "its lines have another digest")
    return text


def require_same(site: Site, plan: CampaignPlan, saved: SavedPlan) -> None:
    """Make sure that a plan is the one that was saved.

    Raises
    ------
    PlanDiffers
        Where it is not; lists what differs.
    """
    text = text_of(plan)
    if text.digest != saved.digest:
        differences = compare(saved_text(site, saved), text).sentences(MOST_TOLD)
        raise PlanDiffers(saved.campaign, shown(saved.digest), differences)


def require_sealed(site: Site, saved: SavedPlan) -> None:
    """Make sure that a campaign which is on record was sealed as a plan that was saved.

    Raises
    ------
    PlanDiffers
        Where it was not.
    """
    stages = saved_text(site, saved).stages
    with site.database.reading() as session:
        row = campaigns.campaign_named(session, saved.campaign)
        sealed = sealed_first(session, row.id)
    other = [
        f"stage {name} was sealed otherwise"
        for name, stage in stages.items()
        if stage.places and not stage.head.projected and sealed.get(name) != stage.digest
    ]
    if row.id != saved.number or other:
        told = f"it was submitted on {row.submitted_at:%Y-%m-%d %H:%M} UTC by {row.submitted_by}, of another plan"
        raise PlanDiffers(saved.campaign, shown(saved.digest), [told, *other])


def shown(digest: str) -> str:
    """Return as much of a digest as people are shown."""
    return digest[: saved_plans.SHOWN]


def _save(session: Session, *, act: Act, saved: SavedPlan, is_new: bool) -> bool:
    """Write the row; return whether the number of the plan is still the campaign's."""
    saved_plans.lock_numbers(session)
    if campaigns.exists(session, saved.campaign):
        raise RequestRefused(
            f"campaign {saved.campaign!r} is on record already: its plan is sealed",
            remedy=f"'nightmill plan CAMPAIGN.yaml --against {saved.campaign}' compares with it",
        )
    if saved_plans.number_of(session, saved.campaign) != saved.number:
        return False
    if saved_plans.save(session, _row(saved)) or is_new:
        act.note(session, saved.campaign, {"digest": saved.digest, "number": saved.number})
    return True


def _again(session: Session, *, saved: SavedPlan) -> None:
    saved_plans.lock_numbers(session)
    saved_plans.save(session, _row(saved))


def _of(row: SavedPlanRow) -> SavedPlan:
    return SavedPlan(
        digest=row.sha256, campaign=row.campaign, number=row.number, definition=row.definition, at=row.at, who=row.who
    )


def _row(saved: SavedPlan) -> SavedPlanRow:
    values = saved.model_dump(exclude={"digest"})
    return SavedPlanRow(sha256=saved.digest, **values)


def _path(spool: Path, digest: str) -> Path:
    return spool / FOLDER / f"{digest}.gz"


def _size_bytes(spool: Path, saved: SavedPlan) -> int | None:
    with suppress(FileNotFoundError):
        return _path(spool, saved.digest).stat().st_size
    return None


def _keep(spool: Path, saved: SavedPlan, text: PlanLines) -> bool:
    """Write the file of a plan, durable; return whether it was not there."""
    path = _path(spool, saved.digest)
    if path.exists():
        return False
    temporary = path.with_name(f"{path.name}.{os.getpid()}.new")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with temporary.open("wb") as file:
            with gzip.GzipFile("", "wb", 6, file, mtime=0) as packed:
                packed.write(saved.model_dump_json().encode() + b"\n")
                for line in text.lines():
                    packed.write(line)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise SpoolAway(
            f"the spool cannot keep the plan: {error.filename or path}: {error.strerror}",
            remedy="make room in it, mend its disk, or see who may write there; nothing was saved",
        ) from error
    return True


def _forget(spool: Path, saved: SavedPlan, is_new: bool) -> None:
    if is_new:
        _path(spool, saved.digest).unlink(missing_ok=True)


def _lines(path: Path) -> Iterator[bytes]:
    try:
        with gzip.open(path) as file:
            yield from file
    except (EOFError, OSError, zlib.error) as error:
        raise _damaged(path, str(error)) from error


def _damaged(path: Path, why: str) -> RequestRefused:
    return RequestRefused(
        f"{path} is damaged: {why}", remedy="bring it back, or remove it and save the plan as it is now"
    )
