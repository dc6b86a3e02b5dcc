"""Secrets in URLs: referred to by ``${NAME}``, filled in where something is opened, masked where something is told."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final
from urllib.parse import quote

from nightmill.errors import ConfigError

_REFERENCE: Final = re.compile(r"\$(?:\$|\{([^}]*)\})")
_USER: Final = re.compile(r"(?<=://)(?P<user>[^:@/?#\s]*)(?P<password>:[^@\s]+)?@")
_QUERY: Final = re.compile(
    r"(?P<key>[?&;][^=&;#\s]*(?:pass|pwd|secret|token|key|sig|credential|auth)[^=&;#\s]*=)[^&;#\s]+", re.IGNORECASE
)
_TELLING: Final = ("postgresql", "sqlite", "sftp", "ssh")
"""Kinds of URLs whose user is a name; that of any other may be a token."""


def missing(text: str, environment: Mapping[str, str]) -> list[str]:
    """Return the names that a text refers to and the environment does not have."""
    return [name for name in dict.fromkeys(_REFERENCE.findall(text)) if name and name not in environment]


def filled(text: str, environment: Mapping[str, str], *, url: bool = False) -> str:
    """Put in the values of ``${NAMES}``; ``$$`` stands for a dollar sign.

    Parameters
    ----------
    url
        Whether the text is a URL. A value is then quoted for the place where it stands: a password may have any
        character. One that stands at the beginning, before any ``://``, is not: it is (the beginning of) a URL itself.
    """

    def value(match: re.Match[str]) -> str:
        if match[1] is None:
            return "$"
        found = environment.get(match[1], "")
        before, after = text[: match.start()], re.split("[/?#]", text[match.end() :], maxsplit=1)[0]
        scheme, separator, begun = before.partition("://")
        if not (url and separator) or scheme == "sqlite":
            return found
        is_place = "@" not in after and "?" not in begun
        return quote(found, safe="/:" if is_place else "")

    return _REFERENCE.sub(value, text)


def resolved(what: str, url: str, environment: Mapping[str, str]) -> str:
    """Fill in a URL where it is about to be used.

    Raises
    ------
    ConfigError
        Where the environment lacks a name; ``what`` is what the URL is of.
    """
    if lacking := missing(url, environment):
        names = ", ".join(lacking)
        raise ConfigError(
            f"{what} has the URL {masked(url)}, and the environment variable {names} is not set on this host",
            remedy=f"export {lacking[0]}=... where this runs, or write it into the file of secrets there",
        )
    return filled(url, environment, url=True)


def masked(url: str) -> str:
    """Write a URL, or a text with some, without its passwords, tokens and signatures; references stay."""

    def user(match: re.Match[str]) -> str:
        scheme = re.split(r"[^A-Za-z0-9+.-]", url[: match.start()].removesuffix("://"))[-1]
        is_name = match["password"] or scheme.startswith(_TELLING)
        return f"{match['user'] if is_name else _star(match['user'])}{_star(match['password'] or '', ':')}@"

    return _QUERY.sub(lambda match: match["key"] + _star(match[0][len(match["key"]) :]), _USER.sub(user, url))


def has_secret(url: str) -> bool:
    """Whether a password, token or signature stands in a URL itself."""
    return masked(url) != url


def _star(secret: str, begin: str = "") -> str:
    """Mask a secret, but for one that only refers to others."""
    left = secret.removeprefix(begin)
    return secret if not _REFERENCE.sub("", left) else f"{begin}***"
