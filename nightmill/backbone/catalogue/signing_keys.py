"""The public keys with which statements are verified."""

from __future__ import annotations

from base64 import b64decode, b64encode
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import select
from sqlalchemy.orm import Session

from nightmill.backbone.schema import SigningKeyRow
from nightmill.backbone.sites import this_site
from nightmill.backbone.upsert import add_missing


def add_key(session: Session, keyid: str, public_key: bytes, *, now: datetime) -> None:
    """Put a key of this site on record, unless it is there."""
    row = {"keyid": keyid, "public_key": b64encode(public_key).decode(), "site_id": this_site(session), "added_at": now}
    add_missing(session, SigningKeyRow, [row], unique=("keyid",))


@dataclass(frozen=True)
class Signing:
    """A key that was ever used.

    Parameters
    ----------
    public_key
        The 32 bytes of an Ed25519 key.
    """

    public_key: bytes
    site_id: int
    added_at: datetime


def signing_keys(session: Session) -> dict[str, Signing]:
    """Return the keys that all sites of the catalogue ever used, by their names; of one that was spoiled, no bytes."""
    rows = session.scalars(select(SigningKeyRow))
    return {row.keyid: Signing(_decoded(row.public_key), row.site_id, row.added_at) for row in rows}


def _decoded(text: str) -> bytes:
    try:
        return b64decode(text)
    except ValueError:
        return b""
