"""Tables of the errors that a site knows by name; append-only."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import ForeignKey, Index, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column

from nightmill.backbone.schema.base import Base, Key


class ErrorRuleRow(Base):
    """One version of the rule by which a site knows an error."""

    __tablename__ = "error_rule"
    id: Mapped[int] = mapped_column(Key, primary_key=True)
    site_id: Mapped[int] = mapped_column(ForeignKey("site.id"))
    name: Mapped[str]
    version: Mapped[int]
    """Among the rules of that name, from 1."""
    explanation: Mapped[str]
    """What the error means."""
    link: Mapped[str]
    """Where the site says more of it; empty where it does not."""
    definition: Mapped[dict[str, Any]]
    """The whole rule, as it was written."""
    who: Mapped[str]
    why: Mapped[str]
    at: Mapped[datetime]
    __table_args__ = (UniqueConstraint("site_id", "name", "version"),)


class ErrorSwitchRow(Base):
    """That a rule was switched on or off: of all rules of a name the latest row says which one holds, if any."""

    __tablename__ = "error_switch"
    id: Mapped[int] = mapped_column(Key, primary_key=True)
    error_id: Mapped[int] = mapped_column(ForeignKey("error_rule.id"))
    is_on: Mapped[bool]
    who: Mapped[str]
    why: Mapped[str]
    at: Mapped[datetime]
    __table_args__ = (Index(None, "error_id"),)
