"""Tables of what files hold row by row: loaded hidden, in parts, and seen once a registered file has them."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import BigInteger, ForeignKey, Index, String
from sqlalchemy.orm import Mapped, mapped_column

from nightmill.backbone.schema.base import Base, Json, Key


class AttachmentRow(Base):
    """Rows that were read of files, by their digest: equal ones are kept once."""

    __tablename__ = "attachment"
    id: Mapped[int] = mapped_column(Key, primary_key=True)
    kind: Mapped[str]
    sha256: Mapped[str] = mapped_column(String(64), unique=True)
    row_count: Mapped[int] = mapped_column(BigInteger)
    loaded_at: Mapped[datetime | None]
    """When the last of its rows was there; None while it is loaded."""


class AttachedRow(Base):
    """One row of an attachment."""

    __tablename__ = "attached_row"
    attachment_id: Mapped[int] = mapped_column(ForeignKey("attachment.id"), primary_key=True)
    number: Mapped[int] = mapped_column(BigInteger, primary_key=True, autoincrement=False)
    """From 0, as in the file."""
    data: Mapped[dict[str, Any]] = mapped_column(Json)
    """Column to value."""


class FileAttachmentRow(Base):
    """Which file an attachment was read of; what no file has is seen by nobody."""

    __tablename__ = "file_attachment"
    file_id: Mapped[int] = mapped_column(ForeignKey("file.id"), primary_key=True)
    attachment_id: Mapped[int] = mapped_column(ForeignKey("attachment.id"), primary_key=True)
    __table_args__ = (Index(None, "attachment_id"),)
