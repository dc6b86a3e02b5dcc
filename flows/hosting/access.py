"""Who may talk to the Prefect server of a site: its secret, and links that sign a browser in without showing it.

Nothing here imports Prefect.
"""

from __future__ import annotations

import base64
import hmac
import os
import re
import secrets
import struct
import time
from pathlib import Path

from flows.hosting.daemon import keep_text
from nightmill.config.server import NO_AUTH
from nightmill.errors import ConfigError

SIGN_IN_PATH = "/sign-in"
LINK_SECONDS = 12 * 3600.0
"""How long a link signs in: a night, so that one in an old log or in the history of a browser is worth nothing."""
_RANDOM = re.compile(r"nightmill:[\w-]{43}")
_MAC_BYTES = 16


def secret_file(folder: Path) -> Path:
    """Return where the secret of a server is kept, given the folder of the server."""
    return folder / "secret"


def make_secret(folder: Path, configured: str) -> str:
    """Make the secret of a server that is about to start, and keep it in a file that its owner alone can read.

    Parameters
    ----------
    configured
        What the site wants: a secret, nothing for a random one, or :data:`NO_AUTH`. A random one is kept from start to
        start, unless others could have read it.

    Returns
    -------
    str
        ``user:password``, or nothing where everyone is let in.
    """
    file = secret_file(folder)
    if configured == NO_AUTH:
        file.unlink(missing_ok=True)
        return ""
    secret = configured or _kept(file) or f"nightmill:{secrets.token_urlsafe(32)}"
    keep_text(file, f"{secret}\n")
    return secret


def read_secret(folder: Path) -> str:
    """Return ``user:password`` that the server of this folder asks for; nothing where it lets everyone in."""
    try:
        return secret_file(folder).read_text(encoding="ascii").strip("\n")
    except FileNotFoundError:
        return ""


def require_private(file: Path) -> str:
    """Return ``user:password`` that a file has which nobody else can read.

    Its group may read it where it is another user's, as Kubernetes gives secrets to those who are not root.

    Raises
    ------
    ConfigError
        Where others can read it, or it cannot be read.
    """
    try:
        facts = file.stat()
        open_to = facts.st_mode & (0o077 if facts.st_uid == os.getuid() else 0o007)
        text = file.read_text(encoding="ascii").strip()
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "it is not ASCII text"
        raise ConfigError(f"the server's secret cannot be read: {why}", where=str(file)) from error
    if open_to:
        raise ConfigError("others can read the server's secret", where=str(file), remedy=f"chmod 600 {file}")
    return text


def ticket(secret: str) -> str:
    """Return what stands for a secret in a link, for the next :data:`LINK_SECONDS`; it does not tell the secret."""
    expires = struct.pack(">I", int(time.time() + LINK_SECONDS))
    return base64.urlsafe_b64encode(expires + _mac(secret, expires)).decode().rstrip("=")


def is_valid(given: str, secret: str) -> bool:
    """Whether a ticket stands for this secret, and still does."""
    try:
        packed = base64.urlsafe_b64decode(given + "=" * (-len(given) % 4))
    except ValueError:
        return False
    expires, mac = packed[:4], packed[4:]
    if len(expires) < 4 or not secret or not hmac.compare_digest(mac, _mac(secret, expires)):
        return False
    return bool(time.time() < struct.unpack(">I", expires)[0])


def sign_in_url(ui_url: str, secret: str, path: str) -> str:
    """Return a link that signs a browser in and goes on to a page of the UI; that page where everyone is let in."""
    return f"{ui_url}{SIGN_IN_PATH}#{ticket(secret)}{path}" if secret else f"{ui_url}{path}"


def _mac(secret: str, expires: bytes) -> bytes:
    return hmac.digest(secret.encode(), b"sign in until " + expires, "sha256")[:_MAC_BYTES]


def _kept(file: Path) -> str:
    """Return the random secret of the start before, unless others could have read it."""
    try:
        private = file.stat().st_mode & 0o077 == 0
        text = file.read_text(encoding="ascii").strip("\n")
    except (FileNotFoundError, UnicodeDecodeError):
        return ""
    return text if private and _RANDOM.fullmatch(text) else ""
