"""Shells for the pages of the documentation."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.docs.shell import Shell, stop_servers


@pytest.fixture
def empty(tmp_path: Path, prefect_template: Path) -> Iterator[Shell]:
    """Give a shell in an empty folder, with the installed program."""
    shell = Shell(tmp_path, prefect=prefect_template)
    yield shell
    stop_servers(shell)
