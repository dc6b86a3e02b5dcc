"""Tables of what steps told beside what they used and made, and of how that differs from what was planned and seen."""

from __future__ import annotations

from sqlalchemy import ForeignKey, Index
from sqlalchemy.orm import Mapped, mapped_column

from nightmill.backbone.schema.base import Base, OneOf
from nightmill.model.observed import Consequence, DifferenceKind


class DerivationRow(Base):
    """A file, and one that it was made of, where the step that made it told so."""

    __tablename__ = "derivation"
    file_id: Mapped[int] = mapped_column(ForeignKey("file.id"), primary_key=True)
    from_id: Mapped[int] = mapped_column(ForeignKey("file.id"), primary_key=True)
    __table_args__ = (Index(None, "from_id"),)


class DifferenceRow(Base):
    """One difference between what a run of a step was planned to do, was seen to do, and told that it did."""

    __tablename__ = "difference"
    execution_id: Mapped[int] = mapped_column(ForeignKey("execution.id"), primary_key=True)
    number: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    """Among those of its run, from 0."""
    kind: Mapped[str] = mapped_column(OneOf(DifferenceKind))
    name: Mapped[str]
    """Of the file, or the path or the role where no file can be named."""
    file_id: Mapped[int | None] = mapped_column(ForeignKey("file.id"))
    """The file, where it is on record."""
    detail: Mapped[str]
    consequence: Mapped[str] = mapped_column(OneOf(Consequence))
    __table_args__ = (Index(None, "file_id"),)
