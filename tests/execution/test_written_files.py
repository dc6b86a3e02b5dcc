"""Lists and configuration that are written for a step before it begins."""

from __future__ import annotations

import pytest

from nightmill.model.fate import Fate
from nightmill.model.order import OrderText
from tests.execution.failing import FIRST, SECOND, must_fail
from tests.support.orders import Bench, shell

LIST = (OrderText(name="in.list", text="../inputs/a.fits\n"), OrderText(name="conf.ini", text="größe = 1\n"))


@pytest.mark.req("X09")
def test_a_step_finds_what_was_written_for_it_and_not_what_was_for_another(bench: Bench) -> None:
    one = shell("one", "cat ../files/in.list ../files/conf.ini > first.txt", FIRST, files=LIST)
    other = OrderText(name="in.list", text="other\n")
    two = shell("two", "ls ../files > second.txt; cat ../files/in.list >> second.txt", SECOND, files=(other,))
    order = bench.order(one, two)
    assert bench.run_one(order).fate is Fate.PUBLISHED
    products = bench.root / "stores/backbone/products"
    assert (products / FIRST.names[0]).read_text() == "../inputs/a.fits\ngröße = 1\n"
    assert (products / SECOND.names[0]).read_text() == "in.list\nother\n"


def test_a_step_without_files_finds_none_of_an_earlier_step(bench: Bench) -> None:
    one = shell("one", "echo 1 > first.txt", FIRST, files=LIST)
    order = bench.order(one, shell("two", "ls ../files > second.txt; echo end >> second.txt", SECOND))
    assert bench.run_one(order).fate is Fate.PUBLISHED
    assert (bench.root / "stores/backbone/products" / SECOND.names[0]).read_text() == "end\n"


def test_a_job_that_needs_no_files_has_no_folder_for_them(bench: Bench) -> None:
    order = bench.order(shell("one", "test ! -e ../files && echo 1 > first.txt", FIRST))
    assert bench.run_one(order).fate is Fate.PUBLISHED


@pytest.mark.parametrize(
    ("script", "told"),
    [
        ("chmod u+w ../files/in.list; echo x >> ../files/in.list", "changed file in.list"),
        ("rm -f ../files/in.list", "changed file in.list"),
        ("mv ../files ../moved; mkdir ../files", "removed or replaced ../files"),
        ("rm -rf ../files; ln -s /tmp ../files", "removed or replaced ../files"),
    ],
)
def test_a_step_that_changes_what_was_written_for_it_has_failed(bench: Bench, script: str, told: str) -> None:
    order = bench.order(shell("one", f"{script}; echo 1 > first.txt", FIRST, files=LIST))
    must_fail(bench, order, Fate.BAD_OUTPUT, told)


def test_what_a_step_leaves_beside_its_files_is_moved_away(bench: Bench) -> None:
    one = shell("one", "echo junk > ../files/planted; echo 1 > first.txt", FIRST, files=LIST)
    order = bench.order(one, shell("two", "ls ../files > second.txt", SECOND, files=LIST))
    assert bench.run_one(order).fate is Fate.PUBLISHED
    assert (bench.root / "stores/backbone/products" / SECOND.names[0]).read_text() == "conf.ini\nin.list\n"


def test_the_name_of_a_file_cannot_lead_out_of_its_folder() -> None:
    for name in ("../work/x", "/etc/passwd", ".hidden", "a/b", ""):
        with pytest.raises(ValueError, match="name"):
            OrderText(name=name, text="")
