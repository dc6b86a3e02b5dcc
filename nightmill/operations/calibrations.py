"""Files in the role of calibrations: added, certified, withdrawn."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy.orm import Session

from nightmill.backbone.catalogue import calibrations
from nightmill.clock import utc_now
from nightmill.errors import RequestRefused
from nightmill.files.naming import is_fit
from nightmill.model.calibration import Maturity
from nightmill.operations.acts import Act
from nightmill.operations.site import Site


@dataclass(frozen=True)
class Context:
    """Roles that are pinned under a name."""

    name: str
    sha256: str
    roles: int
    """How many."""


def add(
    site: Site,
    files: Sequence[str],
    set_name: str,
    *,
    valid_from: datetime,
    valid_until: datetime,
    maturity: Maturity,
    why: str,
    who: str | None = None,
) -> None:
    """Make files calibrations of a set; those that are in it already get the new range and maturity.

    Raises
    ------
    RequestRefused
        As :func:`nightmill.backbone.catalogue.calibrations.add`, and where ``why`` is empty.
    """
    act, now = Act.begin(site, "calib add", who=who, why=why, needs_why=True), utc_now()
    act.write(
        set_name,
        lambda session: calibrations.add(
            session,
            files,
            set_name,
            valid_from=valid_from,
            valid_until=valid_until,
            maturity=maturity,
            who=act.who,
            why=why,
            now=now,
        ),
        lambda _: {"files": list(files)},
    )


def certify(site: Site, files: Sequence[str], set_name: str, *, why: str, who: str | None = None) -> list[str]:
    """Say that calibrations of a set can be trusted; return those that were not certified before.

    Raises
    ------
    RequestRefused
        As :func:`nightmill.backbone.catalogue.calibrations.certify`, and where ``why`` is empty.
    """
    act = Act.begin(site, "calib certify", who=who, why=why, needs_why=True)
    return _change(act, calibrations.certify, files, set_name)


def withdraw(site: Site, files: Sequence[str], set_name: str, *, why: str, who: str | None = None) -> list[str]:
    """Take calibrations out of use, and keep them in the provenance of their products; return those that were in use.

    Raises
    ------
    RequestRefused
        As :func:`nightmill.backbone.catalogue.calibrations.withdraw`, and where ``why`` is empty.
    """
    act = Act.begin(site, "calib withdraw", who=who, why=why, needs_why=True)
    return _change(act, calibrations.withdraw, files, set_name)


def pin(site: Site, name: str, set_names: Sequence[str], *, why: str, who: str | None = None) -> Context:
    """Pin the roles that hold now in sets of calibrations under a name, for ever.

    Raises
    ------
    RequestRefused
        As :func:`nightmill.backbone.catalogue.calibrations.pin`, where the name is not fit, and where ``why`` is empty.
    """
    if not is_fit(name):
        raise RequestRefused(
            f"context {name!r} has a name that is not fit",
            remedy="use letters, digits and . _ + - alone, and begin with a letter or digit",
        )
    act, now = Act.begin(site, "calib pin", who=who, why=why, needs_why=True), utc_now()

    def work(session: Session) -> Context:
        row, roles = calibrations.pin(session, name, set_names, who=act.who, why=why, now=now)
        return Context(row.name, row.sha256, roles)

    return act.write(name, work, lambda context: {"sets": list(set_names), "sha256": context.sha256})


def _change(act: Act, change: Callable[..., list[str]], files: Sequence[str], set_name: str) -> list[str]:
    now = utc_now()
    return act.write(
        set_name,
        lambda session: change(session, files, set_name, who=act.who, why=act.why, now=now),
        lambda changed: {"files": changed},
    )
