"""A site for notebooks and programs: what the commands do, with tables of astropy as answers.

>>> import nightmill
>>> site = nightmill.open_site("mysite")
>>> site.find(type="raw_science", where="night == 20260110")["name", "exposure"]
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal, Self

import numpy as np
from astropy.table import MaskedColumn, Table

from nightmill.backbone.adhoc import run_sql
from nightmill.backbone.catalogue.files import data_id
from nightmill.backbone.work.campaigns import campaign_named, campaigns, progress_of
from nightmill.config.campaign import load_campaign
from nightmill.model.campaign import Campaign
from nightmill.model.dimensions import DIMENSIONS
from nightmill.model.origin import Origin
from nightmill.model.states import JobState
from nightmill.operations import site as sites
from nightmill.operations.conductor import conductor_of
from nightmill.operations.find import Story
from nightmill.operations.find import find as find_files
from nightmill.operations.find import why as tell_why
from nightmill.operations.preview import preview
from nightmill.operations.submit import Submitted
from nightmill.operations.submit import submit as submit_campaign
from provenance.lineage import By, lineage_of

SQL_SECONDS = 300.0


class Site:
    """An opened site; use it as a context, or close it when done.

    The answers are tables of astropy: a value that is missing is masked, and times are UTC. ``to_pandas`` turns one
    into a data frame.

    Parameters
    ----------
    directory
        Its folder; by default that of ``NIGHTMILL_SITE``, else the nearest above the working directory.

    Raises
    ------
    ConfigError
        Where there is none, or its configuration is wrong.
    DatabaseAway
        Where its database cannot be reached.
    """

    def __init__(self, directory: Path | str | None = None) -> None:
        self._site = sites.open_site(None if directory is None else Path(directory))

    @property
    def name(self) -> str:
        """What the site is called."""
        return self._site.config.name

    def find(
        self,
        *,
        type: str | Sequence[str] = (),
        where: str = "",
        origin: str | Sequence[str] = (),
        limit: int | None = None,
        everything: bool = False,
    ) -> Table:
        """Return a row a file, with a column for each dimension and each key of metadata that one of them has.

        Parameters
        ----------
        type, origin
            One, or several; none given means every one.
        where
            An expression, as ``night == 20260110 and airmass < 1.5``.
        everything
            With the files that no plan would take: logs, and what attempts made that are not the result of their job.

        Raises
        ------
        UnknownName, ExpressionError
            Where there is no such type, or the expression is wrong.
        """
        found = find_files(
            self._site,
            types=_several(type),
            where=where,
            origins=[Origin(each) for each in _several(origin)],
            limit=limit,
            everything=everything,
        )
        rows = []
        for each in found:
            row = each.row
            about = {"name": row.name, "type": row.type, "origin": row.origin, "size_bytes": row.size_bytes}
            about |= {"sha256": row.sha256, "begins_at": row.begins_at, "ends_at": row.ends_at}
            place = {"store": each.copies[0].store, "path": each.copies[0].path} if each.copies else {}
            rows.append({**row.attributes, **about, **data_id(row), **place})
        first = ("name", "type", "origin", *DIMENSIONS, "begins_at", "ends_at", "size_bytes", "sha256", "store", "path")
        return _table(rows, first, always=("name", "type", "origin", "size_bytes", "sha256", "store", "path"))

    def plan(
        self,
        campaign: Path | str,
        *,
        settings: Sequence[str] = (),
        overrides: Sequence[Path | str] = (),
        as_of: datetime | None = None,
    ) -> Table:
        """Plan a campaign as it would be submitted now: a row for each file that a job would read; nothing is written.

        Parameters
        ----------
        campaign
            Its YAML file.
        settings
            ``KEY=VALUE``, as with ``--set``.
        overrides
            Files, as with ``--override``.
        as_of
            From what the catalogue knew at that time, as with ``--as-of``; UTC where it has no zone.

        Raises
        ------
        ConfigErrors, PlanRefused
            Where the campaign is wrong, or cannot be planned.
        RequestRefused
            Where the time is in the future, or before the first file.
        """
        then = as_of.replace(tzinfo=UTC) if as_of is not None and as_of.tzinfo is None else as_of
        planned = preview(self._site, self._campaign(campaign, settings, overrides), as_of=then)
        planned.require()
        rows = [
            {
                "stage": stage.stage.name,
                "projected": stage.projected,
                "unit": job.unit,
                "role": read.role,
                "file": file.name,
                "rule": read.rule,
            }
            for stage in planned.stages
            for job in stage.jobs
            for read in stage.inputs(job)
            for file in read.files
        ]
        columns = ("stage", "projected", "unit", "role", "file", "rule")
        return _table(rows, columns, always=columns)

    def submit(
        self, campaign: Path | str, *, settings: Sequence[str] = (), overrides: Sequence[Path | str] = ()
    ) -> Submitted:
        """Submit a campaign, and have it conducted; the same one again is taken up where it stands.

        Parameters
        ----------
        campaign, settings, overrides
            As :meth:`plan` takes them.

        Raises
        ------
        ConfigErrors, PlanRefused, RequestRefused
            Where it is wrong, cannot be planned, or another has its name: nothing was written.
        ServerAway
            Where the server does not answer.
        """
        described = self._campaign(campaign, settings, overrides)
        return submit_campaign(self._site, described, conductor=conductor_of(self._site))

    def _campaign(self, path: Path | str, settings: Sequence[str], overrides: Sequence[Path | str]) -> Campaign:
        files = [Path(each) for each in overrides]
        return load_campaign(Path(path), settings, overrides=files, defaults=self._site.config.defaults)

    def status(self, campaign: str | None = None) -> Table:
        """Return a row a stage: how many of its jobs are in which state. The spool is not drained for it.

        Parameters
        ----------
        campaign
            Its name; all of them by default.
        """
        with self._site.database.reading() as session:
            rows = campaigns(session) if campaign is None else [campaign_named(session, campaign)]
            stages = progress_of(session, rows)
        columns = ("campaign", "stage", "sealed", "jobs", *(state.value for state in JobState), "stale")
        told = [
            {
                "campaign": row.name,
                "stage": stage.stage,
                "sealed": bool(stage.revisions),
                "jobs": stage.total,
                **{state.value: stage.counts.get(state, 0) for state in JobState},
                "stale": stage.stale,
            }
            for row in rows
            for stage in stages[row.id]
        ]
        return _table(told, columns, always=columns)

    def why(self, file: str) -> Story:
        """Tell why a file is here, or why it is not.

        Raises
        ------
        UnknownName
            Where no such file was taken in nor refused; with a guess.
        """
        return tell_why(self._site, file)

    def lineage(
        self,
        file: str,
        direction: Literal["up", "down"] = "up",
        *,
        depth: int | None = None,
        by: Literal["planned", "opened", "contributed"] = "contributed",
    ) -> Table:
        """Return a row an edge between a step run and a file: what a file was made of, or what was made of it.

        Parameters
        ----------
        depth
            At most so many steps away.
        by
            Which uses are followed: all that were planned, those that no witness denies, those that no step denies.
        """
        with self._site.database.reading() as session:
            found = lineage_of(session, file, direction, depth=depth, by=By(by))
        rows = [
            {
                "relation": relation.value,
                "execution": str(found.executions[edge.execution_id]),
                "role": edge.role,
                "file": found.files[edge.file_id].name,
                "type": found.files[edge.file_id].type,
                "origin": found.files[edge.file_id].origin,
                "kept": found.files[edge.file_id].kept,
            }
            for relation, edges in found.edges.items()
            for edge in edges
        ]
        columns = ("relation", "execution", "role", "file", "type", "origin", "kept")
        return _table(rows, columns, always=columns)

    def sql(self, statement: str, *, uploads: Mapping[str, Path] | None = None, seconds: float = SQL_SECONDS) -> Table:
        """Return what a read-only SQL statement answers.

        Parameters
        ----------
        uploads
            Names of temporary tables to CSV files or lists that fill them.

        Raises
        ------
        RequestRefused
            Where the database refuses the statement.
        """
        reader = self._site.reader_file
        answer = run_sql(self._site.database, statement, reader_file=reader, uploads=uploads, seconds=seconds)
        rows = [dict(zip(answer.columns, row, strict=True)) for row in answer.rows]
        return _table(rows, tuple(answer.columns), always=tuple(answer.columns))

    def close(self) -> None:
        """Close the connections to the database."""
        self._site.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"Site({self.name!r}, {str(self._site.config.directory)!r})"


def _several(value: str | Sequence[str]) -> Sequence[str]:
    return [value] if isinstance(value, str) else value


def _table(rows: Sequence[Mapping[str, Any]], first: Sequence[str], *, always: Iterable[str] = ()) -> Table:
    """Make a table of mappings: the columns named first, as far as any row has them, then the others by name."""
    there = {name for row in rows for name, value in row.items() if value is not None}
    names = [name for name in first if name in there or name in always]
    names += sorted(there - set(names))
    return Table([_column([row.get(name) for row in rows]) for name in names], names=names) if names else Table()


def _column(values: Sequence[Any]) -> MaskedColumn:
    """Make a column of plain values, those that are None masked."""
    known = [value for value in values if value is not None]
    mask = [value is None for value in values]
    if known and all(isinstance(value, datetime) for value in known):
        plain = [np.datetime64("NaT") if value is None else np.datetime64(_utc(value), "us") for value in values]
        return MaskedColumn(np.array(plain, dtype="datetime64[us]"), mask=mask)
    kinds = {type(value) for value in known}
    if (kinds and kinds <= {int, float}) or (len(kinds) == 1 and kinds <= {str, bool}):
        filler = known[0]
        return MaskedColumn([filler if value is None else value for value in values], mask=mask)
    return MaskedColumn(np.array(values, dtype=object), mask=mask)


def _utc(time: datetime) -> datetime:
    return time.astimezone(UTC).replace(tzinfo=None) if time.tzinfo else time
