"""What every lookup must do, as tests that a plug-in runs on its own.

A plug-in subclasses :class:`LookupConformance` in its tests and says what it offers::

    from nightmill.testing.lookups import LookupConformance

    class TestBrightest(LookupConformance):
        @pytest.fixture
        def lookup(self):
            return Brightest()

One that asks of files what these candidates do not have overrides :meth:`LookupConformance.candidates`, too; one whose
options have no defaults :meth:`LookupConformance.options`. Each test shows one promise of
:class:`nightmill.model.lookup.Lookup`. Needs pytest.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from copy import deepcopy
from datetime import UTC, datetime, timedelta
from itertools import combinations
from random import Random
from typing import Any, Final

import pytest
from pydantic import ValidationError

from nightmill.model.base import Frozen
from nightmill.model.dimensions import DIMENSIONS, DataId
from nightmill.model.found_file import FoundFile
from nightmill.model.lookup import Candidate, Found, Lookup, Need, Shelf
from nightmill.model.unit import Unit

NIGHT: Final = datetime(2026, 1, 10, 20, tzinfo=UTC)
SHUFFLES: Final = 20


def candidate(
    number: int, days: float | None, *, valid_days: float = 2, rank: int = 0, metadata: dict[str, Any] | None = None
) -> Candidate:
    """Give a calibration some days after the night of the suite; None for one that has no time of its own.

    Parameters
    ----------
    number
        Its ID, and part of its name.
    valid_days
        Its validity range, before and after its time (or that night).
    metadata
        Its metadata beside the dimensions.
    """
    at = None if days is None else NIGHT + timedelta(days=days)
    name = f"bias_{number:02d}.fits"
    data_id: DataId = {"instrument": "nmcam", "detector": 1}
    file = FoundFile(
        number, name, "bias", 100, f"{number:064d}", data_id, at, at, metadata or {}, "backbone", f"raw/{name}"
    )
    middle, span = at or NIGHT, timedelta(days=valid_days)
    return Candidate(file, middle - span, middle + span, rank)


def unit(days: float | None) -> Unit:
    """Give a unit some days after the night of the suite; None for one that has no time."""
    at = None if days is None else NIGHT + timedelta(days=days)
    return Unit(f"exposure={days}", {"instrument": "nmcam", "detector": 1, "exposure": 7}, at, at, ())


class LookupConformance:
    """The promises of a lookup. Override :meth:`lookup`."""

    @pytest.fixture
    def lookup(self) -> Lookup[Any]:
        """Give the lookup."""
        raise NotImplementedError(f"{type(self).__name__} must override the fixture 'lookup'")

    @pytest.fixture
    def options(self, lookup: Lookup[Any]) -> Frozen:
        """Give options for it; by default none is set."""
        made: Frozen = lookup.options()
        return made

    @pytest.fixture
    def candidates(self) -> Sequence[Candidate]:
        """Give candidates of which it chooses: at least for one unit one of them, and not for all units all."""
        days = (-40, -3, -3, -0.5, 2, None)
        return [candidate(number, each, rank=number * 5 % 7) for number, each in enumerate(days, start=1)]

    @pytest.fixture
    def units(self, lookup: Lookup[Any]) -> Sequence[Unit]:
        """Give units to choose for: some have no time, where it does not declare that it needs one."""
        timed = [unit(days) for days in (-400, -3, -1, 0, 1.5, 30, 400)]
        return timed if Need.TIME in lookup.needs else [*timed, unit(None)]

    # ------------------------------------------------------------------------------------ what it declares

    def test_what_it_declares_can_be_used(self, lookup: Lookup[Any], options: Frozen) -> None:
        """It is made without arguments, has a name, leaves known dimensions to time, and speaks in single lines."""
        again = type(lookup)()
        assert isinstance(again, Lookup), "derive it from nightmill.model.lookup.Lookup"
        assert again.name == lookup.name != ""
        assert "strategy" not in lookup.options.model_fields, "that is the key of its name"
        assert set(lookup.needs) <= set(Need)
        assert set(lookup.over_time) <= set(DIMENSIONS)
        for text in (lookup.name, lookup.word, lookup.within(options)):
            assert text == " ".join(text.split()), f"{text!r} is not one line of words"

    def test_its_options_survive_json(self, lookup: Lookup[Any], options: Frozen) -> None:
        """What is sealed with a plan is what is chosen by when the plan is read again."""
        assert isinstance(options, lookup.options)
        assert lookup.options.model_validate_json(options.model_dump_json()) == options
        assert lookup.options.model_validate(json.loads(options.model_dump_json())) == options

    def test_an_unknown_option_is_refused(self, lookup: Lookup[Any], options: Frozen) -> None:
        """A key that is mistyped in a pipeline is told, and not left aside."""
        with pytest.raises(ValidationError, match="no_such_option"):
            lookup.options.model_validate({**options.model_dump(mode="json"), "no_such_option": 1})

    # ----------------------------------------------------------------------------------------- its choice

    def test_it_chooses_at_all(
        self, lookup: Lookup[Any], options: Frozen, candidates: Sequence[Candidate], units: Sequence[Unit]
    ) -> None:
        """For one of the units at least; otherwise the other tests would show nothing."""
        answers = [lookup.choose(options, Shelf(candidates), each) for each in units]
        assert all(isinstance(answer, Found) for answer in answers)
        assert any(answer.files for answer in answers), "override 'candidates' with some of which it chooses"

    def test_the_same_choice_whatever_the_order_and_whatever_was_asked_before(
        self, lookup: Lookup[Any], options: Frozen, candidates: Sequence[Candidate], units: Sequence[Unit]
    ) -> None:
        """Neither the order of the candidates matters, nor that of the units, nor whether it was made just now."""
        first = {each.name: lookup.choose(options, Shelf(candidates), each) for each in units}
        random = Random(1)
        for _ in range(SHUFFLES):
            asked = random.sample(list(units), len(units))
            shelf = Shelf(random.sample(list(candidates), len(candidates)))
            for one in (lookup, type(lookup)()):
                for each in asked:
                    assert one.choose(options, shelf, each) == first[each.name], each.name

    def test_it_chooses_among_its_candidates_alone(
        self, lookup: Lookup[Any], options: Frozen, candidates: Sequence[Candidate], units: Sequence[Unit]
    ) -> None:
        """Once a file is not among the candidates any more, it is not chosen, and no file is chosen twice."""
        for shelf in _shelves(candidates):
            for each in units:
                files = lookup.choose(options, shelf, each).files
                strangers = [file.name for file in files if not shelf.holds(file)]
                assert not strangers, f"{strangers} are not among the candidates {[file.name for file in shelf.files]}"
                assert len({file.id for file in files}) == len(files), "a file was chosen twice"

    def test_it_finds_nothing_among_none(self, lookup: Lookup[Any], options: Frozen, units: Sequence[Unit]) -> None:
        """And does not fail."""
        for each in units:
            assert lookup.choose(options, Shelf(()), each).files == ()

    def test_it_tells_why_or_what_was_near(
        self, lookup: Lookup[Any], options: Frozen, candidates: Sequence[Candidate], units: Sequence[Unit]
    ) -> None:
        """One line says why a file was chosen; where none was though there are candidates, what was near."""
        for shelf in _shelves(candidates):
            for each in units:
                found = lookup.choose(options, shelf, each)
                told, what = (found.rule, "a rule") if found.files else (found.near, "what was near")
                assert told, f"{each.name}: {len(found.files)} files of {len(shelf.files)} and not {what}"
                assert told == " ".join(told.split()), f"{told!r} is not one line of words"

    def test_it_changes_nothing(
        self, lookup: Lookup[Any], options: Frozen, candidates: Sequence[Candidate], units: Sequence[Unit]
    ) -> None:
        """Candidates, units and options are what they were: others choose by them, too."""
        before = deepcopy((list(candidates), list(units), options))
        shelf = Shelf(candidates)
        for each in units:
            lookup.choose(options, shelf, each)
        assert (list(shelf.candidates), list(units), options) == (
            sorted(before[0], key=lambda each: each.file.name),
            *before[1:],
        )


def _shelves(candidates: Sequence[Candidate]) -> Iterator[Shelf]:
    """Yield shelves with all candidates, with one or two fewer, and with one alone."""
    for count in {len(candidates), len(candidates) - 1, len(candidates) - 2, 1} - {0, -1}:
        for some in combinations(candidates, count):
            yield Shelf(some)
