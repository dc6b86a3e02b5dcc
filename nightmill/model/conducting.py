"""What a conductor tells of the campaigns that it conducts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Final

ENDED: Final = frozenset({"COMPLETED", "FAILED", "CRASHED", "CANCELLED", "PAUSED"})
"""Types of states after which nothing more happens by itself."""


@dataclass(frozen=True)
class RunState:
    """The state of a flow run.

    Parameters
    ----------
    type
        ``SCHEDULED``, ``PENDING``, ``RUNNING``, ``CANCELLING``, or one of :data:`ENDED`.
    name
        As the UI shows it: ``Late``, ``AwaitingRetry``...
    at
        Since when.
    """

    type: str
    name: str = ""
    message: str = ""
    at: datetime = field(default_factory=lambda: datetime.now(UTC))

    @property
    def ended(self) -> bool:
        """Whether nothing more happens by itself."""
        return self.type in ENDED


@dataclass(frozen=True)
class CampaignRun:
    """The flow run that conducts a campaign."""

    flow_run_id: str
    ui_url: str
    link: str
    """The same for a person: it signs their browser in."""


@dataclass(frozen=True)
class Seen:
    """What a conductor says of campaigns.

    Parameters
    ----------
    states
        Of their flow runs, by ID.
    away
        Why it was not reached; empty where it was.
    gone
        Flow runs that it does not have any more: somebody deleted them.
    """

    states: Mapping[str, RunState] = field(default_factory=dict)
    away: str = ""
    gone: frozenset[str] = frozenset()
