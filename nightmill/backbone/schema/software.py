"""Tables of software stacks, and of how they are known to a site."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import ForeignKey, Index, String
from sqlalchemy.orm import Mapped, mapped_column

from nightmill.backbone.schema.base import Base, Key, OneOf
from nightmill.model.software import Acceptance


class SoftwareRow(Base):
    """A stack, once a digest."""

    __tablename__ = "software"
    id: Mapped[int] = mapped_column(Key, primary_key=True)
    sha256: Mapped[str] = mapped_column(String(64), unique=True)
    bare_sha256: Mapped[str | None] = mapped_column(String(64), index=True)
    """The digest without the bundle; NULL of stacks of before."""
    packages: Mapped[dict[str, Any]]
    """Its sections; of stacks of before, programs and packages with their versions."""


class RegressionRow(Base):
    """How a stack became known to a site, or why it did not: a verdict, append-only."""

    __tablename__ = "regression"
    id: Mapped[int] = mapped_column(Key, primary_key=True)
    site_id: Mapped[int] = mapped_column(ForeignKey("site.id"))
    software_id: Mapped[int] = mapped_column(ForeignKey("software.id"))
    attempt_id: Mapped[int | None] = mapped_column(ForeignKey("attempt.id"))
    """The reference; NULL where none was carried out again."""
    how: Mapped[str] = mapped_column(OneOf(Acceptance))
    passed: Mapped[bool]
    differences: Mapped[list[Any]]
    """A sentence each; empty where it passed."""
    host: Mapped[str]
    who: Mapped[str]
    why: Mapped[str]
    at: Mapped[datetime]
    __table_args__ = (Index(None, "software_id"), Index(None, "attempt_id"))
