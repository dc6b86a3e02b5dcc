"""``nightmill acts``: what operators did, and the commands that do it again."""

from __future__ import annotations

import shlex
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import update
from typer.main import get_command

from nightmill.backbone.catalogue.exclusions import NewExclusion
from nightmill.backbone.schema import AttemptRow
from nightmill.cli import app
from nightmill.cli.again import words
from nightmill.clock import utc_now
from nightmill.operations.acts import Act, current_user
from nightmill.operations.exclusions import exclude
from nightmill.operations.init import make_site
from nightmill.operations.site import open_site
from tests.cli.conftest import Nightmill
from tests.cli.test_json import commands
from tests.cli.test_operators import ACTS, FOR_ALL, LIMIT_STORE, OF_PROCESSES, SPAN, site
from tests.examples.campaigns import run_again, run_campaign
from tests.support.observatory import FILE_TYPES, deliver

__all__ = ["site"]

READ = {"plans list", "errors list", "errors try", "exclude list", "calib list", "calib report", "calib contexts"}
"""Verbs of verbs that change something, and that change nothing themselves."""
FOG = ("--why", "fog")
LOST = ("record", "--host-lost", "node7", "--why", "its mainboard burnt")


def parsed(line: list[str]) -> Any:
    """Parse the words after ``nightmill`` as the command line does; return the context of the verb."""
    group: Any = get_command(app)
    context = group.make_context("nightmill", list(line), resilient_parsing=False)
    while line := [*context._protected_args, *context.args]:
        name, command, left = context.command.resolve_command(context, line)
        context = command.make_context(name, left, parent=context)
        if not hasattr(command, "commands"):
            break
    return context


@pytest.mark.req("F46")
@pytest.mark.parametrize("line", [*ACTS.values(), LIMIT_STORE, LOST], ids=shlex.join)
def test_every_command_that_acts_can_be_typed_again(line: tuple[str, ...]) -> None:
    typed = parsed(list(line))
    again = parsed(list(words(typed)[1:]))
    assert words(again) == words(typed)
    given = {
        key: [*map(absolute, value)] if isinstance(value, list) else absolute(value)
        for key, value in typed.params.items()
    }
    assert again.params == given


def absolute(value: object) -> object:
    return value.absolute() if isinstance(value, Path) else value


def test_every_verb_acts_or_asks_or_starts_processes() -> None:
    """A new verb that changes something belongs into ``ACTS``, with a command line of it."""
    beside = FOR_ALL | OF_PROCESSES
    acting = {name for name, _ in commands() if name.split()[0] not in beside}
    assert acting - READ == set(ACTS)


def test_what_was_said_is_said_again_and_no_more(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    ingest = ["ingest", "--site", "x", "--json", "--origin", "raw", "--follow-links", "--", "night", "-odd", "a b"]
    assert words(parsed(ingest)) == (
        *("nightmill", "ingest", "--origin", "raw", "--follow-links"),
        *(str(tmp_path / name) for name in ("night", "-odd", "a b")),
    )
    assert words(parsed(["retype", "--type", "dark", "--why", "w", "--", "-odd"]))[-2:] == ("--", "-odd")
    assert words(parsed(["init"])) == ("nightmill", "init", str(tmp_path))
    secret = words(parsed(["init", "--database", "postgresql+psycopg://ada:hush@host/db"]))
    assert secret[3] == "postgresql+psycopg://ada:***@host/db"
    assert words(parsed(["retype", "bad\udcff.fits", "--type", "dark", "--why", "w"]))[-1] == r"bad\xff.fits"


@pytest.mark.req("F46")
def test_the_acts_of_one_site_make_another_the_same(
    folder: Path, tmp_path: Path, nightmill: Nightmill, monkeypatch: pytest.MonkeyPatch
) -> None:
    deliver(tmp_path / "night", 3)
    for line in (
        ACTS["ingest"],
        ("calib", "add", "cam_0001.fits", "cam_0003.fits", "--set", "ccd", "--why", "clear", *SPAN),
        ACTS["calib certify"],
        ACTS["calib pin"],
        ("calib", "withdraw", "cam_0003.fits", "--set", "ccd", "--why", "it's noisy"),
        ("retype", "cam_0002.fits", "--type", "raw_bias", "--why", "the shutter was shut"),
        ("withdraw", "cam_0003.fits", "--why", "of another telescope"),
        ("exclude", "add", "cam_0001.fits", "--part", "im07", "--campaign", "first", "--why", 'dead; "quite"'),
        (
            "exclude",
            "add",
            "--where",
            "exposure in [2, 3]",
            "--type",
            "raw_bias",
            "--until",
            "2040-01-01",
            "--why",
            "fog",
        ),
        ("exclude", "lift", "1", "--why", "mended"),
    ):
        assert nightmill(*line).code == 0
    asked = (
        ("find", "--json"),
        ("exclude", "list", "--all", "--json"),
        ("calib", "list", "--json"),
        ("calib", "contexts", "--json"),
    )
    before = [timeless(nightmill(*line).json) for line in asked]
    acts = nightmill("acts", "--json").json
    lines = nightmill("acts").out.splitlines()[1:]
    assert [shlex.split(line.split("\t")[-1]) for line in lines] == [act["command"] for act in acts]

    (tmp_path / "types.yaml").write_text(FILE_TYPES)
    make_site(tmp_path / "second", file_types=tmp_path / "types.yaml").close()
    monkeypatch.chdir(tmp_path / "second")
    for act in acts[1:]:
        called = nightmill(*act["command"][1:])
        assert called.code == 0, (act, called.err)
    assert [timeless(nightmill(*line).json) for line in asked] == before
    assert [shlex.join(act["command"]) for act in nightmill("acts", "--json").json[1:]] == [
        shlex.join(act["command"]) for act in acts[1:]
    ]


def timeless(value: Any) -> Any:
    if isinstance(value, list):
        return [timeless(each) for each in value]
    if isinstance(value, dict):
        return {key: timeless(each) for key, each in value.items() if not key.endswith("at")}
    return value


@pytest.mark.req("F50", "F46")
def test_acts_are_listed_and_interventions_counted(site: Path, nightmill: Nightmill, tmp_path: Path) -> None:
    assert nightmill("acts", "--figure", "--json").json == [
        {"campaign": None, "interventions": 0, "jobs": 0, "per_1000_jobs": None}
    ]
    deliver(tmp_path / "night", 4)
    assert nightmill(*ACTS["ingest"]).code == 0
    with open_site(site) as opened:
        run_campaign(opened, site / "first.yaml")
        for _ in range(2):
            run_again(opened, "first")
        Act.begin(opened, "hold").write("first/copy/exposure=1", lambda _: None)
    for of in (("--campaign", "first"), ()):
        assert nightmill("exclude", "add", "--exposure", "9", *of, *FOG).code == 0
    assert nightmill("calib", "add", "cam_0001.fits", "--set", "first", "--why", "w", *SPAN).code == 0

    found = nightmill("acts", "--campaign", "first", "--json").json
    assert [(act["verb"], act["command"] is None) for act in found] == [
        *(("submit", True), ("rerun", True), ("rerun", True), ("hold", True)),
        ("exclude add", False),
    ]
    mine = nightmill("acts", "--who", current_user(), "--verb", "exclude", "--json").json
    assert [act["detail"]["campaign"] for act in mine] == ["first", ""]
    assert nightmill("acts", "--since", "2040-01-01", "--json").json == []
    assert nightmill("acts", "--until", "2020-01-01").out == "at\twho\tverb\tsubject\twhy\tagain\n"

    of_first = {"campaign": "first", "interventions": 4, "jobs": 4, "per_1000_jobs": 1000.0}
    assert nightmill("acts", "--figure", "--json").json == [of_first, of_first | {"campaign": None}]
    table = nightmill("acts", "--figure", "--campaign", "first").out.splitlines()
    assert table == ["campaign\tinterventions\tjobs\tper 1,000 jobs", "first\t4\t4\t1000.00"]
    with open_site(site) as opened:
        past = update(AttemptRow).values(ended_at=utc_now() - timedelta(days=40))
        opened.database.write(lambda session: session.execute(past))
    month = (utc_now() - timedelta(days=30)).isoformat()
    [recent, _] = nightmill("acts", "--figure", "--since", month, "--json").json
    assert (recent["interventions"], recent["jobs"], recent["per_1000_jobs"]) == (4, 0, None)


def test_who_asks_for_what_is_not_there_is_told(folder: Path, nightmill: Nightmill) -> None:
    for line, told in {
        ("--campaign", "fist"): "no campaign named 'fist'",
        ("--verb", "ini"): "no verb of an act named 'ini' (did you mean 'init'?)",
        ("--who", "grace"): "no operator with an act named 'grace'",
        ("--figure", "--campaign", "fist"): "no campaign named 'fist'",
        ("--figure", "--who", "ada"): "--figure counts the acts of all",
        ("--since", "soon"): "--since 'soon' is not a time",
    }.items():
        called = nightmill("acts", *line)
        assert (called.code, called.out) == (2, "")
        assert told in called.err


def test_a_program_that_acts_leaves_no_command(folder: Path, nightmill: Nightmill) -> None:
    assert nightmill("exclude", "add", "--exposure", "1", *FOG).code == 0
    with open_site(folder) as opened:
        exclude(opened, NewExclusion(expression="exposure == 2", written="--exposure 2"), why="fog")
    last = nightmill("acts", "--json").json[-1]
    assert (last["verb"], last["command"], last["detail"]["number"]) == ("exclude add", None, 2)
