"""Verbs that other packages offer."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.cli.conftest import Nightmill
from tests.support.packages import package

CODE = """
EXAMPLES = ("nightmill count-stars --least 3",)

def count_stars(least: int = 1) -> None:
    \"\"\"Count stars.\"\"\"
    from nightmill.errors import RequestRefused
    if least < 0:
        raise RequestRefused("--least is negative", remedy="give another")
    print(f"at least {least} stars")

def find() -> None:
    print("not the one that was meant")
"""


@pytest.fixture(autouse=True)
def offered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Install a package with a verb that is good, one of a name that is taken, one that is neither, and one broken."""
    folder = tmp_path / "plugins"
    folder.mkdir()
    package(folder, "acme_verbs", CODE, {})
    offers = {"count-stars": "acme_verbs", "find": "acme_verbs", "empty": "acme_verbs", "broken": "acme_nothing"}
    points = "".join(f"{name} = {module}\n" for name, module in offers.items())
    (folder / "acme_verbs-1.0.dist-info" / "entry_points.txt").write_text(f"[nightmill.verbs]\n{points}")
    monkeypatch.syspath_prepend(folder)


def test_a_verb_of_another_package_is_one_like_the_others(nightmill: Nightmill) -> None:
    assert nightmill("count-stars", "--least", "3").out == "at least 3 stars\n"
    told = nightmill("count-stars", "--least", "-1")
    assert (told.code, told.err) == (2, "nightmill: --least is negative; give another\n")
    assert "Count stars." in nightmill("count-stars", "--help").out
    listed = nightmill("--help").out
    assert "count-stars" in listed
    assert "broken" not in listed


def test_a_verb_that_nightmill_has_cannot_be_replaced(nightmill: Nightmill) -> None:
    assert "List files" in nightmill("find", "--help").out


def test_one_that_cannot_be_used_is_refused_by_its_package(nightmill: Nightmill) -> None:
    told = nightmill("empty")
    assert told.code == 2
    assert "command 'empty' of acme_verbs 1.0 has neither a function of that name nor an app" in told.err
    assert "cannot be imported: ModuleNotFoundError" in nightmill("broken").err
    assert "(did you mean 'count-stars'?)" in nightmill("count-star").err
