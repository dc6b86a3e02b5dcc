"""A pipeline's folder that was edited after its campaign was submitted: told, and taken only when asked for."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

from sqlalchemy.orm import Session

from nightmill.backbone.work import campaigns
from nightmill.clock import utc_now
from nightmill.errors import RequestRefused
from nightmill.model.bundle import Bundle, BundleChanges, compare
from nightmill.model.campaign import Campaign
from nightmill.model.pipeline import Pipeline
from nightmill.operations.bundle import (
    differences,
    keep,
    manifest,
    opened_bundle,
    pack,
    provenance_of,
    register_bundle,
    sealed_bundle,
)
from nightmill.operations.site import Site
from nightmill.planning.revise import revise

MOST_NAMED: Final = 10
"""So many files are named in a message, of each kind."""


class Folder(StrEnum):
    """Which state of a pipeline's folder jobs that are not done shall see, where it was edited since the submission."""

    ASK = "ask"
    """Nobody said: refuse, and tell what has changed."""
    EDITED = "edited"
    """As it is now: a new revision of the plans."""
    AS_SUBMITTED = "as-submitted"


@dataclass(frozen=True)
class Edit:
    """A folder as it is now, which goes on record as a new revision of a campaign's plans."""

    bundle: Bundle
    pipeline: Pipeline

    def write(self, session: Session, campaign_id: int, who: str) -> dict[str, Any]:
        """Register the bundle, revise the plans, and return what the act is to keep of it."""
        now = utc_now()
        told = provenance_of(self.bundle, self.pipeline)
        register_bundle(session, self.bundle.sealed, told, who=who, now=now)
        return {"bundle": self.bundle.digest, "revised": revise(session, campaign_id, self.bundle.sealed, now=now)}


@contextmanager
def edit_of(site: Site, name: str, folder: Folder, *, done: bool = False) -> Iterator[Edit | None]:
    """Give what is to be written of an edited folder, its archive in the store; None to go on with what was submitted.

    Parameters
    ----------
    done
        Whether jobs that are done may run again: then it matters also where every job is.

    Raises
    ------
    UnknownName
        Where there is no such campaign.
    RequestRefused
        Where the folder was edited and nobody said which state shall count; or it cannot be packed.
    StoreError
        Where the store cannot take the bundle.
    """
    with TemporaryDirectory(prefix="nightmill-") as temporary:
        archive = Path(temporary, "bundle.tar")
        found = (
            None
            if folder is Folder.AS_SUBMITTED
            else _looked_at(site, name, archive, missing_ok=folder is Folder.ASK, done=done)
        )
        if found is None:
            yield None
            return
        edit, changes = found
        if folder is Folder.ASK:
            raise RequestRefused(
                f"the folder {edit.pipeline.directory} was edited since campaign {name!r} was submitted:"
                f" {_told(changes)}",
                remedy="say --edited to run what is not done with the folder as it is now, or --as-submitted; --diff"
                " shows the differences",
            )
        keep(site, edit.bundle, archive)
        yield edit


def diff(site: Site, name: str) -> str:
    """Return a unified diff between the folder that a campaign runs and the folder as it is now; empty without one.

    Raises
    ------
    UnknownName, RequestRefused
        As :func:`edit_of`.
    """
    with TemporaryDirectory(prefix="nightmill-") as temporary:
        archive = Path(temporary, "bundle.tar")
        found = _looked_at(site, name, archive, missing_ok=False)
        if found is None:
            return ""
        _edit, changes = found
        with site.database.reading() as session:
            before = sealed_bundle(session, campaigns.own_campaign(session, name).id)
        assert before is not None  # or nothing could differ from it
        with opened_bundle(site, before) as old, archive.open("rb") as new:
            return differences(old, new, changes)


def _looked_at(
    site: Site, name: str, archive: Path, *, missing_ok: bool, done: bool = False
) -> tuple[Edit, BundleChanges] | None:
    """Pack the folder as it is now, and say how it differs from what the campaign runs; None where it does not."""
    with site.database.reading() as session:
        row = campaigns.own_campaign(session, name)
        pipeline = Campaign.model_validate(row.definition).pipeline
        before = sealed_bundle(session, row.id)
        complete = not done and campaigns.is_complete(session, row.id)
    if before is None or complete or (missing_ok and not Path(pipeline.directory).is_dir()):
        return None
    bundle = pack(pipeline, site.config, archive)
    if bundle is None or bundle.digest == before.digest:
        return None
    changes = compare(manifest(site, before), bundle.files)
    return (Edit(bundle, pipeline), changes) if changes else None


def _told(changes: BundleChanges) -> str:
    kinds = (("changed", changes.changed), ("added", changes.added), ("removed", changes.removed))
    return "; ".join(f"{kind} {_listed(paths)}" for kind, paths in kinds if paths)


def _listed(paths: Sequence[str]) -> str:
    more = f" and {len(paths) - MOST_NAMED} more" if len(paths) > MOST_NAMED else ""
    return ", ".join(paths[:MOST_NAMED]) + more
