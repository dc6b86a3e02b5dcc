"""Tables of what workers signed: a statement an attempt, in one chain a journal, and the keys of the site."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import ForeignKey, Index, String, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column

from nightmill.backbone.schema.base import Base


class SigningKeyRow(Base):
    """A public key with which statements are verified; never changed."""

    __tablename__ = "signing_key"
    keyid: Mapped[str] = mapped_column(String(64), primary_key=True)
    """SHA-256 of its 32 bytes."""
    public_key: Mapped[str] = mapped_column(String(64))
    """Ed25519, base64."""
    site_id: Mapped[int] = mapped_column(ForeignKey("site.id"))
    added_at: Mapped[datetime]


class StatementRow(Base):
    """What a worker claimed of an attempt, signed."""

    __tablename__ = "statement"
    attempt_id: Mapped[int] = mapped_column(ForeignKey("attempt.id"), primary_key=True)
    payload: Mapped[str]
    """An in-toto statement, JSON: the very text that is signed."""
    sha256: Mapped[str] = mapped_column(String(64))
    """Of the payload."""
    keyid: Mapped[str] = mapped_column(String(64))
    """The key that signed it: one of ``signing_key``, or of nobody."""
    signature: Mapped[str]
    """Ed25519 over the payload as DSSE encodes it, base64."""
    journal: Mapped[str]
    """The journal whose chain it is in."""
    number: Mapped[int]
    """Its place in the chain, from 1."""
    previous_sha256: Mapped[str]
    """Of the payload before it in the chain; empty for the first."""
    __table_args__ = (UniqueConstraint("journal", "number"), Index(None, "sha256"))


class ChainRow(Base):
    """How far the chain of a journal reaches, as far as it is recorded."""

    __tablename__ = "chain"
    journal: Mapped[str] = mapped_column(primary_key=True)
    length: Mapped[int]
    head_sha256: Mapped[str] = mapped_column(String(64))
    """Of the last statement."""
