"""Notifications: of what a site tells somebody, and how."""

from __future__ import annotations

from enum import StrEnum
from typing import Self

from pydantic import Field, model_validator

from nightmill.model.base import Frozen


class Event(StrEnum):
    """What may be told."""

    FAILED = "failed"
    """A campaign has ended, and some of its jobs failed."""
    ENDED = "ended"
    """A campaign has ended, in whatever way."""
    HELD = "held"
    """Jobs wait for a person."""
    SLOW = "slow"
    """A step runs far longer than its runs before did."""


class Mail(Frozen):
    """A letter."""

    to: tuple[str, ...]
    """Addresses."""
    sender: str = "nightmill@localhost"
    """Whom it is from."""
    server: str = "localhost:25"
    """Host and port of a server that takes mail (SMTP) without a password."""


class Notifier(Frozen):
    """Whom to tell of what: by a command, a webhook or mail."""

    on: tuple[Event, ...]
    """Of what."""
    command: tuple[str, ...] = ()
    """A program with its arguments; it gets the notification as JSON on stdin."""
    webhook: str = Field(default="", repr=False)
    """A URL that the notification is posted to as JSON."""
    mail: Mail | None = None
    """A letter."""
    slow_factor: float = Field(default=3.0, gt=1.0)
    """A step is slow when it runs so many times as long as half of its runs before took."""

    @model_validator(mode="after")
    def _has_one_way(self) -> Self:
        if sum(map(bool, (self.command, self.webhook, self.mail))) != 1:
            raise ValueError("a notifier with one of 'command', 'webhook' and 'mail'")
        if not self.on or (self.mail and not self.mail.to):
            raise ValueError("a notifier with something in 'on', and somebody in 'mail.to'")
        if self.webhook and not self.webhook.startswith(("http://", "https://")):
            raise ValueError("a notifier whose 'webhook' is an http:// or https:// URL")
        return self

    @property
    def name(self) -> str:
        """How the record knows it."""
        return self.command[0] if self.command else "mail" if self.mail else "webhook"


class Notification(Frozen):
    """What is told."""

    site: str
    campaign: str
    event: Event
    text: str
    """In words, one sentence."""
