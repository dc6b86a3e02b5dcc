from __future__ import annotations

from datetime import timedelta

from hypothesis import given
from hypothesis import strategies as st

from nightmill.model.dimensions import KeyType, unit_name
from nightmill.model.unit import middle
from nightmill.planning.problems import Problems
from nightmill.planning.units import Grouping, agreed, make_units
from tests.planning.world import NIGHT, found

KEYS: dict[str, KeyType] = {"dit": "float", "target": "str", "coadds": "int", "exposure": "int", "detector": "int"}


def test_a_unit_for_each_set_of_values_in_their_order() -> None:
    files = [found(n, exposure=exposure, detector=n % 2) for n, exposure in enumerate([9, 9, 12, 12])]
    units = make_units(Grouping(["exposure", "detector"], KEYS), files, Problems(), topic="stage 'science'")
    assert [unit.name for unit in units] == [
        "exposure=9,detector=0",
        "exposure=9,detector=1",
        "exposure=12,detector=0",
        "exposure=12,detector=1",
    ]


def test_a_unit_inherits_what_all_its_files_agree_on() -> None:
    files = [
        found(1, instrument="nmcam", night=20260110, exposure=1, detector=3, band="g"),
        found(2, instrument="nmcam", night=20260110, exposure=2, detector=3, band="r"),
        found(3, instrument="nmcam", night=20260110, exposure=3, detector=3),
    ]
    (unit,) = make_units(Grouping(["detector"], KEYS), files, Problems(), topic="")
    assert unit.data_id == {"instrument": "nmcam", "night": 20260110, "detector": 3}
    assert unit.fixed(["detector"], (), takes_one=False) == {"detector": 3}
    assert unit.fixed(["detector"], (), takes_one=True) == unit.data_id
    assert unit.name == "detector=3"


def test_the_span_of_a_unit_is_that_of_its_files() -> None:
    files = [found(n, at=NIGHT + timedelta(minutes=n), seconds=30, detector=1) for n in (3, 1, 2)]
    (unit,) = make_units(Grouping(["detector"], KEYS), files, Problems(), topic="")
    assert (unit.begins_at, unit.ends_at) == (NIGHT + timedelta(minutes=1), NIGHT + timedelta(minutes=3, seconds=30))
    assert [file.id for file in unit.files] == [1, 2, 3]


def test_a_file_that_tells_only_its_beginning_ends_there() -> None:
    file = found(1, detector=1)._replace(ends_at=None)
    (unit,) = make_units(Grouping(["detector"], KEYS), [file], Problems(), topic="")
    assert (unit.begins_at, unit.ends_at) == (NIGHT, NIGHT)


def test_files_without_a_dimension_of_the_unit_are_told() -> None:
    problems = Problems()
    files = [found(1, detector=1), found(2, name="lost.fits", exposure=5)]
    (unit,) = make_units(Grouping(["detector"], KEYS), files, problems, topic="stage 'bias', input 'frames'")
    assert unit.name == "detector=1"
    assert problems.sentences() == [
        "stage 'bias', input 'frames': a file has no detector, so that no unit can be made of it: file lost.fits"
    ]


def test_without_dimensions_there_is_one_unit_of_all() -> None:
    (unit,) = make_units(Grouping([], KEYS), [found(1), found(2)], Problems(), topic="")
    assert (unit.name, len(unit.files)) == ("all", 2)


def test_the_middle_of_a_span_with_one_end_is_that_end() -> None:
    assert middle(None, NIGHT) == middle(NIGHT, None) == NIGHT.timestamp()
    assert middle(None, None) is None


@given(st.lists(st.tuples(st.integers(1, 5), st.integers(1, 3)), min_size=1, max_size=30))
def test_units_part_the_files(values: list[tuple[int, int]]) -> None:
    files = [found(n, exposure=exposure, detector=detector) for n, (exposure, detector) in enumerate(sorted(values))]
    units = list(make_units(Grouping(["exposure", "detector"], KEYS), files, Problems(), topic=""))
    assert sorted(file.id for unit in units for file in unit.files) == list(range(len(files)))
    assert len(units) == len(set(values))
    for unit in units:
        assert unit.data_id == agreed(unit.files)
        assert unit.name == unit_name(unit.data_id, ["exposure", "detector"])
