"""Making a site leaves nothing open where it cannot be ended."""

from __future__ import annotations

from pathlib import Path

import pytest

from nightmill.backbone.database import Database
from nightmill.operations import init
from nightmill.operations.init import make_site


@pytest.mark.parametrize("broken", ["create", "index_keys"])
def test_a_site_that_cannot_be_made_leaves_its_database_closed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, broken: str
) -> None:
    create = Database.create

    def fail(*given: object) -> None:
        if isinstance(given[0], Database):
            create(given[0])
        raise RuntimeError("the power is off")

    monkeypatch.setattr(Database if broken == "create" else init, broken, fail)
    with pytest.raises(RuntimeError, match="power"):
        make_site(tmp_path)
    opened = [leads_to for each in Path("/proc/self/fd").iterdir() if (leads_to := _leads_to(each))]
    assert [path for path in opened if path.startswith(str(tmp_path))] == []


def _leads_to(descriptor: Path) -> str:
    try:
        return str(descriptor.readlink())
    except OSError:
        return ""
