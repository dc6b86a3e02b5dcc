"""Folders that processes have to themselves on a host, and what is done with those of processes that died."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Final

from pydantic import ValidationError

from nightmill.execution.owner import is_alive, this_process
from nightmill.model.journal import Owner

OWNER: Final = ".owner"
"""In such a folder: the process that it belongs to."""
_LONGEST: Final = 4096


def claim_folder(folder: Path) -> None:
    """Say in a new folder that it belongs to this process."""
    descriptor = os.open(folder / OWNER, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644)
    with open(descriptor, "w", encoding="utf-8") as file:  # noqa: PTH123 - a descriptor
        file.write(this_process().model_dump_json())


def abandoned(root: Path) -> Iterator[Path]:
    """Yield the folders in a folder that belong to processes of this host which are dead, as far as can be told."""
    with suppress(OSError):
        for folder in sorted(root.iterdir()):
            owner = _owner_of(folder)
            if owner is not None and is_alive(owner) is False:
                yield folder


def _owner_of(folder: Path) -> Owner | None:
    """Read whose a folder is; None where it does not tell. What a step put in its place is not followed."""
    with suppress(OSError, ValidationError):
        descriptor = os.open(folder / OWNER, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
        with open(descriptor, "rb") as file:  # noqa: PTH123 - a descriptor
            return Owner.model_validate_json(file.read(_LONGEST))
    return None
