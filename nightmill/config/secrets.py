"""Secrets of a host: what ``${NAME}`` in the URL of a store stands for, from where no step has it.

A step inherits neither the environment nor the descriptors of its worker. It runs as the same user all the same: only
what confines it keeps it from reading the file.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from nightmill.errors import ConfigError

MODE: Final = 0o600


def known_secrets(file: Path) -> Mapping[str, str]:
    """Return the environment, with what a file of secrets has in its place where there is one for this user."""
    try:
        is_there = file.exists()
    except PermissionError:  # its folder is another user's, who has shut it
        is_there = False
    return {**os.environ, **(read_secrets(file) if is_there else {})}


def read_secrets(source: Path | int) -> Mapping[str, str]:
    """Read secrets: ``NAME=VALUE`` a line, as it stands; empty lines and those that begin with ``#`` are passed over.

    Parameters
    ----------
    source
        A file that only its owner can read, or an open descriptor, which is closed.

    Raises
    ------
    ConfigError
        Where it cannot be read, others can read it, or a line has no name.
    """
    where = str(source) if isinstance(source, Path) else f"descriptor {source}"
    try:
        with open(source, encoding="utf-8") as file:  # noqa: PTH123 - a descriptor is not a path
            facts = os.fstat(file.fileno())
            if isinstance(source, Path) and (stat.S_IMODE(facts.st_mode) & 0o077 or facts.st_uid != os.getuid()):
                raise ConfigError(
                    "others than its owner can read it, or it is another user's",
                    where=where,
                    remedy=f"chmod {MODE:o} {source}, and change the secrets in it",
                )
            lines = file.read().splitlines()
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "it is not text"
        raise ConfigError(f"the secrets cannot be read: {why}", where=where) from error
    found = {}
    for number, line in enumerate(lines, start=1):
        if line.strip() and not line.startswith("#"):
            name, separator, value = line.partition("=")
            if not separator or not name.strip().isidentifier():
                raise ConfigError("the line is not NAME=VALUE", where=f"{where}:{number}")
            found[name.strip()] = value
    return found
