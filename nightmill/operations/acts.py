"""Acts of operators: who may, one transaction, and a row that says who did what to what, and why."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pwd import getpwuid
from typing import Any, Self, TypeVar

from sqlalchemy.orm import Session

from nightmill.backbone.audit import record_act
from nightmill.backbone.database import Database
from nightmill.clock import utc_now
from nightmill.command import COMMAND
from nightmill.config.site import SiteConfig
from nightmill.errors import RequestRefused
from nightmill.operations.site import Site

Result = TypeVar("Result")


@dataclass(frozen=True)
class Act:
    """An act that somebody may do.

    Parameters
    ----------
    verb
        The command, as it is typed: ``calib certify``.
    who
        The operator.
    why
        In the operator's words.
    """

    database: Database
    verb: str
    who: str
    why: str = ""

    @classmethod
    def begin(cls, site: Site, verb: str, *, who: str | None = None, why: str = "", needs_why: bool = False) -> Self:
        """Begin an act.

        Parameters
        ----------
        who
            In whose name, where that was judged before; by default that of the user whose process this is, where they
            may do what changes the site.

        Raises
        ------
        RequestRefused
            Where the site names its operators, and they are none of them; or ``why`` is needed and empty.
        """
        who = operator(site.config, verb) if who is None else who
        if needs_why and not why.strip():
            raise RequestRefused("--why is empty", remedy="say why, in words: it is kept with the act")
        return cls(site.database, verb, who, why)

    def write(
        self,
        subject: str,
        work: Callable[[Session], Result],
        detail: Callable[[Result], Mapping[str, Any]] = lambda _: {},
    ) -> Result:
        """Do the work of the act and put it on record, in one transaction; return what the work returns.

        Parameters
        ----------
        subject
            What it is done to: a campaign, a set, a file.
        work
            Called again where another process was writing.
        detail
            Whatever more is worth keeping, made of what the work returned; JSON.
        """

        def both(session: Session) -> Result:
            done = work(session)
            self.note(session, subject, detail(done))
            return done

        return self.database.write(both)

    def note(self, session: Session, subject: str, detail: Mapping[str, Any] | None = None) -> None:
        """Put the act on record with the command that asked for it, in a transaction of its own work."""
        kept = dict(detail or {}) | ({"command": list(command)} if (command := COMMAND.get()) else {})
        record_act(session, who=self.who, verb=self.verb, subject=subject, why=self.why, detail=kept, now=utc_now())


def operator(config: SiteConfig, verb: str) -> str:
    """Return the user whose process this is, where they may do what changes the site.

    Raises
    ------
    RequestRefused
        Where the site names its operators, and they are none of them.
    """
    user, operators = current_user(), config.operators
    if operators and user not in operators:
        raise RequestRefused(
            f"'nightmill {verb}' is for the operators of site {config.name!r}, and {user!r} is none of them",
            remedy="'operators' in nightmill.yaml names them",
        )
    return user


def current_user() -> str:
    """Return the user whose process this is: what the operating system says, and not the environment."""
    try:
        return getpwuid(os.getuid()).pw_name
    except KeyError:
        return str(os.getuid())
