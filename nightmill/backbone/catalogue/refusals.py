"""Files that were not taken in, and why."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import or_, select
from sqlalchemy.orm import Session

from nightmill.backbone.schema import RefusalRow


def refusals(
    session: Session,
    *,
    name: str = "",
    types: Sequence[str] = (),
    origins: Sequence[str] = (),
    limit: int | None = None,
) -> list[RefusalRow]:
    """Return refusals, the last first.

    Parameters
    ----------
    name
        Only those of this path, or of files of this name wherever they lay.
    types, origins
        As which the files were offered; none given means every one.
    """
    query = select(RefusalRow).order_by(RefusalRow.id.desc()).limit(limit)
    if name:
        query = query.where(or_(RefusalRow.path == name, RefusalRow.path.endswith(f"/{name}", autoescape=True)))
    if types:
        query = query.where(RefusalRow.type.in_(types))
    if origins:
        query = query.where(RefusalRow.origin.in_(origins))
    return list(session.scalars(query))
