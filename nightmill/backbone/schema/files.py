"""Tables of what exists: files, their copies, their roles, and what was refused."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Final

from sqlalchemy import BigInteger, CheckConstraint, ForeignKey, Index, String, UniqueConstraint, text
from sqlalchemy.orm import Mapped, mapped_column

from nightmill.backbone.schema.base import Base, Json, Key, OneOf
from nightmill.model.calibration import Maturity
from nightmill.model.fate import Fate
from nightmill.model.origin import Origin
from nightmill.model.states import Purpose, ReplicaState, TransferState

_BROUGHT: Final = text("original_name IS NOT NULL")


class SiteRow(Base):
    """A site that uses this catalogue."""

    __tablename__ = "site"
    id: Mapped[int] = mapped_column(Key, primary_key=True)
    name: Mapped[str] = mapped_column(unique=True)
    key: Mapped[str | None] = mapped_column(unique=True)
    """What it keeps in its own folder, to be told from others; empty for what no site has taken as its own yet."""
    first_seen: Mapped[datetime]
    outdated: Mapped[str] = mapped_column(default="")
    """Why it must recover before it goes on: another site took an older database for current; else empty."""


class StoreRow(Base):
    """A place for files, of one site."""

    __tablename__ = "store"
    id: Mapped[int] = mapped_column(Key, primary_key=True)
    site_id: Mapped[int] = mapped_column(ForeignKey("site.id"))
    name: Mapped[str]
    url: Mapped[str]
    kind: Mapped[str]
    __table_args__ = (UniqueConstraint("site_id", "name"),)


class FileRow(Base):
    """A logical file: what it is, wherever its copies are. Never changed once it is there.

    One that is retyped gets another row with the next version, which its copies go to.
    """

    __tablename__ = "file"
    id: Mapped[int] = mapped_column(Key, primary_key=True)
    name: Mapped[str]
    compression: Mapped[str] = mapped_column(String(16), default="")
    version: Mapped[int] = mapped_column(default=1)
    """How often it was described: the highest of a name is what it is taken for now."""
    type: Mapped[str]
    origin: Mapped[str] = mapped_column(OneOf(Origin, 8))
    size_bytes: Mapped[int] = mapped_column(BigInteger)
    sha256: Mapped[str] = mapped_column(String(64))
    instrument: Mapped[str | None]
    night: Mapped[int | None]
    exposure: Mapped[int | None] = mapped_column(BigInteger)
    detector: Mapped[int | None]
    band: Mapped[str | None]
    tile: Mapped[str | None]
    run: Mapped[str | None]
    begins_at: Mapped[datetime | None]
    ends_at: Mapped[datetime | None]
    attributes: Mapped[dict[str, Any]] = mapped_column("metadata", Json, default=dict)
    original_name: Mapped[str | None]
    """What it was called when it was brought (origins raw and manual)."""
    provenance: Mapped[str | None]
    """What the person who brought it says about where it comes from (origin manual)."""
    attempt_id: Mapped[int | None] = mapped_column(ForeignKey("attempt.id"))
    """The attempt that made it (origin batch)."""
    registered_at: Mapped[datetime]
    registered_by: Mapped[str]
    __table_args__ = (
        UniqueConstraint("name", "compression", "version"),
        CheckConstraint("origin <> 'manual' OR provenance <> ''", name="manual_has_provenance"),
        CheckConstraint("(origin = 'batch') = (attempt_id IS NOT NULL)", name="batch_has_attempt"),
        Index(None, "type", "night", "detector"),
        Index(None, "exposure", "detector"),
        Index(None, "night"),
        Index(None, "begins_at"),
        Index(None, "sha256"),
        Index(None, "original_name", sqlite_where=_BROUGHT, postgresql_where=_BROUGHT),
        Index(None, "attempt_id"),
    )


class WithdrawalRow(Base):
    """That a file is not any more to be taken for what its row says; append-only.

    A file that is withdrawn, and retyped later, has two.
    """

    __tablename__ = "withdrawal"
    id: Mapped[int] = mapped_column(Key, primary_key=True)
    file_id: Mapped[int] = mapped_column(ForeignKey("file.id"))
    replaced_by: Mapped[int | None] = mapped_column(ForeignKey("file.id"))
    """Where it was retyped: its row since then."""
    at: Mapped[datetime]
    who: Mapped[str]
    why: Mapped[str]
    __table_args__ = (Index(None, "file_id"), UniqueConstraint("replaced_by"))


class ExclusionRow(Base):
    """That files must not be inputs; append-only, until a lift or its own end takes it back."""

    __tablename__ = "exclusion"
    id: Mapped[int] = mapped_column(Key, primary_key=True)
    campaign: Mapped[str]
    """Name of the campaign that it is about, whether or not it is there; empty for every one."""
    expression: Mapped[str]
    """Over files: those that are excluded."""
    written: Mapped[str]
    """What was typed for it."""
    types: Mapped[list[str]] = mapped_column(Json)
    """The only file types that it is about; none for every one."""
    part: Mapped[str]
    """The part of each file that is excluded; empty for the whole file."""
    up_to: Mapped[str]
    """The stage after which it holds; empty for every stage."""
    who: Mapped[str]
    why: Mapped[str]
    ticket: Mapped[str]
    at: Mapped[datetime]
    expires_at: Mapped[datetime | None]
    __table_args__ = (Index(None, "campaign"),)


class ExclusionLiftRow(Base):
    """That an exclusion does not hold any more; append-only."""

    __tablename__ = "exclusion_lift"
    id: Mapped[int] = mapped_column(Key, primary_key=True)
    exclusion_id: Mapped[int] = mapped_column(ForeignKey("exclusion.id"))
    at: Mapped[datetime]
    who: Mapped[str]
    why: Mapped[str]
    __table_args__ = (UniqueConstraint("exclusion_id"),)


class ReplicaRow(Base):
    """One copy of a file."""

    __tablename__ = "replica"
    id: Mapped[int] = mapped_column(Key, primary_key=True)
    file_id: Mapped[int] = mapped_column(ForeignKey("file.id"))
    store_id: Mapped[int] = mapped_column(ForeignKey("store.id"))
    path: Mapped[str]
    state: Mapped[str] = mapped_column(OneOf(ReplicaState), default=ReplicaState.PRESENT.value)
    verified_at: Mapped[datetime]
    __table_args__ = (
        UniqueConstraint("store_id", "path"),
        UniqueConstraint("file_id", "store_id"),
    )


class DoubtRow(Base):
    """That an attempt could not have a copy of an input: what it found there. A guess is never a loss."""

    __tablename__ = "doubt"
    id: Mapped[int] = mapped_column(Key, primary_key=True)
    replica_id: Mapped[int] = mapped_column(ForeignKey("replica.id"))
    attempt_id: Mapped[int] = mapped_column(ForeignKey("attempt.id"))
    fate: Mapped[str] = mapped_column(OneOf(Fate, 24))
    """What an attempt ends with that can have no other copy, either."""
    why: Mapped[str]
    at: Mapped[datetime]
    __table_args__ = (UniqueConstraint("replica_id", "attempt_id"),)


class TransferRow(Base):
    """That a file was fetched from another site into a store of this one, or could not be; append-only."""

    __tablename__ = "transfer"
    id: Mapped[int] = mapped_column(Key, primary_key=True)
    file_id: Mapped[int] = mapped_column(ForeignKey("file.id"))
    from_id: Mapped[int] = mapped_column(ForeignKey("store.id"))
    """The store that it was read from; where that failed, the one that was tried last."""
    to_id: Mapped[int] = mapped_column(ForeignKey("store.id"))
    campaign_id: Mapped[int] = mapped_column(ForeignKey("campaign.id"))
    """The campaign that needed it, or made it."""
    purpose: Mapped[str] = mapped_column(OneOf(Purpose))
    state: Mapped[str] = mapped_column(OneOf(TransferState))
    size_bytes: Mapped[int] = mapped_column(BigInteger)
    """How much came; 0 where it failed."""
    began_at: Mapped[datetime]
    wall_seconds: Mapped[float]
    tries: Mapped[int]
    host: Mapped[str]
    evidence: Mapped[str]
    """Why it failed, or why a try before failed; else empty."""
    __table_args__ = (Index(None, "file_id"), Index(None, "campaign_id"))


class RefusalRow(Base):
    """A file that was not taken in, and why."""

    __tablename__ = "refusal"
    id: Mapped[int] = mapped_column(Key, primary_key=True)
    at: Mapped[datetime]
    who: Mapped[str]
    path: Mapped[str]
    type: Mapped[str]
    origin: Mapped[str] = mapped_column(String(8))
    reason: Mapped[str] = mapped_column(String(40))
    message: Mapped[str]
    size_bytes: Mapped[int | None] = mapped_column(BigInteger)
    sha256: Mapped[str | None] = mapped_column(String(64))
    __table_args__ = (Index(None, "reason", "at"), Index(None, "path"))


class CalibrationRow(Base):
    """A file's role as calibration; append-only: the latest row of a file in a set is what holds."""

    __tablename__ = "calibration"
    id: Mapped[int] = mapped_column(Key, primary_key=True)
    file_id: Mapped[int] = mapped_column(ForeignKey("file.id"))
    set_name: Mapped[str]
    valid_from: Mapped[datetime]
    valid_until: Mapped[datetime]
    maturity: Mapped[str] = mapped_column(OneOf(Maturity))
    at: Mapped[datetime]
    who: Mapped[str]
    why: Mapped[str]
    __table_args__ = (
        CheckConstraint("valid_from <= valid_until", name="validity"),
        Index(None, "set_name", "file_id"),
        Index(None, "file_id"),
    )


class ContextRow(Base):
    """The roles that held in sets of calibrations at some time, pinned under a name for ever."""

    __tablename__ = "context"
    id: Mapped[int] = mapped_column(Key, primary_key=True)
    name: Mapped[str] = mapped_column(unique=True)
    sha256: Mapped[str] = mapped_column(String(64))
    """Of the roles: contexts of the same roles have the same, at any site."""
    at: Mapped[datetime]
    who: Mapped[str]
    why: Mapped[str]


class ContextRoleRow(Base):
    """A role that a context pins."""

    __tablename__ = "context_role"
    context_id: Mapped[int] = mapped_column(ForeignKey("context.id"), primary_key=True)
    calibration_id: Mapped[int] = mapped_column(ForeignKey("calibration.id"), primary_key=True)


class AuditRow(Base):
    """What an operator did: who, when, what, why."""

    __tablename__ = "audit"
    id: Mapped[int] = mapped_column(Key, primary_key=True)
    site_id: Mapped[int] = mapped_column(ForeignKey("site.id"))
    at: Mapped[datetime]
    who: Mapped[str]
    verb: Mapped[str]
    subject: Mapped[str]
    why: Mapped[str] = mapped_column(default="")
    detail: Mapped[dict[str, Any]] = mapped_column(default=dict)
    __table_args__ = (Index(None, "subject", "at"),)
