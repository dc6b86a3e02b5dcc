"""The checks that compare an output with what it was made of, and those by a program of one's own."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from pathlib import Path

import pytest
from pydantic import JsonValue, ValidationError

from nightmill.errors import BadFile, PluginFault
from nightmill.files.checks.command import Command, Program
from nightmill.files.checks.conserves import Conserves
from nightmill.files.checks.like_input import LikeInput
from nightmill.files.inspection import inspect_file
from nightmill.model.content import StepInput
from nightmill.model.file_type import FileType
from nightmill.testing.checks import Case, CheckConformance
from nightmill.testing.formats import open_files
from tests.files.frames import fits_bytes
from tests.files.test_checks import image, write
from tests.files.test_table_checks import stars


def given(role: str, *paths: Path) -> tuple[StepInput, ...]:
    return tuple([StepInput(path.name, role, role, str(path)) for path in paths])


class TestLikeInput(CheckConformance):
    check = LikeInput

    @pytest.fixture
    def cases(self, tmp_path: Path) -> Sequence[Case]:
        raw = given("raw", write(tmp_path / "a", b"x" * 100), write(tmp_path / "b", b"x" * 200))
        made = write(tmp_path / "made", b"x" * 150)
        return [
            Case(made, {"role": "raw", "min": 0.75, "max": 1.5}, format="any", inputs=raw),
            Case(made, {"role": "raw", "min": 0.76}, "other_size", format="any", inputs=raw),
            Case(made, {"role": "raw", "max": 1.4}, "other_size", format="any", inputs=raw),
            Case(made, {"role": "flat", "max": 9}, "no_input", format="any", inputs=raw),
        ]


class TestConserves(CheckConformance):
    check = Conserves

    @pytest.fixture
    def cases(self, tmp_path: Path) -> Sequence[Case]:
        (tmp_path / "in").mkdir()
        one, more = stars(tmp_path / "in"), stars(tmp_path / "in", "csv")
        merged = stars(tmp_path, id=[1, 2, 3, 4, 5, 6], flux=[1.0] * 6, name=["a"] * 6)
        two, frames = (
            given("cats", one, one),
            given("raw", image(tmp_path / "r1", (4, 4)), image(tmp_path / "r2", (4, 4))),
        )
        mef = write(tmp_path / "mef", fits_bytes({}, {"EXTNAME": "A"}, {"EXTNAME": "B"}))
        return [
            Case(merged, {"rows": "cats"}, inputs=two),
            Case(merged, {"rows": "cats", "input_format": "csv"}, inputs=given("cats", more, more)),
            Case(one, {"rows": "cats", "compare": "<="}, inputs=two),
            Case(one, {"rows": "cats", "tolerance": 0.5}, inputs=two),
            Case(merged, {"files": "cats"}, "not_conserved", inputs=two),
            Case(mef, {"files": "raw", "counted": "hdus"}, inputs=frames),
            Case(mef, {"files": "raw", "counted": "hdus"}, "not_conserved", inputs=frames[:1]),
            Case(image(tmp_path / "i", (4, 4)), {"hdus": "raw", "tolerance": 0.5}, inputs=frames),
            Case(one, {"rows": "cats"}, "not_conserved", inputs=two),
            Case(one, {"rows": "cats", "compare": ">=", "tolerance": 0.4}, "not_conserved", inputs=two),
            Case(merged, {"rows": "raw"}, "no_input", inputs=two),
        ]


LONG = "import sys; text = open(sys.argv[1], 'rb').read(); print('looking'); sys.exit(len(text) > 10 and 'too long')"


class TestCommand(CheckConformance):
    check = Command

    @pytest.fixture
    def cases(self, tmp_path: Path) -> Sequence[Case]:
        short, long = write(tmp_path / "short", b"a"), write(tmp_path / "long", b"a" * 11)
        same: JsonValue = {"argv": ["cmp", "{file}", "{inputs.raw}"]}
        return [
            Case(short, {"argv": ["{python}", "-c", LONG, "{file}"]}, format="any"),
            Case(long, {"argv": ["{python}", "-c", LONG, "{file}"]}, "command_failed", format="any"),
            Case(short, same, format="any", inputs=given("raw", short)),
            Case(short, same, "command_failed", format="any", inputs=given("raw", long)),
            Case(short, same, "no_input", format="any"),
        ]

    def test_threads_do_not_disturb_each_other(self, cases: Sequence[Case]) -> None:
        """With a process for each look, a few tell as much as many."""
        super().test_threads_do_not_disturb_each_other(cases[:2])


def run(path: Path, *argv: str, **options: object) -> None:
    Case(path, {"argv": list(argv), **options}, format="any").look(Command)  # type: ignore[dict-item]


@pytest.fixture
def notes(tmp_path: Path) -> Path:
    return write(tmp_path / "notes.txt", b"some notes")


def test_the_message_is_what_the_program_said_last(notes: Path) -> None:
    with pytest.raises(BadFile) as caught:
        run(notes, "sh", "-c", "echo one; echo two; echo three >&2; echo; printf 'fo\\033ur'; exit 3")
    assert str(caught.value) == (
        "the_name.xyz: sh exited with 3 and said two; three; fo\ufffdur; look at the file; the last lines of what the"
        " program says are its reason"
    )
    with pytest.raises(BadFile, match="sh was ended by SIGSEGV and said nothing"):
        run(notes, "sh", "-c", "kill -SEGV $$")
    with pytest.raises(BadFile, match="said y; y; y"):
        run(notes, "sh", "-c", "yes | head -c 3000000; exit 1")


def test_a_program_has_an_empty_folder_and_a_clean_environment(notes: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SECRET", "hush")
    run(notes, "sh", "-c", 'test -z "$(ls -A)" && test "$PWD" = "$HOME" && test "$TMPDIR" = "$HOME" && echo x > made')
    run(notes, "sh", "-c", 'test -z "$SECRET" && test "$LEVEL" = 3', environment={"LEVEL": "3"})
    run(notes, "sh", "-c", 'test "$(basename "$1")" = the_name.xyz && grep -q notes "$1"', "sh", "{file}")
    run(notes, "test", "{{file}}", "=", "{{file}}")


def test_a_program_that_hangs_or_is_not_there_is_a_fault_and_leaves_nothing(notes: Path, tmp_path: Path) -> None:
    file_type = FileType.model_validate(
        {"name": "n", "checks": {"command": {"argv": ["sh", "-c", "sleep 60 & sleep 60"], "timeout_seconds": 0.3}}}
    )
    begun = time.monotonic()
    with pytest.raises(PluginFault) as caught:
        inspect_file(notes, file_type)
    assert str(caught.value) == (
        f"the program sh that looks at {notes} had not ended after 0.3 s; raise timeout_seconds of check 'command'"
        " in its type, if the program is well"
    )
    assert time.monotonic() - begun < 30
    run(notes, "sh", "-c", f"(sleep 0.5; echo late > {tmp_path}/late) & exit 0")
    time.sleep(0.8)
    assert not (tmp_path / "late").exists()
    with pytest.raises(PluginFault, match=r"no-such-program that is to look at the_name\.xyz cannot be started: No"):
        run(notes, "no-such-program")


def test_a_program_that_changes_what_it_looks_at_is_found_out(notes: Path, tmp_path: Path) -> None:
    with pytest.raises(BadFile) as caught:
        run(notes, "sh", "-c", 'echo more >> "$1"', "sh", "{file}")
    assert caught.value.reason == "changed"
    assert "the_name.xyz, or an input of its step, was changed by the program sh" in str(caught.value)
    raw = write(tmp_path / "raw", b"raw")
    touching: JsonValue = {"argv": ["sh", "-c", 'echo more >> "$1"', "sh", "{inputs.raw}"]}
    case = Case(notes, touching, format="any", inputs=given("raw", raw))
    with pytest.raises(BadFile, match="was changed by the program sh"):
        case.look(Command)


def test_a_program_of_the_pipeline_is_asked_where_a_step_made_the_file(notes: Path, tmp_path: Path) -> None:
    (tmp_path / "bundle").mkdir()
    (tmp_path / "bundle/check.py").write_text("import sys; sys.exit('no good')")
    wanted = {"argv": ["{python}", "{pipeline_dir}/check.py"]}
    file_type = FileType.model_validate({"name": "n", "checks": {"command/own": wanted}})
    inspect_file(notes, file_type)
    with pytest.raises(BadFile, match=f"{Path(sys.executable).name} exited with 1 and said no good"):
        inspect_file(notes, file_type, inputs=(), pipeline_dir=str(tmp_path / "bundle"))
    with pytest.raises(PluginFault, match="there is none: no bundle was packed"):
        inspect_file(notes, file_type, inputs=())


def test_places_that_are_not_known_are_refused() -> None:
    wrong = [(["a", "{fil}"], "and {fil} is in it"), (["a", "x{inputs.b}"], "alone: not 'x"), ([], "at least 1")]
    for argv, told in wrong:
        with pytest.raises(ValidationError, match=told):
            Program.model_validate({"argv": argv})


def test_nothing_is_left_open(notes: Path) -> None:
    before = open_files()
    for _ in range(3):
        run(notes, "true")
    assert open_files() == before
