"""What became of a campaign that somebody steers."""

from __future__ import annotations

from collections.abc import Sequence

import typer

from nightmill.backbone.work.limits import Limits
from nightmill.backbone.work.steering import Steering
from nightmill.cli.documents import steering as documents
from nightmill.cli.documents import told
from nightmill.cli.render.output import echo, print_json, print_table
from nightmill.errors import ServerAway
from nightmill.model.conducting import CampaignRun
from nightmill.operations.holding import Held
from nightmill.operations.limits import Limited
from nightmill.operations.samples import Sample
from nightmill.operations.sign_off import SignedOff
from nightmill.operations.steering import Steered
from nightmill.operations.transfers import StoreLimit, StoreLimited
from nightmill.planning.problems import counted


def show_steered(steered: Steered, *, as_json: bool) -> None:
    """Print the course of a campaign, and what does not follow it yet.

    Raises
    ------
    typer.Exit
        With code 3 where something could not be reached.
    """
    steering = steered.steering
    if as_json:
        _print(steered)
    else:
        echo(f"campaign {steered.campaign} {'is' if steered.changed else 'was already'} {steering}")
        if steered.jobs:
            echo(f"{counted(steered.jobs, 'job')} cancelled")
        if steered.active and steering.halts and not steering.ends_what_runs:
            echo(f"{counted(steered.active, 'job')} under way: to the end, and none after")
        _tell_run(steered.run)
    _unreached(steered.unreached)


def show_priority(steered: Steered, *, as_json: bool) -> None:
    """Print how urgent a campaign is."""
    if as_json:
        _print(steered)
    else:
        had = "has" if steered.changed else "had already"
        echo(f"campaign {steered.campaign} {had} priority {steered.steering.priority}")


def show_limited(limited: Limited, *, as_json: bool) -> None:
    """Print what a campaign may use, and which patterns match no host that is known."""
    if as_json:
        print_json(told(documents.Limited, limited, limits=limits_document(limited.limits)))
    else:
        echo(f"campaign {limited.campaign}{'' if limited.changed else ' as before'}: {limited.limits}")
    for pattern in limited.unknown_hosts:
        echo(f"warning: no host that ever carried out a job of this site matches {pattern!r}", err=True)


def show_store_limited(limited: StoreLimited, *, as_json: bool) -> None:
    """Print how many transfers run at a time with a store."""
    if as_json:
        print_json(told(documents.StoreLimited, limited))
    else:
        echo(f"store {limited.limit.store}{'' if limited.changed else ' as before'}: {limited.limit}")


def show_store_limits(limits: Sequence[StoreLimit], *, as_json: bool) -> None:
    """Print how many transfers run at a time with each store."""
    if as_json:
        print_json([told(documents.StoreLimit, limit) for limit in limits])
    else:
        for limit in limits:
            echo(f"store {limit.store}: {limit}")


def steering_document(steering: Steering) -> documents.Steering:
    """Tell programs what operators want of a campaign."""
    return told(documents.Steering, steering, limits=limits_document(steering.limits))


def limits_document(limits: Limits) -> documents.Limits:
    """Tell programs what a campaign may use."""
    return told(documents.Limits, limits, use_hosts=limits.hosts.use, avoid_hosts=limits.hosts.avoid)


def show_held(held: Held, what: str, *, as_json: bool) -> None:
    """Print how many jobs were held or released, and which stay as they are.

    Raises
    ------
    typer.Exit
        With code 3 where something could not be reached.
    """
    if as_json:
        print_json(told(documents.Held, held))
    else:
        echo(f"{held.campaign}: {counted(held.jobs, 'job')} {what}")
        for state, count in held.others.items():
            echo(f"{counted(count, 'job')} {state}: not {what}{_BECAUSE.get(state, '')}")
        _tell_run(held.run)
    _unreached([held.unreached] if held.unreached else [])


def show_signed_off(signed: SignedOff, *, as_json: bool) -> None:
    """Print which breakpoints were signed off, or rejected, and how many jobs that is about.

    Raises
    ------
    typer.Exit
        With code 3 where something could not be reached.
    """
    if as_json:
        print_json(told(documents.SignedOff, signed))
    else:
        what, become = ("signed off", "released") if signed.accepted else ("rejected", "cancelled")
        jobs = f"{counted(signed.jobs, 'job')} {become}"
        echo(f"{signed.campaign}: {', '.join(signed.breakpoints)}: {what}, {jobs}")
        _tell_run(signed.run)
    _unreached(signed.unreached)


def show_samples(samples: Sequence[Sample], *, as_json: bool) -> None:
    """Print what a campaign made up to breakpoints, and how it compares."""
    if as_json:
        print_json([told(documents.Sample, each) for each in samples])
        return
    for each in samples:
        waiting = f"{counted(each.waiting, 'job')} wait{'' if each.waiting > 1 else 's'}"
        echo(f"{each.breakpoint}: {each.done:,} done, {each.failed:,} failed; {waiting}")
        if (found := each.comparison) is not None:
            echo(
                f"files beside those of {found.against}: {found.same:,} the same, {found.differing:,} differing,"
                f" {found.missing:,} without a counterpart"
            )
            if found.keys:
                rows = [
                    (key.type, key.key, key.files, f"{key.median:g}", f"{key.largest:g}", key.file)
                    for key in found.keys
                ]
                print_table(("type", "key", "files", "median", "largest difference", "in file"), rows)
        if each.rule:
            echo(f"its rule {'holds' if each.holds else 'does not hold'}: {each.ruling}")


def _print(steered: Steered) -> None:
    print_json(told(documents.Steered, steered, steering=steering_document(steered.steering)))


_BECAUSE = {"active": ", as it runs: it goes on to its end"}


def _tell_run(run: CampaignRun | None) -> None:
    if run is not None:
        echo(f"it goes on: {run.link}")


def _unreached(unreached: tuple[str, ...] | list[str]) -> None:
    for each in unreached:
        echo(each, err=True)
    if unreached:
        raise typer.Exit(ServerAway.exit_code)
