"""What every check must do, as tests that a plug-in runs on files of its own.

A plug-in subclasses :class:`CheckConformance` in its tests, and gives files that may pass and files that may not::

    from nightmill.testing.checks import Case, CheckConformance

    class TestRound(CheckConformance):
        check = Round

        @pytest.fixture
        def cases(self, tmp_path):
            ...
            return [Case(good), Case(bad, refused="not_round"), Case(bad, options={"max_ellipticity": 0.9})]

Each test shows one promise of :class:`nightmill.model.ports.Check`. Needs pytest.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import pytest
from pydantic import JsonValue, RootModel, ValidationError

from nightmill.errors import BadFile, PluginFault
from nightmill.files.checksum import fingerprint
from nightmill.files.formats import open_format
from nightmill.model.content import Candidate, Metadata, StepInput
from nightmill.model.ports import Check, CheckClass
from nightmill.testing.formats import open_files


@dataclass(frozen=True)
class Case:
    """A file, and what is to become of it.

    Parameters
    ----------
    path
        Of a file whose format takes it.
    options
        As a file type says them.
    refused
        The reason of its refusal; empty where it may pass.
    inputs
        What the step read that made it, where the check compares.
    """

    path: Path
    options: JsonValue = None
    refused: str = ""
    format: str = "fits"
    inputs: Sequence[StepInput] = ()
    metadata: Metadata = Metadata()  # noqa: RUF009 - it is frozen

    def look(self, check: CheckClass) -> None:
        """Let a check look at the file, as an inspection does: by a path that is not its name."""
        with self.path.open("rb") as file:
            content = open_format(self.format).read(self.path, descriptor=file.fileno())
            there = f"/proc/{os.getpid()}/fd/{file.fileno()}"
            sha256 = fingerprint(self.path)[1]
            candidate = Candidate("the_name.xyz", there, content, lambda: self.metadata, self.format, sha256)
            made = self.made(check)
            look: Callable[..., object] = made.look
            answer = look(candidate, self.inputs if getattr(made, "is_comparing", check.compares) else ())
            assert answer is None, "a check refuses by an error: what it returns is not looked at"
            os.fstat(file.fileno())

    def made(self, check: CheckClass) -> Check:
        """Make the check with its options."""
        return check(check.Options.model_validate({} if self.options is None else self.options))


class CheckConformance:
    """The promises of a check. Set ``check`` and override :meth:`cases`."""

    check: ClassVar[CheckClass]

    @pytest.fixture
    def cases(self, tmp_path: Path) -> Sequence[Case]:
        """Give at least one file that may pass and one that may not."""
        raise NotImplementedError(f"{type(self).__name__} must override the fixture 'cases'")

    def test_some_files_may_pass_and_some_may_not(self, cases: Sequence[Case]) -> None:
        """A check that never refuses anything shows nothing here."""
        assert {bool(case.refused) for case in cases} == {True, False}

    def test_good_files_pass_and_bad_ones_are_refused(self, cases: Sequence[Case]) -> None:
        """With the reason, a word that will stay, and a message that names the file as people know it."""
        for case in cases:
            if not case.refused:
                case.look(self.check)
                continue
            with pytest.raises(BadFile) as caught:
                case.look(self.check)
            assert caught.value.reason == case.refused
            assert re.fullmatch("[a-z][a-z0-9_]*", case.refused)
            assert "the_name.xyz" in caught.value.message
            assert "/proc/" not in str(caught.value)

    def test_options_are_frozen_and_refuse_what_they_do_not_know(self, cases: Sequence[Case]) -> None:
        """And become JSON and come back as they were."""
        options = self.check.Options
        assert options.model_config.get("frozen") is True
        if not issubclass(options, RootModel):
            with pytest.raises(ValidationError):
                options.model_validate({"nightmill_does_not_know_this": 1})
        for case in cases:
            made = options.model_validate({} if case.options is None else case.options)
            assert options.model_validate_json(made.model_dump_json()) == made
            assert json.loads(json.dumps(case.options)) == case.options

    def test_the_formats_that_it_can_look_at_are_names(self, cases: Sequence[Case]) -> None:
        """And those of the cases are among them."""
        assert isinstance(self.check.formats, tuple)
        for case in cases:
            assert not self.check.formats or case.format in self.check.formats

    def test_looking_changes_and_leaves_nothing(self, cases: Sequence[Case]) -> None:
        """Neither the file nor what is open."""
        for case in cases:
            before = case.path.read_bytes(), case.path.stat().st_mtime_ns
            opened = open_files()
            self._look(case)
            assert (case.path.read_bytes(), case.path.stat().st_mtime_ns) == before
            assert open_files() == opened

    def test_threads_do_not_disturb_each_other(self, cases: Sequence[Case]) -> None:
        """Looking often and at once gives the same."""
        with ThreadPoolExecutor(8) as pool:
            for case in cases:
                assert set(pool.map(lambda _, case=case: self._look(case), range(16))) == {case.refused}

    def test_without_inputs_a_check_that_compares_refuses(self, cases: Sequence[Case]) -> None:
        """It says what it lacks, and does not pass what it could not look at."""
        if self.check.compares:
            for case in cases:
                with pytest.raises(BadFile) as caught:
                    Case(case.path, case.options, format=case.format, metadata=case.metadata).look(self.check)
                assert not isinstance(caught.value, PluginFault)

    def _look(self, case: Case) -> str:
        try:
            case.look(self.check)
        except BadFile as error:
            return error.reason
        return ""
