"""Servers that tests share, where this machine has their programs."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from typing import TypeVar

import pytest

Server = TypeVar("Server")


@contextmanager
def given(server: AbstractContextManager[Server], unavailable: type[Exception]) -> Iterator[Server]:
    """Give a server as long as tests need it; those that ask for it are skipped where it cannot be started."""
    with ExitStack() as stack:
        try:
            started = stack.enter_context(server)
        except unavailable as why:
            pytest.skip(str(why))
        yield started
