"""Telling people what campaigns come to: each fact once, and nothing waits for it."""

from __future__ import annotations

import logging
import smtplib
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from email.message import EmailMessage
from functools import partial
from typing import Final
from urllib.error import URLError
from urllib.request import Request, urlopen

from sqlalchemy.orm import Session

from nightmill.backbone.work import notices
from nightmill.backbone.work.campaigns import own_campaign
from nightmill.backbone.work.notices import Fact
from nightmill.clock import utc_now
from nightmill.errors import DatabaseAway
from nightmill.model.notification import Event, Mail, Notification, Notifier
from nightmill.operations.site import Site

SECONDS: Final = 20.0
"""How long a command, a webhook or a mail server may take."""

log = logging.getLogger("nightmill")


def notify(
    site: Site, name: str, *, ended: bool = False, warn: Callable[[str], None] = log.warning
) -> list[threading.Thread]:
    """Tell what there is to tell of a campaign that was not told before; return what is at it.

    A fact is on record before it is told: it is never told twice, and not at all where its notifier fails, which is
    said to ``warn``.

    Parameters
    ----------
    ended
        Whether its flow run is at its end.
    """
    if not site.config.notify:
        return []
    begun = []
    with suppress(DatabaseAway):  # it is told another time
        for number, notifier in enumerate(site.config.notify):
            key = f"{number}: {notifier.name}"
            for fact in site.database.write(partial(_news, name=name, notifier=notifier, key=key, ended=ended)):
                told = Notification(site=site.config.name, campaign=name, event=fact.event, text=fact.text)
                begun.append(threading.Thread(target=_tell, args=[notifier, told, warn], daemon=True))
                begun[-1].start()
    return begun


def await_told(threads: list[threading.Thread]) -> None:
    """Wait for what is being told, before a process ends: no longer than each may take."""
    for thread in threads:
        thread.join(SECONDS)


def _news(session: Session, *, name: str, notifier: Notifier, key: str, ended: bool) -> list[Fact]:
    campaign_id, now = own_campaign(session, name).id, utc_now()
    facts = [fact for fact in _facts(session, campaign_id, notifier, ended) if fact.event in notifier.on]
    return [fact for fact in facts if notices.claim(session, campaign_id, fact, key, now)]


def _facts(session: Session, campaign_id: int, notifier: Notifier, ended: bool) -> Iterator[Fact]:
    if ended:
        yield from notices.ends(session, campaign_id)
    if Event.HELD in notifier.on:
        yield from notices.waits(session, campaign_id)
    if Event.SLOW in notifier.on:
        yield from notices.slow_steps(session, campaign_id, notifier.slow_factor, utc_now())


def _tell(notifier: Notifier, told: Notification, warn: Callable[[str], None]) -> None:
    try:
        if notifier.command:
            _run(notifier.command, told)
        elif notifier.mail is not None:
            _mail(notifier.mail, told)
        else:
            _post(notifier.webhook, told)
    except (OSError, subprocess.SubprocessError, smtplib.SMTPException, URLError, ValueError) as error:
        warn(f"campaign {told.campaign}: nobody was told by {notifier.name} that {told.text}: {error}")


def _run(command: tuple[str, ...], told: Notification) -> None:
    done = subprocess.run(
        command, input=told.model_dump_json(), capture_output=True, text=True, timeout=SECONDS, check=False
    )
    if done.returncode:
        raise OSError(f"it exited with code {done.returncode}: {done.stderr.strip()[-500:]}")


def _post(url: str, told: Notification) -> None:
    request = Request(url, told.model_dump_json().encode(), {"Content-Type": "application/json"})  # noqa: S310 - the model takes http and https alone
    with urlopen(request, timeout=SECONDS):  # noqa: S310
        pass


def _mail(mail: Mail, told: Notification) -> None:
    letter = EmailMessage()
    letter["From"], letter["To"] = mail.sender, ", ".join(mail.to)
    letter["Subject"] = f"{told.site}: {told.campaign}: {told.event}"
    letter.set_content(told.text)
    host, _, port = mail.server.partition(":")
    with smtplib.SMTP(host, int(port or 25), timeout=SECONDS) as server:
        server.send_message(letter)
