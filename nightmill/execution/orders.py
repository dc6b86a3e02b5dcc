"""Reading what a worker is given: orders, and the profile of its host."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from pydantic import ValidationError

from nightmill.errors import ConfigError
from nightmill.model.node import NodeProfile
from nightmill.model.order import JobOrder


def read_profile(path: Path) -> NodeProfile:
    """Read a profile.

    Raises
    ------
    ConfigError
        Where it is not one; with the file and the key.
    """
    try:
        return NodeProfile.model_validate_json(path.read_bytes())
    except OSError as error:
        raise ConfigError(f"the profile cannot be read: {error.strerror}", where=str(path)) from None
    except ValidationError as error:
        raise _not_one("a profile of a host", str(path), error) from error


def read_orders(path: Path) -> Iterator[JobOrder]:
    """Read orders, one a line.

    Raises
    ------
    ConfigError
        Where the file cannot be read, or a line is not an order; with the line and the key.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except OSError as error:
        raise ConfigError(f"the orders cannot be read: {error.strerror}", where=str(path)) from None
    for number, line in enumerate(lines, start=1):
        if line.strip():
            try:
                yield JobOrder.model_validate_json(line)
            except ValidationError as error:
                raise _not_one("an order", f"{path}:{number}", error) from error


def _not_one(what: str, where: str, error: ValidationError) -> ConfigError:
    first = error.errors()[0]
    key = ".".join(str(part) for part in first["loc"]) or "the whole"
    return ConfigError(f"this is not {what}: {key}: {first['msg']}", where=where)
