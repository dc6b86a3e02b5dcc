"""Open names: whatever files tell, two that a plan lets pass never become one."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product
from types import SimpleNamespace
from typing import Any, Final, cast

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from nightmill.planning import open_names
from nightmill.planning.open_names import OpenNames
from nightmill.planning.outputs import Claim
from nightmill.planning.sealed import StageView

_FILE_TYPES: Final[dict[str, Any]] = {}
PIECES: Final = ["a", "1", "_", "b1", "{exposure}", "{exposure:02d}", "{tile}"]
NUMBERS: Final = (1, 2, 11, 12, 111)
TEXTS: Final = ("a", "1", "a1", "1_", "_1", "b1", "11")


def completions(text: str) -> set[str]:
    return {text.format(exposure=number, tile=tile) for number, tile in product(NUMBERS, TEXTS)}


def refused(monkeypatch: pytest.MonkeyPatch, texts: list[str]) -> set[str]:
    """Return those of some open names that may become one of those before them."""

    def claims(common: object, data_id: str) -> Iterator[Claim]:
        yield Claim(data_id, "head", "solve", "heads", "backbone")

    monkeypatch.setattr(open_names, "claims", claims)
    output = SimpleNamespace(tells=("exposure", "tile"))
    stage = SimpleNamespace(
        common=SimpleNamespace(file_types=_FILE_TYPES),
        stage=SimpleNamespace(steps=[SimpleNamespace(outputs={"heads": output})]),
        jobs=[SimpleNamespace(data_id=text) for text in texts],
    )
    names = OpenNames([cast("StageView", stage)])
    return {one.claim.name for one, _other in names._pairs()}


open_texts = st.lists(st.sampled_from(PIECES), min_size=1, max_size=5).map("".join).filter(lambda text: "{" in text)


@pytest.mark.req("X05", "B12")
@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(open_texts, min_size=2, max_size=6, unique=True))
@example(["{tile}_1", "{tile}1"])
@example(["1{exposure}", "11{exposure}"])
@example(["a{tile}b1", "{exposure}b1", "a1{tile}_b1"])
def test_what_is_let_pass_stays_apart(monkeypatch: pytest.MonkeyPatch, texts: list[str]) -> None:
    told = refused(monkeypatch, texts)
    for place, text in enumerate(texts):
        if any(completions(text) & completions(other) for other in texts[:place]):
            assert text in told


@pytest.mark.parametrize(
    "texts",
    [
        ["20260110_{exposure}_c1.fits", "20260110_cat_{exposure}_c1.fits"],
        ["{exposure}_20260110_c1.fits", "{exposure}_20260111_c1.fits"],
        ["{exposure}_1_c1.fits", "cat_{exposure}_c1.fits"],
        ["a_{tile}.fits", "b_{tile}.fits", "a_{tile}.head"],
    ],
)
def test_what_never_meets_is_let_pass(monkeypatch: pytest.MonkeyPatch, texts: list[str]) -> None:
    assert refused(monkeypatch, texts) == set()


def test_very_many_names_take_no_more_time_each(monkeypatch: pytest.MonkeyPatch) -> None:
    texts = [f"{{exposure}}_{unit}_c1.fits" for unit in range(20_000)]
    texts += [f"cat_{unit}_{{exposure}}_c1.fits" for unit in range(20_000)]
    assert refused(monkeypatch, texts) == set()
