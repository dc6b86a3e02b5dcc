"""Files in the role of calibrations: added, certified, withdrawn."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime

from nightmill.backbone.catalogue import calibrations
from nightmill.clock import utc_now
from nightmill.model.calibration import Maturity
from nightmill.operations.acts import Act
from nightmill.operations.site import Site


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


def _change(act: Act, change: Callable[..., list[str]], files: Sequence[str], set_name: str) -> list[str]:
    now = utc_now()
    return act.write(
        set_name,
        lambda session: change(session, files, set_name, who=act.who, why=act.why, now=now),
        lambda changed: {"files": changed},
    )
