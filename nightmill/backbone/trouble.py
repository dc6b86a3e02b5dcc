"""What is the matter with a database, told from what its driver says.

That it is away passes by itself; the rest wants a person: no room, no permission to write or to enter, nothing in it.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from sqlalchemy.exc import DBAPIError, OperationalError

from nightmill.errors import (
    DatabaseAway,
    DatabaseDenied,
    DatabaseFull,
    DatabaseIncomplete,
    DatabaseReadOnly,
    ServiceError,
)
from nightmill.model.secrets import masked


@dataclass(frozen=True)
class _Trouble:
    """One thing that can be the matter.

    Parameters
    ----------
    states
        PostgreSQL's codes of it.
    says
        What SQLite says of it, and PostgreSQL to those who connect, who get no code.
    """

    kind: type[ServiceError]
    states: frozenset[str]
    says: re.Pattern[str]
    what: str
    remedy: str


_TROUBLES: Final = (
    _Trouble(
        DatabaseFull,
        frozenset({"53100"}),
        re.compile("database or disk is full|No space left on device"),
        "has no room left",
        "make room on its disk, then do the same again; nothing was written, and what jobs told is kept in the spool",
    ),
    _Trouble(
        DatabaseReadOnly,
        frozenset({"25006"}),
        re.compile("readonly database|read-only transaction"),
        "cannot be written",
        "see that this user may write its file and folder and that their disk is not mounted read-only,"
        " or of a PostgreSQL with a standby name the primary; nothing was written",
    ),
    _Trouble(
        DatabaseDenied,
        frozenset({"42501", "28000", "28P01"}),
        re.compile(
            "password authentication failed|no password supplied|no pg_hba.conf entry|permission denied"
            '|authentication failed|role ".*" does not exist|not permitted to log in'
        ),
        "does not let this user do that",
        "see to the user and the password of 'database' in nightmill.yaml, and to what that user may do there",
    ),
    _Trouble(
        DatabaseIncomplete,
        frozenset({"3D000", "3F000", "42P01", "42703"}),
        re.compile(
            'no such (table|column)|has no column named|database ".*" does not exist'
            "|file is not a database|image is malformed"
        ),
        "lacks something or is damaged",
        "bring it back where it was moved away, or restore it; for a new one run 'nightmill init' in the site's folder",
    ),
)
_SQLITE_AWAY: Final = re.compile("locked|busy|unable to open|disk I/O", re.IGNORECASE)
_DEFECTS: Final = "54"
"""PostgreSQL's class of codes for a statement that asks for more than it can do."""


def safe_url(url: str) -> str:
    """Write a database URL without its secrets."""
    return masked(url)


def trouble(error: DBAPIError, url: str) -> ServiceError | None:
    """Return what a driver's error says of the database; None where the statement is to blame.

    Parameters
    ----------
    error
        As SQLAlchemy raised it.
    url
        Of the database.
    """
    said, state = str(error.orig).strip(), getattr(error.orig, "sqlstate", None)
    for each in _TROUBLES:
        if state in each.states or (state is None and each.says.search(said)):
            return each.kind(f"the database {safe_url(url)} {each.what}: {said}", remedy=each.remedy)
    if not _is_away(error, said, state):
        return None
    return DatabaseAway(
        f"the database {safe_url(url)} cannot be used now: {said}",
        remedy="try again when it is back; nothing was written",
    )


def _is_away(error: DBAPIError, said: str, state: str | None) -> bool:
    if error.connection_invalidated or _SQLITE_AWAY.search(said):
        return True
    is_sqlite = type(error.orig).__module__ == "sqlite3"
    return isinstance(error, OperationalError) and not is_sqlite and not (state or "").startswith(_DEFECTS)
