"""A headless Chromium: for tests of what people see of a campaign, and for pictures of it."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from playwright.sync_api import Page, expect, sync_playwright

from flows.hosting.access import SIGN_IN_PATH

PROGRAMS = ("chromium", "chromium-browser", "google-chrome")
FLAGS = (
    "--no-sandbox",  # its own sandbox does not work for root
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
PATIENCE_SECONDS = 120.0
"""How long the UI may take to show what it should; it asks the server every few seconds."""
TRIES = 5
"""How often a page is opened that does not show what it should."""


class BrowserUnavailable(Exception):
    """There is no browser on this machine; says which package has it."""


@dataclass(frozen=True)
class Ui:
    """The UI of a Prefect server in a browser.

    Parameters
    ----------
    page
        A window.
    url
        Of the UI.
    """

    page: Page
    url: str

    def go(self, path: str) -> None:
        """Open a page of the UI by its path."""
        self.page.goto(f"{self.url}{path}")

    def shows(self, link: str, text: str) -> None:
        """Open a page by a link that signs in, until it shows a text.

        Again where the UI forgets who one is: it does so where its server was once too busy to answer.

        Raises
        ------
        AssertionError
            Where it does not.
        """
        for left in reversed(range(TRIES)):
            self.page.goto(link)
            try:
                self.sees(text, seconds=PATIENCE_SECONDS / TRIES if left else PATIENCE_SECONDS)
                return
            except AssertionError:
                if not left:
                    raise

    def flow_run(self, run_id: object, tab: str = "") -> None:
        """Open the page of a flow run, at one of its tabs."""
        self.go(f"/runs/flow-run/{run_id}")
        if tab:
            self.tab(tab)

    def tab(self, name: str) -> None:
        """Turn to a tab of the page that is open."""
        self.page.get_by_role("tablist").get_by_text(name, exact=True).click()

    def follow(self, name: str) -> None:
        """Click a link by its text; where a page does not show it, load it again.

        The UI asks once for what has ended, and shows an empty list where the server was too busy to answer.
        """
        link = self.page.get_by_role("link", name=name, exact=True).first
        for _ in range(TRIES - 1):
            try:
                expect(link).to_be_visible(timeout=1000 * PATIENCE_SECONDS / TRIES)
                break
            except AssertionError:
                self.page.reload()
        link.click()

    def search(self, field: str, text: str) -> None:
        """Type into a field that filters a list, by what is written in it while it is empty."""
        self.page.get_by_placeholder(field).fill(text)

    def follow_out(self, name: str) -> Ui:
        """Click a link that opens a window of its own, as those inside of artifacts do; return the UI there."""
        with self.page.expect_popup() as opened:
            self.follow(name)
        return Ui(opened.value, self.url)

    def follow_artifact(self, key: str) -> None:
        """Open an artifact of the run whose page is open."""
        self.page.locator("a").filter(has_text=key).first.click()

    def unfold(self) -> None:
        """Have a text shown that the UI has cut off after 70 characters."""
        self.page.get_by_text("See More", exact=True).first.click()

    def retry(self) -> None:
        """Press the button of a flow run that carries it out again, and say yes."""
        self.page.get_by_role("button", name="Retry", exact=True).click()
        self.page.get_by_role("dialog").get_by_role("button", name="Retry").click()

    def sees(self, *texts: str, seconds: float = PATIENCE_SECONDS) -> None:
        """Wait until the page shows each of these texts.

        Raises
        ------
        AssertionError
            Where it does not in time.
        """
        for text in texts:
            expect(self.page.get_by_text(text).filter(visible=True).first).to_be_visible(timeout=1000 * seconds)

    def sees_row(self, *cells: str) -> None:
        """Wait until the page has a row of a table with each of these texts; fails as :meth:`sees` does."""
        row = self.page.get_by_role("row")
        for cell in cells:
            row = row.filter(has_text=cell)
        expect(row).to_be_visible()

    def is_in(self, state: str) -> None:
        """Wait until the page says at its top that its run is in this state; fails as :meth:`sees` does."""
        expect(self.page.locator("header").get_by_text(state, exact=True)).to_be_visible()

    def scroll_to(self, text: str) -> None:
        """Bring the line with a text to the top of the window, or as near as it goes."""
        self.page.get_by_text(text).first.evaluate("element => element.scrollIntoView()")

    def picture(self, file: Path) -> None:
        """Save what the window shows, as soon as nothing in it moves any more."""
        self.page.wait_for_load_state("networkidle")
        last, now = b"", self._screenshot()
        while now != last:
            self.page.wait_for_timeout(500)
            last, now = now, self._screenshot()
        file.write_bytes(now)

    def _screenshot(self) -> bytes:
        return self.page.screenshot(animations="disabled")


@contextmanager
def open_ui(
    link: str, profile: Path, *, width: int = 1400, height: int = 900, flags: Sequence[str] = ()
) -> Iterator[Ui]:
    """Open the UI of a Prefect server in a browser of its own.

    Parameters
    ----------
    link
        That signs in.
    profile
        A new folder for what the browser keeps.
    width, height
        Of its window.
    flags
        Further ones for the browser.

    Raises
    ------
    BrowserUnavailable
        Where there is none on this machine.
    """
    program = next(filter(None, map(shutil.which, PROGRAMS)), None)
    if program is None:
        raise BrowserUnavailable("there is no browser: install Debian's chromium")
    with sync_playwright() as playwright:
        context = playwright.chromium.launch_persistent_context(
            profile, executable_path=program, args=[*FLAGS, *flags], viewport={"width": width, "height": height}
        )
        context.set_default_timeout(1000 * PATIENCE_SECONDS)
        expect.set_options(timeout=1000 * PATIENCE_SECONDS)
        try:
            parts = urlsplit(link)
            opened = Ui(context.pages[0], f"{parts.scheme}://{parts.netloc}")
            opened.page.goto(link)
            opened.page.wait_for_url(lambda url: SIGN_IN_PATH not in url)
            yield opened
        finally:
            context.close()
