"""Credentials of a site: how long each lives, and whether something may begin that needs them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta
from typing import Final

from nightmill.clock import utc_now
from nightmill.config.document import Plain, load_document
from nightmill.config.site import SITE_FILE, SiteConfig
from nightmill.errors import RequestRefused
from nightmill.model.credential import Credential, CredentialKind, Life
from nightmill.model.secrets import missing
from nightmill.operations.credentials.seen import see

__all__ = ["CredentialsLacking", "lives", "require", "short", "told"]

REMEDY: Final = "renew it, then begin again; 'nightmill doctor' shows how long each lives"
_LETTING_IN: Final = ("url", "database", "auth")
"""Keys of nightmill.yaml whose values may refer to what lets somebody in."""


class CredentialsLacking(RequestRefused):
    """A credential that is required lets nobody in; nothing was begun, because it would fail half-way."""


def lives(config: SiteConfig, now: datetime | None = None) -> list[Life]:
    """Look at every credential of a site, as it is on this host and for this user.

    These are the ones that ``credentials`` of its nightmill.yaml lists, and the secrets that its URLs refer to.
    """
    now = utc_now() if now is None else now
    listed = {credential.secret for credential in config.credentials}
    of_urls = [
        Credential(name=name, kind=CredentialKind.TOKEN, secret=name)
        for name in dict.fromkeys(_references(load_document(config.directory / SITE_FILE).data))
        if name not in listed
    ]
    return [see(credential, config, now) for credential in (*config.credentials, *of_urls)]


def _references(value: Plain, key: str = "") -> Iterator[str]:
    """Yield the names that URLs refer to."""
    if isinstance(value, dict):
        for name, each in value.items():
            yield from _references(each, name)
    elif isinstance(value, str) and key in _LETTING_IN:
        yield from missing(value, {})


def require(config: SiteConfig, now: datetime | None = None) -> list[Life]:
    """Make sure that no credential that is required is missing or has ended, and return them all.

    Raises
    ------
    CredentialsLacking
        Where one is; all of them are listed. One that is there where another is not does not help.
    """
    found = lives(config, now)
    lacking = [f"{life}: {life.lacking}" for life in found if life.lacking and life.credential.required]
    if lacking:
        raise CredentialsLacking("; ".join(lacking), remedy=REMEDY)
    return found


def short(found: Sequence[Life], expected_seconds: float | None, now: datetime | None = None) -> list[str]:
    """Say which credentials end before what is to begin is expected to; a sentence each.

    Parameters
    ----------
    expected_seconds
        How long it takes, by the run times on record; None where these do not tell, and each credential says itself
        how long it should live.
    """
    now = utc_now() if now is None else now
    sentences = []
    for life in found:
        hours = life.credential.least_hours
        wanted = timedelta(hours=hours) if expected_seconds is None else timedelta(seconds=expected_seconds)
        why = f"at least {span(wanted)} are wanted (least_hours)"
        if expected_seconds is not None:
            why = f"by the run times on record, this takes {span(wanted)}"
        if life.lacking:
            sentences.append(f"{life}: {life.lacking}; it is not required, and what needs it will fail")
        elif life.ends_at is not None and life.ends_at < now + wanted:
            sentences.append(f"{life} has {span(life.ends_at - now)} left, and {why}; renew it before it ends")
    return sentences


def told(life: Life, now: datetime | None = None) -> tuple[bool, str]:
    """Say whether a credential is as it should be, and how long it lives."""
    now = utc_now() if now is None else now
    required = life.credential.required
    if life.lacking:
        return not required, f"{life.what}: {life.lacking}; {REMEDY if required else 'it is not required'}"
    if life.ends_at is None:
        return True, f"{life.what}: it is there; how long it lives is not known"
    left, wanted = life.ends_at - now, timedelta(hours=life.credential.least_hours)
    seen = f"{life.what}: {span(left)} left, until {life.ends_at:%Y-%m-%d %H:%M} UTC"
    if left < wanted:
        return not required, f"{seen}; at least {span(wanted)} are wanted (least_hours): renew it"
    return True, seen


def span(time: timedelta) -> str:
    """Write how long something lasts: in days and hours, hours and minutes, or seconds."""
    seconds = round(time.total_seconds())
    if seconds < 120:
        return f"{seconds} s"
    minutes, hours = seconds // 60, seconds // 3600
    if hours < 1:
        return f"{minutes} min"
    if hours < 48:
        return f"{hours} h {minutes % 60} min"
    return f"{hours // 24} d {hours % 24} h"
