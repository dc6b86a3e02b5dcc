"""Every verb that tells something tells it to programs, too."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from nightmill.cli import VERBS, app
from tests.cli.conftest import Nightmill
from tests.support.observatory import deliver

SILENT = {
    "demo",
    "calib add",
    "calib certify",
    "calib withdraw",
    "calib pin",
    "errors on",
    "errors off",
    "schema",
    "capsule make",
    "capsule shell",
}
"""Tell no more than that it was done; the demo and shells are for people, and a schema is JSON anyway."""


def commands() -> Iterator[tuple[str, Any]]:
    from typer.main import get_command

    group: Any = get_command(app)
    for verb in VERBS:
        command = group.get_command(None, verb)
        for name, each in getattr(command, "commands", {"": command}).items():
            yield f"{verb} {name}".strip(), each


def test_every_verb_that_tells_something_has_json() -> None:
    without = {name for name, command in commands() if not any("--json" in each.opts for each in command.params)}
    assert without == SILENT


@pytest.mark.parametrize(
    ("arguments", "kind"),
    [
        ("find", list),
        ("find --refused", list),
        ("show cam_0001.fits", dict),
        ("why cam_0001.fits", dict),
        ("lineage cam_0001.fits", list),
        ("calib list", list),
        ("exclude list", list),
        ("errors list", list),
        ("exclude add --exposure 1 --dry-run", dict),
        ("status", list),
        ("record", dict),
        ("recover", dict),
        ("doctor", list),
        ("sql SELECT/**/1", list),
    ],
)
def test_what_is_listed_is_one_json_document(
    folder: Path, nightmill: Nightmill, tmp_path: Path, arguments: str, kind: type
) -> None:
    deliver(tmp_path / "night", 1)
    nightmill("ingest", tmp_path / "night", "--type", "raw_science", "--origin", "raw")
    called = nightmill(*arguments.split(), "--json")
    assert (called.code, type(called.json)) == (0, kind)


def test_a_conductor_that_is_not_there_is_told_with_code_3(folder: Path, nightmill: Nightmill) -> None:
    called = nightmill("server", "status", "--json")
    assert (called.code, called.json["healthy"]) == (3, False)
    (folder / "pipeline.yaml").write_text(
        "pipeline: p\nversion: '1'\n"
        "stages: {s: {per: [], inputs: {f: {type: raw_bias}}, steps: [{name: s, argv: [s]}]}}\n"
    )
    (folder / "first.yaml").write_text("campaign: first\npipeline: pipeline.yaml\n")
    for arguments in (("submit", "first.yaml"), ("rerun", "first")):
        called = nightmill(*arguments)
        assert called.code == 3
        assert "start it with `nightmill server start`" in called.err
    assert nightmill("status", "--json").json == []
