"""What an ingest would do, before it does it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import chain

from nightmill.cli.documents import told
from nightmill.cli.documents.files import DryIngest, Foreseen, ForeseenRole, Refused, Registered, Skipped
from nightmill.cli.render.output import echo, plain_line, print_json, print_table
from nightmill.model import file_warning
from nightmill.operations.ingest.lots import Offer
from nightmill.operations.ingest.take_in import IngestResult, Taken


def tell_foreseen(result: IngestResult, *, as_json: bool) -> None:
    """Show what a dry run found."""
    found = [_foreseen(each) for each in result.wanted]
    if as_json:
        print_json(
            DryIngest(
                foreseen=found,
                skipped=[told(Skipped, each, path=str(each.path)) for each in result.skipped],
                refused=[told(Refused, each, path=str(each.path)) for each in result.refused],
                hidden=[str(path) for path in result.hidden],
            )
        )
    else:
        print_table(
            ("path", "type", "name", "data ID", "begins at", "ends at", "metadata", "calibration", "store", "there"),
            (
                (
                    each.path, each.type, each.name, each.data_id, each.begins_at, each.ends_at, each.metadata,
                    _role(each.calibration), each.store, each.store_path,
                )
                for each in found
            ),
        )  # fmt: skip
        echo(
            f"{len(found)} would be registered, {len(result.skipped)} there already, {len(result.refused)} refused;"
            " nothing was done"
        )
        tell_warnings(each.new.warnings for each in result.wanted)
    tell_others(result)


def registered_file(taken: Taken) -> Registered:
    """Tell programs of a file that was taken in."""
    return told(Registered, taken, path=str(taken.path))


def tell_warnings(warnings: Iterable[Sequence[file_warning.FileWarning]]) -> None:
    """Tell on stderr what checks say of files that they do not hold back."""
    for each in chain.from_iterable(warnings):
        echo(f"warned by check {each.check}: {plain_line(each.message)}", err=True)


def tell_others(result: IngestResult) -> None:
    """Tell on stderr of the files that are not taken in."""
    for path in result.hidden:
        echo(f"hidden, and passed over: {plain_line(str(path))}", err=True)
    for refused in result.refused:
        echo(f"refused ({refused.reason}): {plain_line(refused.message)}", err=True)


def _foreseen(offer: Offer) -> Foreseen:
    return told(
        Foreseen,
        offer.new,
        path=str(offer.arrival.path),
        store_path=offer.path,
        left_out=offer.arrival.inspection.metadata.left_out,
        calibration=offer.role,
    )


def _role(role: ForeseenRole | None) -> str:
    if role is None:
        return ""
    valid = f"{role.valid_from:%Y-%m-%d %H:%M:%S} to {role.valid_until:%Y-%m-%d %H:%M:%S}"
    return f"in set {role.set_name}, {role.maturity}, for {valid}"
