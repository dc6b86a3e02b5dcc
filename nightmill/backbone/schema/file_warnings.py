"""The table of what checks say of files that they do not hold back."""

from __future__ import annotations

from sqlalchemy import ForeignKey, Index, String
from sqlalchemy.orm import Mapped, mapped_column

from nightmill.backbone.schema.base import Base


class FileWarningRow(Base):
    """A check that a registered file failed, and that its type asks to warn alone."""

    __tablename__ = "file_warning"
    file_id: Mapped[int] = mapped_column(ForeignKey("file.id"), primary_key=True)
    number: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    """Among those of the file, from 0."""
    check_name: Mapped[str]
    """As the type writes it."""
    reason: Mapped[str] = mapped_column(String(40))
    """A word that stays."""
    message: Mapped[str]
    __table_args__ = (Index(None, "check_name"),)
