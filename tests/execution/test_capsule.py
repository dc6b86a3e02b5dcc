"""What a capsule holds, read by itself."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from nightmill.errors import ConfigError, RequestRefused
from nightmill.execution.capsule.folder import Capsule


def test_a_path_that_is_not_text(tmp_path: Path) -> None:
    folder = Path(os.fsdecode(os.fsencode(tmp_path) + b"/\xff"))
    folder.mkdir()
    with pytest.raises(RequestRefused, match="of the capsule is not UTF-8; move it to another place"):
        Capsule.open(folder)


@pytest.mark.parametrize("content", [b"", b"\xff", b"[]", b"null", b"{" * 10_000])
def test_an_order_that_is_not_one(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "order.json").write_bytes(content)
    with pytest.raises(ConfigError, match=r"order\.json: this is not an order: the whole: .*; write the capsule anew"):
        Capsule.open(tmp_path)
