"""Files are excluded from inputs, and exclusions are lifted."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Final

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from nightmill.backbone.catalogue import exclusions as catalogue
from nightmill.backbone.catalogue.exclusions import Exclusion, NewExclusion
from nightmill.backbone.catalogue.files import files_named, selectable
from nightmill.backbone.schema import AttemptRow, CampaignRow, FileRow
from nightmill.clock import utc_now
from nightmill.errors import RequestRefused, UnknownName
from nightmill.expressions import parse
from nightmill.model.attachment import JUNK
from nightmill.model.bundle import FILE_TYPE
from nightmill.model.exclusion import PART
from nightmill.operations.acts import Act
from nightmill.operations.site import Site
from nightmill.planning.exclusions import anywhere
from nightmill.planning.since import Barred, jobs_barred

MOST_CHARACTERS: Final = 100_000
"""Of the expressions that a campaign must heed: they are one statement, and databases limit its length."""
_NOT_LISTED: Final = ("log", JUNK, FILE_TYPE)


@dataclass(frozen=True, slots=True)
class Effect:
    """What an exclusion is about, as things are now.

    Parameters
    ----------
    exclusion
        As it is on record; number 0 for one that is not.
    files
        How many files there are that it is about, by their type.
    jobs
        The jobs that are not done and read them.
    """

    exclusion: Exclusion
    files: dict[str, int]
    jobs: tuple[Barred, ...]


def rule(
    *,
    files: Sequence[str] = (),
    exposure: int | None = None,
    detector: int | None = None,
    night: int | None = None,
    where: str = "",
) -> tuple[str, str]:
    """Write what is to be excluded as an expression, and as it was typed: files that fulfil all that is given.

    Raises
    ------
    RequestRefused
        Where nothing is given.
    """
    keys = {"exposure": exposure, "detector": detector, "night": night}
    given = {key: value for key, value in keys.items() if value is not None}
    terms = [f"name in {list(dict.fromkeys(files))!r}"] if files else []
    terms += [f"{key} == {value}" for key, value in given.items()]
    typed = [*dict.fromkeys(files), *(f"--{key} {value}" for key, value in given.items())]
    if where:
        terms.append(f"({where})" if terms else where)
        typed.append(f"--where {where!r}" if typed else where)
    if not terms:
        raise RequestRefused(
            "nothing is said of what to exclude", remedy="name files, or say --exposure, --detector, --night or --where"
        )
    return " and ".join(terms), " ".join(typed)


def foresee(site: Site, new: NewExclusion, *, files: Sequence[str] = ()) -> Effect:
    """Say what an exclusion would be about; writes nothing.

    Parameters and errors are those of :func:`exclude`, but for ``why``.
    """
    with site.database.reading() as session:
        _check(site, session, new, files)
        return _effect(session, candidate(new))


def candidate(new: NewExclusion, *, who: str = "") -> Exclusion:
    """Return an exclusion that is not on record."""
    values = {name: getattr(new, name) for name in (field.name for field in fields(NewExclusion))}
    return Exclusion(**values, number=0, who=who, why="not on record yet", at=utc_now())


def exclude(site: Site, new: NewExclusion, *, why: str, files: Sequence[str] = (), who: str | None = None) -> Effect:
    """Put an exclusion on record: from now on no plan takes the files, and no job begins that reads them.

    Parameters
    ----------
    new
        What to exclude.
    files
        Names of files that its expression names: the catalogue must have them.

    Returns
    -------
    Effect
        With the number that it has; the jobs that it finds sealed are held when their turn comes.

    Raises
    ------
    ExpressionError
        Where the expression is wrong, or asks for what no file has.
    RequestRefused
        Where ``why`` is empty, the part has no fit name, it would have ended already, or too much is excluded.
    UnknownName
        Where there is no such file, file type or, of a campaign that is on record, stage.
    """
    act = Act.begin(site, "exclude add", who=who, why=why, needs_why=True)

    def work(session: Session) -> int:
        _check(site, session, new, files)
        return catalogue.exclude(session, new, who=act.who, why=why, now=utc_now())

    detail = {
        "expression": new.expression,
        "written": new.written,
        "types": list(new.types),
        "part": new.part,
        "campaign": new.campaign,
        "up_to": new.up_to,
        "ticket": new.ticket,
        "until": new.expires_at.isoformat() if new.expires_at else None,
    }
    number = act.write(new.campaign or new.written, work, lambda number: {"number": number, **detail})
    with site.database.reading() as session:
        return _effect(session, catalogue.exclusions(session, numbers=[number])[0])


def lift(site: Site, number: int, *, why: str, who: str | None = None) -> Effect:
    """Lift an exclusion: from now on plans take its files again. What it held goes on with a rerun.

    Raises
    ------
    RequestRefused
        Where ``why`` is empty, or it was lifted already.
    UnknownName
        Where there is no such exclusion.
    """
    act = Act.begin(site, "exclude lift", who=who, why=why, needs_why=True)

    def work(session: Session) -> Exclusion:
        found = catalogue.exclusions(session, numbers=[number])
        if not found:
            known = [str(each.number) for each in catalogue.exclusions(session) if each.lifted_at is None]
            raise UnknownName("exclusion", str(number), known, remedy="see 'nightmill exclude list'")
        if found[0].lifted_at is not None:
            raise RequestRefused(
                f"exclusion {number} was lifted at {found[0].lifted_at:%Y-%m-%d %H:%M} UTC by {found[0].lifted_by}:"
                f" {found[0].lifted_why}",
                remedy="leave it as it is",
            )
        catalogue.lift(session, number, who=act.who, why=why, now=utc_now())
        return catalogue.exclusions(session, numbers=[number])[0]

    lifted = act.write(str(number), work, lambda each: {"expression": each.expression, "campaign": each.campaign})
    with site.database.reading() as session:
        return _effect(session, lifted)


def exclusions(site: Site, *, campaign: str = "", everything: bool = False) -> list[Exclusion]:
    """Return the exclusions that hold, the first first.

    Parameters
    ----------
    campaign
        Only those that a campaign must heed.
    everything
        Those that do not hold any more, too.
    """
    now = utc_now()
    with site.database.reading() as session:
        found = catalogue.exclusions(session, campaign=campaign)
    return [each for each in found if everything or each.holds(now)]


def _check(site: Site, session: Session, new: NewExclusion, files: Sequence[str]) -> None:
    """Refuse an exclusion that says what is not there."""
    parse(new.expression, metadata_keys=site.config.keys)
    files_named(session, files)
    for type_ in new.types:
        if type_ not in site.config.file_types:
            raise UnknownName("file type", type_, sorted(site.config.file_types))
    if not re.fullmatch(PART, new.part):
        raise RequestRefused(
            f"--part {new.part!r} cannot name a part of a file",
            remedy="write the name or number of one HDU or amplifier: letters, digits and _ . : + ( ) [ ] / - alone",
        )
    if new.up_to and files:
        raise RequestRefused(
            "--up-to is for units, whose products have other names than their files",
            remedy="say which by --exposure, --detector, --night or --where",
        )
    held = sum(len(each.expression) for each in catalogue.in_force(session, new.campaign))
    if held + len(new.expression) > MOST_CHARACTERS:
        raise RequestRefused(
            f"the expressions of exclusions that hold would have more than {MOST_CHARACTERS:,} characters together",
            remedy="join some in one, as --where 'exposure in [12, 13]', and lift those",
        )
    if new.expires_at is not None and new.expires_at <= utc_now():
        raise RequestRefused(f"--until {new.expires_at:%Y-%m-%d %H:%M} UTC is over", remedy="give a time to come")
    definition = session.scalar(select(CampaignRow.definition).where(CampaignRow.name == new.campaign))
    if new.up_to and definition is not None:
        stages = [each["name"] for each in definition["pipeline"]["stages"]]
        if new.up_to not in stages:
            raise UnknownName(f"stage of campaign {new.campaign!r}", new.up_to, stages)


def _effect(session: Session, exclusion: Exclusion) -> Effect:
    query = (
        select(FileRow.type, func.count())
        .outerjoin(AttemptRow, FileRow.attempt_id == AttemptRow.id)
        .where(selectable(), FileRow.type.not_in(_NOT_LISTED), anywhere(exclusion).condition())
        .group_by(FileRow.type)
        .order_by(FileRow.type)
    )
    files = {type_: count for type_, count in session.execute(query)}
    return Effect(exclusion, files, tuple(jobs_barred(session, exclusion)))
