"""The lookups of nightmill keep what every lookup promises, and the suite finds those that do not."""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Sequence
from typing import Any

import pytest
from pydantic import ConfigDict

from nightmill.model.base import Frozen
from nightmill.model.lookup import Candidate, Found, Lookup, Shelf
from nightmill.model.unit import Unit
from nightmill.planning.lookups.listed import Listed
from nightmill.planning.lookups.nearest import Nearest
from nightmill.planning.lookups.options import NoFiles, OwnOptions
from nightmill.planning.lookups.valid import Valid
from nightmill.testing.lookups import LookupConformance, candidate, unit


class TestNearest(LookupConformance):
    @pytest.fixture
    def lookup(self) -> Lookup[Any]:
        return Nearest()


class TestNearestWithin(LookupConformance):
    @pytest.fixture
    def lookup(self) -> Lookup[Any]:
        return Nearest()

    @pytest.fixture
    def options(self) -> Frozen:
        return NoFiles(max_days=2.5)


class TestValid(LookupConformance):
    @pytest.fixture
    def lookup(self) -> Lookup[Any]:
        return Valid()


class TestListed(LookupConformance):
    @pytest.fixture
    def lookup(self) -> Lookup[Any]:
        return Listed()

    @pytest.fixture
    def options(self) -> Frozen:
        return OwnOptions(files=("bias_01.fits", "bias_02.fits"))


class _First(Lookup[OwnOptions]):
    """Keeps every promise."""

    name = "first"
    options = OwnOptions

    def choose(self, options: OwnOptions, shelf: Shelf, unit: Unit) -> Found:
        return Found(shelf.files[:1], "the first by name") if shelf.files else Found()


class _Loose(Frozen):
    model_config = ConfigDict(extra="ignore")


class _LooseOptions(_First):
    options = _Loose  # type: ignore[assignment]


class _Silent(_First):
    def choose(self, options: OwnOptions, shelf: Shelf, unit: Unit) -> Found:
        return Found()


class _SaysNotWhy(_First):
    def choose(self, options: OwnOptions, shelf: Shelf, unit: Unit) -> Found:
        return Found(shelf.files[:1])


class _TakesTurns(_First):
    def __init__(self) -> None:
        self.asked = 0

    def choose(self, options: OwnOptions, shelf: Shelf, unit: Unit) -> Found:
        self.asked += 1
        count = len(shelf.files) or 1
        return Found(shelf.files[self.asked % count :][:1], "whose turn it is")


class _Remembers(_First):
    def __init__(self) -> None:
        self.seen: dict[str, Found] = {}

    def choose(self, options: OwnOptions, shelf: Shelf, unit: Unit) -> Found:
        return self.seen.setdefault(unit.name, super().choose(options, shelf, unit))


class _Fails(_First):
    def choose(self, options: OwnOptions, shelf: Shelf, unit: Unit) -> Found:
        return Found((shelf.files[0],), "the first by name")


class _Scribbles(_First):
    def choose(self, options: OwnOptions, shelf: Shelf, unit: Unit) -> Found:
        for each in shelf.candidates:
            each.file.data_id["seen"] = 1  # type: ignore[index]
        return super().choose(options, shelf, unit)


class _Elsewhen(_First):
    over_time = frozenset({"moon"})


def broken(lookup: Lookup[Any]) -> Iterator[str]:
    """Yield the promises that a lookup breaks."""
    suite = LookupConformance()
    candidates: Sequence[Candidate] = [candidate(number, number) for number in range(1, 5)]
    given = {
        "lookup": lookup,
        "options": lookup.options(),
        "candidates": candidates,
        "units": [unit(0), unit(1), unit(None)],
    }
    for name, test in inspect.getmembers(suite, inspect.ismethod):
        if name.startswith("test_"):
            try:
                test(**{each: given[each] for each in inspect.signature(test).parameters})
            except (AssertionError, IndexError, pytest.fail.Exception):
                yield name


@pytest.mark.parametrize(
    ("kind", "promise"),
    [
        (_LooseOptions, "test_an_unknown_option_is_refused"),
        (_Silent, "test_it_chooses_at_all"),
        (_SaysNotWhy, "test_it_tells_why_or_what_was_near"),
        (_TakesTurns, "test_the_same_choice_whatever_the_order_and_whatever_was_asked_before"),
        (_Remembers, "test_it_chooses_among_its_candidates_alone"),
        (_Fails, "test_it_finds_nothing_among_none"),
        (_Scribbles, "test_it_changes_nothing"),
        (_Elsewhen, "test_what_it_declares_can_be_used"),
    ],
)
def test_a_broken_promise_is_found(kind: type[_First], promise: str) -> None:
    assert list(broken(_First())) == []
    assert promise in set(broken(kind()))
