"""What a campaign relies on, for an observer who has a minute, and for programs."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import islice
from typing import Final

from nightmill.cli.documents import reliance as documents
from nightmill.cli.documents import told
from nightmill.cli.render.output import echo, print_json, print_table
from nightmill.operations.reliance import CalibrationReport
from nightmill.planning.problems import EXAMPLES
from nightmill.planning.reliance import Role

MOST_USED: Final = 10
"""How many of the files that serve most units a program is told of."""


def print_report(report: CalibrationReport, limit: int) -> None:
    """Print a report for people.

    Parameters
    ----------
    limit
        Calibrations to ask for that are shown; 0 for all of them.
    """
    days = f"{report.older_days:g} d"
    echo(
        f"campaign {report.campaign}, {'as its jobs are sealed' if report.on_record else 'as it would be planned now'}"
    )
    if report.problems:
        echo(f"its plan has problems ({len(report.problems)}): 'nightmill plan' tells them")
    if report.later:
        echo(f"units that are not known yet: those of stage {', '.join(report.later)}")
    if not report.roles:
        echo("no calibration is looked up for its units")
        return
    units, lacking, poorer, older = (
        sum(getattr(role, count) for role in report.roles) for count in ("units", "lacking", "poorer", "older")
    )
    echo(
        f"its units need {units:,} calibrations: {lacking:,} are lacking, {poorer:,} are poorer than the best level,"
        f" {older:,} are over {days} away\n"
    )
    columns = ("input", "type", "units", "lack", "units by level", "median days", "worst days", "files", "most used")
    print_table(columns, (_row(role) for role in report.roles))
    for role in report.roles:
        if role.nights_without:
            echo(f"{role.stage}/{role.role}: no unit is served of {_nights(role.nights_without)}")
    if not report.wanted:
        echo(f"\nnothing to ask for: each is of the best level, and at most {days} away")
        return
    echo("\nto ask for, the most wanted first:")
    wanted = (
        (
            each.type,
            ",".join(f"{key}={value}" for key, value in each.of),
            f"{each.lacking:,}",
            f"{each.poorer:,}",
            f"{each.older:,}",
            _days(each.worst_days),
            _nights(sorted(each.nights)),
        )
        for each in islice(report.wanted, limit or None)
    )
    print_table(("type", "of", "lack", "poorer", f"over {days}", "worst days", "for"), wanted)
    if 0 < limit < len(report.wanted):
        echo(f"... and {len(report.wanted) - limit:,} more: --limit 0 shows all")


def print_report_json(report: CalibrationReport) -> None:
    """Print a report for programs."""
    inputs = [
        told(
            documents.CalibrationInput,
            role,
            levels={str(level): count for level, count in sorted(role.levels.items())},
            files=len(role.files),
            most_used=[
                documents.UsedCalibration(file=file, units=units) for file, units in role.files.most_common(MOST_USED)
            ],
        )
        for role in report.roles
    ]
    wanted = [
        told(documents.WantedCalibration, each, of=dict(each.of), nights=sorted(each.nights)) for each in report.wanted
    ]
    print_json(told(documents.CalibrationReport, report, inputs=inputs, wanted=wanted))


def _row(role: Role) -> tuple[str, ...]:
    [(most, count)] = role.files.most_common(1) or [("", 0)]
    return (
        f"{role.stage}/{role.role}",
        ", ".join(role.types),
        f"{role.units:,}",
        f"{role.lacking:,}",
        ", ".join(f"{level}: {units:,}" for level, units in sorted(role.levels.items())),
        _days(role.median_days),
        _days(role.worst_days),
        f"{len(role.files):,}",
        f"{most} serves {count:,}" if count else "",
    )


def _days(days: float | None) -> str:
    return "" if days is None else f"{days:.1f}"


def _nights(nights: Sequence[int]) -> str:
    """Name nights, of many the first alone."""
    if not nights:
        return ""
    more = f" and {len(nights) - EXAMPLES:,} more" if len(nights) > EXAMPLES else ""
    return f"night{'s' if len(nights) > 1 else ''} {', '.join(map(str, nights[:EXAMPLES]))}{more}"
