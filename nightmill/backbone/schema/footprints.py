"""The table of which part of the sky each file covers."""

from __future__ import annotations

from typing import Any

from sqlalchemy import ForeignKey, Index
from sqlalchemy.orm import Mapped, mapped_column

from nightmill.backbone.schema.base import Base


class FootprintRow(Base):
    """A part of the sky that a file covers; a file with several images has several."""

    __tablename__ = "footprint"
    file_id: Mapped[int] = mapped_column(ForeignKey("file.id"), primary_key=True)
    number: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    """From 0."""
    vertices: Mapped[list[Any]]
    """Right ascension and declination of each corner, degrees, ICRS; one alone is the centre of a circle."""
    radius_deg: Mapped[float]
    """Of the circle; 0 for a polygon."""
    x: Mapped[float]
    """With y and z: the middle, a unit vector."""
    y: Mapped[float]
    z: Mapped[float]
    cap_deg: Mapped[float]
    """The radius of a circle around the middle that holds all of it."""
    __table_args__ = (Index(None, "z"), Index(None, "cap_deg"))
