"""Errors of the site for people and for programs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Final

from nightmill.backbone.catalogue.error_rules import KnownError
from nightmill.cli.documents import errors as documents
from nightmill.cli.documents import told
from nightmill.cli.render.output import echo, print_json, print_table
from nightmill.operations.errors import Trial
from nightmill.planning.problems import counted

SHOWN: Final = 10
"""Failures that people are shown before the rest is only counted."""
COLUMNS: Final = ("error", "version", "on", "where", "says", "action", "explanation", "link", "who", "at")


def show_errors(found: Sequence[KnownError], *, as_json: bool) -> None:
    """Print rules."""
    if as_json:
        print_json([_told(each) for each in found])
        return
    print_table(
        COLUMNS,
        (
            (
                each.rule.name, each.version, "on" if each.is_on else "off", _where(each), each.rule.says,
                _action(each), each.rule.explanation, each.rule.link, each.who, each.at,
            )
            for each in found
        ),
    )  # fmt: skip


def show_trials(trials: Sequence[Trial], *, as_json: bool) -> None:
    """Print what rules would have named."""
    if as_json:
        print_json([_tried(each) for each in trials])
        return
    for each in trials:
        named = len(each.named)
        accepts = each.rule.action == "accept"
        would = f"{each.rule.name} would have {'accepted' if accepts else 'named'}"
        echo(f"{would} {named:,} of {counted(each.looked_at, 'failure')}")
        for campaign, count in _campaigns(each).items():
            echo(f"  {campaign}: {count:,}")
        if bare := sum(not (one.error or one.by_others) for one in each.named):
            echo(f"  of them without a name so far: {bare:,}")
        others = Counter(one.by_others for one in each.named if one.by_others)
        for other, count in others.most_common():
            echo(f"  of them {other} by the rules that are on: {count:,}")
        print_table(
            ("failure", "step", "fate", "named now"),
            ((str(one.attempt), one.step, one.fate, one.error or one.by_others) for one in each.named[:SHOWN]),
        )
        if named > SHOWN:
            echo(f"... and {named - SHOWN:,} more: --json tells all")
        if accepts and named:
            echo("their outputs would have been checked all the same: one that is missing or bad fails its job")
    echo("nothing was changed")


def _where(error: KnownError) -> str:
    rule = error.rule
    parts = {"stage": rule.stage, "step": rule.step, "exit": " ".join(map(str, rule.exit)), "fate": " ".join(rule.fate)}
    return ", ".join(f"{name} {value}" for name, value in parts.items() if value)


def _action(error: KnownError) -> str:
    retry = error.rule.retry
    if retry is None:
        return error.rule.action or ""
    memory = f", memory ×{retry.memory_factor:g}" if retry.memory_factor != 1.0 else ""
    wait = f", after {retry.wait_seconds:g} s" if retry.wait_seconds else ""
    return f"retry {retry.tries}{memory}{wait}"


def _told(error: KnownError) -> documents.ErrorRule:
    rule, retry = error.rule, error.rule.retry
    return told(
        documents.ErrorRule,
        rule,
        version=error.version,
        on=error.is_on,
        tries=retry.tries if retry else None,
        memory_factor=retry.memory_factor if retry else None,
        wait_seconds=retry.wait_seconds if retry else None,
        who=error.who,
        why=error.why,
        at=error.at,
    )


def _tried(trial: Trial) -> documents.Trial:
    named = [told(documents.NamedFailure, one, attempt=str(one.attempt)) for one in trial.named]
    name, action = trial.rule.name, trial.rule.action
    return told(documents.Trial, trial, name=name, action=action, campaigns=_campaigns(trial), named=named)


def _campaigns(trial: Trial) -> dict[str, int]:
    return dict(Counter(one.attempt.campaign for one in trial.named).most_common())
