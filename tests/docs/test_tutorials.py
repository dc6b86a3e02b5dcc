"""What the first tutorial shows is what happens when it is typed; it takes as long as all other pages together."""

from __future__ import annotations

from tests.docs.pages import DOCS, Page
from tests.docs.shell import Shell

DEMO = Page(DOCS / "tutorial" / "1-your-first-campaign.md")


def test_first_tutorial(empty: Shell) -> None:
    empty.follow(DEMO)
