"""What became of inputs, for people and programs."""

from __future__ import annotations

from nightmill.cli.documents import knowledge as documents
from nightmill.cli.documents import told
from nightmill.cli.render.output import echo, print_json, print_table, say
from provenance.inputs import InputsReport


def show_inputs(found: InputsReport, *, as_json: bool) -> None:
    """Print what was staged in vain, what was eliminated, and how plan, witness and step differ."""
    if as_json:
        print_json(told(documents.InputsReport, found))
        return
    if not (found.never_opened or found.eliminated or found.differences):
        say("nothing is on record of inputs that were not opened or not used")
    if found.never_opened:
        from rich.filesize import decimal

        echo("staged, and never opened:")
        print_table(
            ("campaign", "stage", "input", "files", "attempts", "times staged", "size"),
            (
                (each.campaign, each.stage, each.role, each.files, each.attempts, each.staged, decimal(each.size_bytes))
                for each in found.never_opened
            ),
        )
    if found.eliminated:
        echo("eliminated:")
        print_table(
            ("campaign", "stage", "input", "reason", "night", "detector", "files", "jobs", "such as"),
            (
                (
                    *(each.campaign, each.stage, each.role, each.reason, each.night, each.detector),
                    *(each.files, each.jobs, each.example),
                )
                for each in found.eliminated
            ),
        )
    if found.differences:
        echo("differences:")
        print_table(
            ("campaign", "stage", "step", "kind", "consequence", "count", "jobs", "such as"),
            (
                (
                    *(each.campaign, each.stage, each.step, each.kind.replace("_", " "), each.consequence),
                    *(each.count, each.jobs, each.example),
                )
                for each in found.differences
            ),
        )
