"""An opened site: what it is configured to be, its database, and what moves bytes to and from its stores."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from nightmill.backbone.database import Database
from nightmill.config.site import SiteConfig, load_site
from nightmill.model.ports import Stager
from stagers import open_stagers


@dataclass(frozen=True)
class Site:
    """An opened site; close it when done, or use it as a context."""

    config: SiteConfig
    database: Database

    @cached_property
    def stagers(self) -> Mapping[str, Stager]:
        """What moves bytes to and from each store and working area, by their names."""
        return open_stagers(self.config.stores)

    def close(self) -> None:
        """Close the connections to the database."""
        self.database.close()

    def __enter__(self) -> Site:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def open_site(directory: Path | None = None) -> Site:
    """Open a site.

    Parameters
    ----------
    directory
        Its folder; by default that of ``NIGHTMILL_SITE``, else the nearest above the working directory.

    Raises
    ------
    ConfigError
        Where there is none, or its configuration is wrong.
    RequestRefused
        Where its database has another schema revision than this program.
    DatabaseAway
        Where the database cannot be reached.
    """
    config = load_site(directory)
    database = Database(config.database_url)
    database.check_revision()
    return Site(config, database)
