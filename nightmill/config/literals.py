"""Secrets that stand in a nightmill.yaml itself, where references to them should."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from nightmill.config.document import Key, Plain, dotted, load_document
from nightmill.config.site import SITE_FILE
from nightmill.errors import ConfigError
from nightmill.model.secrets import has_secret


def literal_secrets(directory: Path) -> list[ConfigError]:
    """Tell of each password, token and signature that stands in a nightmill.yaml itself."""
    document = load_document(directory / SITE_FILE)

    def told(key: Key, value: Plain) -> Iterator[ConfigError]:
        if isinstance(value, dict):
            for name, each in value.items():
                yield from told((*key, name), each)
        elif isinstance(value, str) and has_secret(f"ssh://{value}@" if key == ("server", "auth") else value):
            yield ConfigError(
                f"{dotted(key)} holds a secret",
                where=document.where(key),
                remedy="write ${NAME} in its place, and export NAME where nightmill runs",
            )

    return [*told((), dict(document.data))]
