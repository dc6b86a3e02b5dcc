"""The size of a file."""

from __future__ import annotations

from nightmill.errors import BadFile
from nightmill.files.reading import StrPath
from nightmill.model.file_type import Checks


def check_size(path: StrPath, size_bytes: int, checks: Checks) -> None:
    """Check the size of a file of any format.

    Raises
    ------
    BadFile
        Where it is ``empty`` or ``too_small``.
    """
    if size_bytes < checks.min_bytes:
        if size_bytes == 0:
            raise BadFile(f"{path} is empty", reason="empty")
        raise BadFile(f"{path} has {size_bytes} of at least {checks.min_bytes} bytes", reason="too_small")
