"""How far the Prefect server of a site stands open, as somebody sees it who knows no secret."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import httpx

from flows.hosting import server
from flows.hosting.access import secret_file
from flows.hosting.doors import POLICY
from nightmill.config.server import NO_AUTH, ServerConfig

ANSWER_SECONDS: Final = 5.0
FOREIGN: Final = "nightmill.invalid"
"""A host name that is nobody's."""
AGAIN: Final = "`nightmill server stop`, then start it again"


@dataclass(frozen=True)
class Exposure:
    """One way in: what it is, whether it is shut, and what was seen."""

    what: str
    shut: bool
    seen: str


def exposures(folder: Path, config: ServerConfig) -> Iterator[Exposure]:
    """Look at each way into the server of a folder: what lies there, and what it answers where it runs.

    Raises
    ------
    ServerAway
        Where it belongs to another user.
    """
    found = server.status(folder)
    if not folder.exists():
        return
    for path, most in ((folder, 0o700), (secret_file(folder), 0o600)):
        if path.exists():
            mode = path.stat().st_mode & 0o777
            remedy = "" if mode & ~most == 0 else f", and others can look into it: {AGAIN}, for a new secret"
            yield Exposure(f"mode of {path.name}", not remedy, f"{mode:03o}{remedy}")
    if not found.healthy:
        return
    try:
        yield _secret(found.api_url, config)
        yield from _doors(found.api_url, found.ui_url)
    except httpx.HTTPError as error:
        yield Exposure("Prefect API", False, f"does not answer as it should, and was not looked at further: {error}")


def _secret(api_url: str, config: ServerConfig) -> Exposure:
    what = "Prefect API without its secret"
    status = httpx.get(f"{api_url}/admin/version", timeout=ANSWER_SECONDS).status_code
    if status == httpx.codes.UNAUTHORIZED:
        return Exposure(what, True, "is refused")
    why = f"server.auth is {NO_AUTH!r}" if config.auth == NO_AUTH else f"it was started otherwise: {AGAIN}"
    return Exposure(what, False, f"lets every user of this host run commands as you ({why})")


def _doors(api_url: str, ui_url: str) -> Iterator[Exposure]:
    for header, value in (("Host", FOREIGN), ("Origin", f"http://{FOREIGN}")):
        answer = httpx.get(f"{api_url}/health", headers={header: value}, timeout=ANSWER_SECONDS)
        shut = answer.is_client_error and "access-control-allow-origin" not in answer.headers
        yield Exposure(f"Prefect API, foreign {header}", shut, "is refused" if shut else f"is let in: {AGAIN}")
    page = httpx.get(f"{ui_url}/", timeout=ANSWER_SECONDS, follow_redirects=True)
    name = "Content-Security-Policy"
    shut = page.headers.get(name) == POLICY[name]
    yield Exposure("Prefect UI", shut, "asks this server alone" if shut else f"asks hosts of the internet: {AGAIN}")
