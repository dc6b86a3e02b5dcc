from __future__ import annotations

import random
from datetime import datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nightmill.model.lookup import Candidate, Found, Shelf
from nightmill.model.pipeline import LookupSetting
from nightmill.model.unit import Unit
from nightmill.planning.lookups.bound import bind
from nightmill.planning.lookups.index import Agreement, Index
from nightmill.planning.lookups.nearest import DAY_SECONDS
from tests.planning.world import NIGHT, found


def unit(at: datetime | None = NIGHT, **data_id: str | int) -> Unit:
    return Unit("u", data_id, at, at, ())


def after(days: float) -> datetime:
    return NIGHT + timedelta(days=days)


def bias(number: int, days: float | None, *, name: str = "", **data_id: str | int) -> Candidate:
    file = found(number, name=name, at=None if days is None else after(days))
    return Candidate(file._replace(data_id=data_id))


def look_up(strategy: str, shelf: Shelf, of: Unit, **options: object) -> Found:
    return bind(LookupSetting.model_validate({"strategy": strategy, **options})).choose(shelf, of)


def nearest(candidates: list[Candidate], max_days: float | None = None, at: datetime | None = NIGHT) -> Found:
    return look_up("nearest", Shelf(candidates), unit(at), max_days=max_days)


@pytest.mark.parametrize(
    ("days", "chosen", "rule"),
    [
        ([-2.0, -0.4, 3.0], 1, "0.4 d before, of 3 candidates"),
        ([-2.0, 1.5], 1, "1.5 d after, of 2 candidates"),
        ([5.0], 0, "5.0 d after, the only candidate"),
        ([-0.01, 7.0], 0, "0.2 h before, of 2 candidates"),
        ([0.0, 1.0], 0, "at the same time, of 2 candidates"),
        ([1.0, -1.0], 1, "1.0 d before, of 2 candidates"),
    ],
)
def test_nearest_in_time(days: list[float], chosen: int, rule: str) -> None:
    result = nearest([bias(number, each) for number, each in enumerate(days)])
    assert [file.id for file in result.files] == [chosen]
    assert result.rule == rule


def test_of_two_at_the_same_time_the_first_by_name() -> None:
    result = nearest([bias(1, -1, name="b.fits"), bias(2, -1, name="a.fits"), bias(3, -1, name="c.fits")])
    assert [file.name for file in result.files] == ["a.fits"]


def test_nearest_is_refused_beyond_its_limit_and_says_how_far_it_is() -> None:
    result = nearest([bias(1, -41.2, name="old.fits"), bias(2, 60)], max_days=30)
    assert result.files == ()
    assert result.near == "the nearest, old.fits, is 41.2 d before"


def test_nearest_needs_a_time() -> None:
    assert nearest([bias(1, 0)], at=None).near == "the unit's files have no time"
    assert nearest([bias(1, None)]) == Found(near="none of 1 has a time")


def test_a_calibration_without_a_time_stands_at_the_middle_of_its_validity() -> None:
    result = nearest([Candidate(found(1, at=None), after(-10), after(4)), bias(2, -4)])
    assert (result.files[0].id, result.rule) == (1, "3.0 d before, of 2 candidates")


@given(
    st.lists(st.integers(-50, 50), min_size=1, max_size=20),
    st.integers(-60, 60),
    st.sampled_from([None, 5.0]),
    st.randoms(),
)
def test_nearest_is_what_a_search_through_all_finds(
    days: list[int], when: int, max_days: float | None, shuffle: random.Random
) -> None:
    candidates = [bias(number, each) for number, each in enumerate(days)]
    expected = min(candidates, key=lambda each: (abs(_days(each) - when), _days(each), each.file.name))
    shuffle.shuffle(candidates)
    result = nearest(candidates, max_days, after(when))
    if max_days is not None and abs(_days(expected) - when) > max_days:
        assert result.files == ()
    else:
        assert result.files == (expected.file,)


def _days(candidate: Candidate) -> int:
    assert candidate.middle is not None
    return round((candidate.middle - NIGHT.timestamp()) / DAY_SECONDS)


def test_valid_takes_the_latest_added_that_holds_the_time() -> None:
    candidates = [
        Candidate(found(1), after(-30), after(30), rank=1),
        Candidate(found(2), after(-2), after(2), rank=3),
        Candidate(found(3), after(-9), after(9), rank=2),
    ]
    assert look_up("valid", Shelf(candidates), unit()).files[0].id == 2
    result = look_up("valid", Shelf(candidates), unit(after(5)))
    assert result.files[0].id == 3
    assert result.rule == "2026-01-01 to 2026-01-19, the latest added"
    assert look_up("valid", Shelf(candidates), unit(after(31))).near == "none of 3 is valid at 2026-02-10T20:00:00"
    assert look_up("valid", Shelf(candidates), unit(None)).near == "the unit's files have no time"


@pytest.mark.parametrize(("day", "holds"), [(-2.0, True), (2.0, True), (-2.001, False), (2.001, False)])
def test_the_ends_of_a_validity_range_belong_to_it(day: float, holds: bool) -> None:
    shelf = Shelf([Candidate(found(1), after(-2), after(2))])
    assert bool(look_up("valid", shelf, unit(after(day))).files) is holds


def match_ids(
    candidates: list[Candidate], of: Unit, match: tuple[str, ...] | None, default: tuple[str, ...]
) -> list[int]:
    agreement = Agreement({}, default) if match is None else Agreement({key: (key,) for key in match})
    return [file.id for file in Index(candidates, agreement).matching(of).files]


def test_by_default_files_agree_on_what_both_have() -> None:
    candidates = [
        bias(1, 0, instrument="nmcam", detector=1),
        bias(2, 0, instrument="nmcam", detector=2),
        bias(3, 0, instrument="nmcam", detector=1, band="g"),
        bias(4, 0, instrument="nmcam", detector=1, band="r"),
        bias(5, 0, instrument="other", detector=1),
        bias(6, 0),
    ]
    default = ("instrument", "detector", "band")
    assert match_ids(candidates, unit(instrument="nmcam", detector=1, band="g"), None, default) == [1, 3, 6]
    assert match_ids(candidates, unit(instrument="nmcam", detector=1), None, default) == [1, 3, 4, 6]


def test_explicit_match_wants_a_value_in_both() -> None:
    candidates = [bias(1, 0, detector=1), bias(2, 0, detector=1, band="g"), bias(3, 0, band="g")]
    assert match_ids(candidates, unit(detector=1, band="g"), ("detector", "band"), ()) == [2]
    assert match_ids(candidates, unit(detector=1), ("detector", "band"), ()) == []
    assert match_ids(candidates, unit(detector=1), (), ("detector",)) == [1, 2, 3]


DATA_IDS = st.dictionaries(st.sampled_from(["instrument", "detector", "band"]), st.integers(1, 2))


@given(st.lists(DATA_IDS, max_size=12), DATA_IDS, st.sampled_from([None, ("detector",), ("detector", "band"), ()]))
def test_the_index_agrees_with_a_search_through_all(
    data_ids: list[dict[str, str | int]], of: dict[str, str | int], match: tuple[str, ...] | None
) -> None:
    default = ("instrument", "detector")
    candidates = [bias(number, 0, name=f"{number:03d}", **each) for number, each in enumerate(data_ids)]

    def fits(file: dict[str, str | int]) -> bool:
        if match is None:
            return all(file[each] == of[each] for each in default if each in file and each in of)
        return all(each in file and each in of and file[each] == of[each] for each in match)

    expected = [number for number, each in enumerate(data_ids) if fits(each)]
    assert match_ids(candidates, Unit("u", of, NIGHT, NIGHT, ()), match, default) == expected


def test_rows_and_index_compare_several_keys_with_one_file_of_another_role() -> None:
    heads = [
        found(10 * exposure + detector, exposure=exposure, detector=detector)
        for exposure in (1, 2)
        for detector in (1, 2)
    ]
    chosen = {"images": [found(1, exposure=1, detector=1), found(2, exposure=2, detector=2), found(3, exposure=2)]}
    agreement = Agreement({"exposure": ["images.exposure"], "detector": ["images.detector"]})
    assert [file.id for file in agreement.agreeing(heads, unit(), chosen)] == [11, 22]
    index = Index([Candidate(file) for file in heads], agreement)
    assert [file.id for file in index.matching(unit(), chosen).files] == [11, 22]
