"""Steps whose software is new to the site."""

from __future__ import annotations

from nightmill.errors import JobFailed
from nightmill.execution.context import JobContext
from nightmill.model.fate import Fate
from nightmill.model.node import NewSoftware
from nightmill.model.order import OrderStep

SHOWN = 12
"""Digits of a digest that people are told."""


def new_software(step: OrderStep, digest: str, context: JobContext) -> list[str]:
    """Return a sentence where the software of a step is new to the site and is to be told of.

    Parameters
    ----------
    digest
        Of its stack.

    Raises
    ------
    JobFailed
        Where the site does not let it in: nothing begins any more in this context, as it would meet the same.
    """
    policy = context.software
    if policy.new is NewSoftware.ALLOW or (bare := context.known_stack(digest).bare_sha256) in policy.known:
        return []
    told = f"its software {bare[:SHOWN]} is new to the site on host {context.host.name}"
    if policy.new is NewSoftware.WARN:
        return [f"{told}: no regression passed with it, and nobody accepted it"]
    context.refused = context.stopping = f"step {step.name!r} is not started: {told}, which gates that"
    raise JobFailed(
        context.refused,
        fate=Fate.CANCELLED,
        step=step.name,
        remedy=f"try it on a job that ran before: 'nightmill regress JOB'; or let it in: 'nightmill regress --accept"
        f" {bare[:SHOWN]} --why ...'; then rerun",
    )
