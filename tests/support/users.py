"""Being somebody else than root."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory


@contextmanager
def ordinary_user() -> Iterator[Path]:
    """Be a user whom permissions bind, with a folder of their own."""
    with TemporaryDirectory() as folder:
        Path(folder).chmod(0o777)
        before = os.geteuid()
        os.setresuid(before or 65534, before or 65534, -1)
        try:
            yield Path(folder)
        finally:
            os.setresuid(before, before, -1)
