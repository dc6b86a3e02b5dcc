"""What ``nightmill server start`` refuses before it starts anything."""

from __future__ import annotations

from pathlib import Path

import pytest

from nightmill.operations.site import open_site
from tests.cli.conftest import Nightmill


@pytest.mark.parametrize("revision", ["0001", "9999"])
def test_a_catalogue_of_another_release_is_refused(each_folder: Path, nightmill: Nightmill, revision: str) -> None:
    with open_site(each_folder) as site, site.database.engine.connect().execution_options(write=True) as connection:
        wanted = connection.exec_driver_sql("SELECT version_num FROM alembic_version").scalar_one()
        connection.exec_driver_sql(f"UPDATE alembic_version SET version_num = '{revision}'")
        connection.commit()
    called = nightmill("server", "start")
    assert called.code == 2
    assert f"has schema revision {revision}, this program needs {wanted}; run 'nightmill init' in the" in called.err
    assert not (each_folder / ".nightmill/server").exists()
    assert "does not run" in nightmill("doctor").out


def test_a_catalogue_that_is_not_there_is_refused(folder: Path, nightmill: Nightmill) -> None:
    written = (folder / "nightmill.yaml").read_text()
    (folder / "nightmill.yaml").write_text(written.replace("database: ", "database: sqlite:///gone.db #"))
    called = nightmill("server", "start")
    assert called.code == 2
    assert "has no catalogue in it; bring it back where it was moved away; for a new one run 'nightmill" in called.err
