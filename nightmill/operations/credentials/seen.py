"""How long each kind of credential lives, as it is on this host; what is secret in it is told to nobody."""

from __future__ import annotations

import json
import os
import re
import subprocess
from base64 import urlsafe_b64decode
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

from nightmill.config.site import SiteConfig
from nightmill.config.stores import home_of
from nightmill.model.credential import Credential, CredentialKind, Life

PROGRAM_SECONDS: Final = 30.0
"""A program that has not answered by then is not waited for."""
_TICKET: Final = re.compile(r"^\s*(?P<begin>\S.*?)\s{2,}(?P<end>\S.*?)\s{2,}krbtgt/", re.MULTILINE)
_TICKET_TIMES: Final = ("%m/%d/%y %H:%M:%S", "%m/%d/%Y %H:%M:%S", "%b %d %H:%M:%S %Y")
"""How klist of MIT writes times in the locale C, and that of Heimdal."""
_AFS_TOKEN: Final = re.compile(r"[Tt]okens? for \S+ \[(?P<end>[^]]*)\]")
_ENDS: Final = re.compile(
    r"(x_security_token_|aws_(session_)?|token_|access_token_)?(expiration|expires(_?at|_?on)?|expiry|exp)",
    re.IGNORECASE,
)
_LINE: Final = re.compile(r"^\s*(?P<key>[A-Za-z_]+)\s*=\s*[\"']?(?P<value>[^\"'\n]*)", re.MULTILINE)
_MILLISECONDS: Final = 1e11
"""Greater numbers are milliseconds since 1970: of seconds it would be the year 5138."""


class _Lacking(Exception):
    """It lets nobody in; the text says why."""


@dataclass(frozen=True)
class _Look:
    credential: Credential
    config: SiteConfig
    now: datetime

    @property
    def path(self) -> Path:
        return self.config.directory / home_of(self.credential.file)

    def read(self) -> bytes:
        try:
            data = self.path.read_bytes()
        except FileNotFoundError:
            raise _Lacking("it is not there") from None
        except OSError as error:
            raise _Lacking(f"it cannot be read: {error.strerror}") from None
        if not data.strip():
            raise _Lacking("it is empty")
        return data

    def run(self, argv: Sequence[str], failed: str) -> str:
        """Return what a program prints; what it prints of an error may hold a secret, and is told to nobody."""
        try:
            done = subprocess.run(
                argv,
                cwd=self.config.directory,
                env={**os.environ, "LC_ALL": "C", "TZ": "UTC"},
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                errors="replace",
                timeout=PROGRAM_SECONDS,
                check=False,
            )
        except OSError as error:
            raise _Lacking(f"{argv[0]!r} cannot be started on this host: {error.strerror}") from None
        except subprocess.TimeoutExpired:
            raise _Lacking(f"{argv[0]!r} has not ended after {PROGRAM_SECONDS:.0f} s") from None
        if done.returncode:
            raise _Lacking(f"{failed} ({argv[0]!r} ended with exit code {done.returncode})")
        return done.stdout


def see(credential: Credential, config: SiteConfig, now: datetime) -> Life:
    """Look how long a credential of a site lives; whatever is wrong with it is part of the answer."""
    look = _Look(credential, config, now)
    what = _what(look)
    try:
        ends_at = _SEEN[credential.kind](look)
    except _Lacking as lacking:
        return Life(credential, what, str(lacking))
    ended = f"it ended at {ends_at:%Y-%m-%d %H:%M:%S} UTC" if ends_at is not None and ends_at <= now else ""
    return Life(credential, what, ended, ends_at)


def _what(look: _Look) -> str:
    credential = look.credential
    if credential.secret:
        return f"{credential.kind}, secret {credential.secret}"
    if credential.kind is CredentialKind.KERBEROS:
        return f"{credential.kind}, {credential.file or 'the ticket cache of this user'}"
    if credential.kind is CredentialKind.COMMAND:
        return f"{credential.kind}, {credential.command[0]}"
    return f"{credential.kind}, {look.path}" if credential.file else str(credential.kind)


def _kerberos(look: _Look) -> datetime | None:
    cache = look.credential.file
    named = [] if not cache else ["-c", cache if ":" in cache else str(look.path)]
    tickets = list(_TICKET.finditer(look.run(["klist", *named], "its ticket is missing")))
    if not tickets:
        raise _Lacking("its ticket for tickets (krbtgt) is missing")
    ends = [end for ticket in tickets if (end := _time_of(ticket["end"], _TICKET_TIMES)) is not None]
    if not ends and any("expired" in ticket["end"].lower() for ticket in tickets):
        raise _Lacking("its ticket has ended")
    return max(ends, default=None)


def _afs(look: _Look) -> datetime | None:
    found = [match["end"] for match in _AFS_TOKEN.finditer(look.run(["tokens"], "its token is missing"))]
    if not found:
        raise _Lacking("a token of a cell is missing")
    if any("expired" in end.lower() for end in found):
        raise _Lacking("a token has ended")
    ends = [end for text in found if (end := _this_year(text.removeprefix("Expires "), look.now)) is not None]
    return min(ends, default=None)


def _x509(look: _Look) -> datetime | None:
    from cryptography.x509 import load_pem_x509_certificates

    try:
        found = load_pem_x509_certificates(look.read())
    except ValueError:
        raise _Lacking("it has no certificate that can be read (PEM is wanted)") from None
    return min(certificate.not_valid_after_utc for certificate in found)


def _token(look: _Look) -> datetime | None:
    name = look.credential.secret
    if name and not look.config.secrets.get(name, "").strip():
        raise _Lacking(f"{name} is not set, neither among the secrets of the site nor in the environment")
    text = look.config.secrets[name] if name else look.read().decode(errors="replace")
    parts = text.strip().removeprefix("Bearer ").split(".")
    if len(parts) != 3:
        return None
    try:
        payload = json.loads(urlsafe_b64decode(parts[1] + "=" * (-len(parts[1]) % 4)))
    except ValueError:
        return None
    return _instant(payload.get("exp")) if isinstance(payload, Mapping) else None


def _session(look: _Look) -> datetime | None:
    text = look.read().decode(errors="replace")
    try:
        told = list(_named(json.loads(text)))
    except ValueError:
        told = [match["value"].strip() for match in _LINE.finditer(text) if _ENDS.fullmatch(match["key"])]
    return min((end for each in told if (end := _instant(each)) is not None), default=None)


def _command(look: _Look) -> datetime | None:
    printed = look.run(look.credential.command, "it lets nobody in")
    first = printed.split(maxsplit=1)[:1]
    try:
        return look.now + timedelta(seconds=float(first[0]))
    except (IndexError, ValueError, OverflowError):
        raise _Lacking("what it prints does not begin with a number of seconds") from None


def _file(look: _Look) -> datetime | None:
    look.read()
    return None


_SEEN: Final[Mapping[CredentialKind, Callable[[_Look], datetime | None]]] = {
    CredentialKind.KERBEROS: _kerberos,
    CredentialKind.AFS: _afs,
    CredentialKind.X509: _x509,
    CredentialKind.TOKEN: _token,
    CredentialKind.SESSION: _session,
    CredentialKind.COMMAND: _command,
    CredentialKind.FILE: _file,
}


def _named(value: object) -> Iterator[object]:
    """Yield what stands in a JSON document under keys that tell of an end, at any depth."""
    if isinstance(value, Mapping):
        for key, each in value.items():
            yield from [each] if _ENDS.fullmatch(str(key)) else _named(each)
    elif isinstance(value, list):
        for each in value:
            yield from _named(each)


def _instant(value: object) -> datetime | None:
    """Read a time that is written as a number of seconds or milliseconds since 1970, or as ISO 8601; else None."""
    try:
        try:
            seconds = float(value) if isinstance(value, int | float | str) else float("nan")
            return datetime.fromtimestamp(seconds / (1000 if seconds > _MILLISECONDS else 1), UTC)
        except ValueError:
            time = datetime.fromisoformat(str(value))
    except (ValueError, OverflowError, OSError):
        return None
    return time.replace(tzinfo=UTC) if time.tzinfo is None else time.astimezone(UTC)


def _time_of(text: str, formats: Sequence[str]) -> datetime | None:
    for each in formats:
        try:
            return datetime.strptime(text, each).replace(tzinfo=UTC)
        except ValueError:
            continue
    return None


def _this_year(text: str, now: datetime) -> datetime | None:
    """Read a time that is written without its year: the one that is nearest to now."""
    years = (now.year + step for step in (-1, 0, 1))
    ends = [end for year in years if (end := _time_of(f"{text} {year}", ("%b %d %H:%M %Y",))) is not None]
    return min(ends, key=lambda end: abs(end - now), default=None)
