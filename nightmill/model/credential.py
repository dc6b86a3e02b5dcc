"""Credentials: what lets a site in elsewhere, for a while."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from pydantic import Field

from nightmill.model.base import Frozen


class CredentialKind(StrEnum):
    """How it is seen how long a credential lives."""

    KERBEROS = "kerberos"
    """A ticket for tickets; ``klist`` tells."""
    AFS = "afs"
    """Tokens of AFS cells; ``tokens`` tells."""
    X509 = "x509"
    """A proxy or certificate; of several in one file, the one that ends first counts."""
    TOKEN = "token"  # noqa: S105 - a kind, not a secret
    """A text; where it is a JSON Web Token, its ``exp`` tells."""
    SESSION = "session"
    """JSON or ``key = value`` lines that say when they end, as a cloud's session credentials do."""
    COMMAND = "command"
    """A program prints how many seconds are left."""
    FILE = "file"
    """A file that must be there; nothing tells how long it is good for."""


class Credential(Frozen):
    """What lets a site in elsewhere, and how it is seen how long it lives."""

    name: str = Field(min_length=1)
    """How messages call it."""
    kind: CredentialKind
    """What it is: ``kerberos``, ``afs``, ``x509``, ``token``, ``session``, ``command`` or ``file``."""
    file: str = ""
    """Where it is; of ``kerberos`` a ticket cache, by default the user's."""
    secret: str = ""
    """Of a ``token`` instead of a file: the name of a secret or environment variable."""
    command: tuple[str, ...] = ()
    """Of a ``command``: program and arguments; no shell reads them. What it prints first is the number of seconds."""
    required: bool = True
    """Whether nothing begins where it is missing or has ended."""
    least_hours: float = Field(default=8.0, ge=0)
    """How long it should live at least, where no run times are on record that tell how long a campaign takes."""


@dataclass(frozen=True)
class Life:
    """How long a credential lives, as it was seen.

    Parameters
    ----------
    what
        What was looked at, in words; never what is secret in it.
    lacking
        Why it lets nobody in, in words; empty where it may.
    ends_at
        When it ends, or ended; None where that is not known.
    """

    credential: Credential
    what: str
    lacking: str = ""
    ends_at: datetime | None = None

    def __str__(self) -> str:
        return f"credential {self.credential.name!r} ({self.what})"
