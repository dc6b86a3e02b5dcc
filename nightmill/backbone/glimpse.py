"""A look at names while somebody types: it does not wait, and writes nothing, not even beside an SQLite file."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Final
from urllib.parse import quote

from nightmill.errors import DatabaseAway
from nightmill.model.secrets import resolved

SECONDS: Final = 2
"""How long a database may take, to be reached and to answer."""
MOST: Final = 200

SETS: Final = "SELECT DISTINCT set_name AS name FROM calibration"
CAMPAIGNS: Final = "SELECT name FROM campaign WHERE site_id = (SELECT id FROM site WHERE name = :site)"
STAGES: Final = """SELECT DISTINCT campaign.name || '/' || plan.stage || '/' AS name
    FROM plan JOIN campaign ON campaign.id = plan.campaign_id
    WHERE campaign.site_id = (SELECT id FROM site WHERE name = :site)"""
"""Of campaigns, those that were planned, as jobs begin: ``first/clean/``."""


def names(url: str, known: str, begin: str, *, site: str, secrets: Mapping[str, str], reader_file: Path) -> list[str]:
    """Return names that begin so, in their order, at most :data:`MOST`.

    Parameters
    ----------
    url, secrets
        Of the backbone, as :class:`nightmill.backbone.database.Database` takes them.
    known
        Which: one of the statements above.
    site
        Name of the site that asks.
    reader_file
        As :func:`nightmill.backbone.adhoc.asked` takes it.

    Raises
    ------
    DatabaseAway
        Where the database does not answer at once.
    """
    where = f"substr(name, 1, {len(begin)}) = {_quoted(begin)}"  # ad-hoc SQL takes no parameters, and may only read
    of_site = known.replace(":site", _quoted(site))
    wanted = f"SELECT name FROM ({of_site}) AS known WHERE {where} ORDER BY name LIMIT {MOST}"  # noqa: S608 - quoted
    if url.startswith("sqlite:"):
        file = resolved("database", url, secrets).removeprefix("sqlite:///")
        with _opened(Path(file)) as connection:
            return [str(name) for [name] in connection.execute(wanted)]
    from nightmill.backbone.adhoc import run_sql
    from nightmill.backbone.database import Database

    hurried = url if "connect_timeout" in url else f"{url}{'&' if '?' in url else '?'}connect_timeout={SECONDS}"
    answer = run_sql(Database(hurried, secrets=secrets), wanted, reader_file=reader_file, seconds=SECONDS)
    return [str(name) for [name] in answer.rows]


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


@contextmanager
def _opened(file: Path) -> Iterator[sqlite3.Connection]:
    """Open an SQLite file to read: as one that does not change where nobody has it open, so that nothing is made."""
    is_open = file.with_name(f"{file.name}-wal").exists()
    how = "" if is_open else "&immutable=1"
    try:
        with closing(sqlite3.connect(f"file:{quote(str(file))}?mode=ro{how}", uri=True, timeout=SECONDS)) as connection:
            yield connection
    except sqlite3.Error as error:
        raise DatabaseAway(f"the database {file} was not read: {error}") from error
