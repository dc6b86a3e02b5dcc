"""The reference of the command line names each verb with each of its arguments and options, and no others."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import typer

from nightmill.cli import app
from tests.docs.pages import REFERENCE, Page, all_pages

CLI = Page(REFERENCE / "cli.md")


Command = Any
"""A command of click: typer brings a click of its own, whose classes are not those of the package."""


def verbs(name: str, group: Command) -> Iterator[tuple[str, Command]]:
    context = group.context_class(group)
    for word in group.list_commands(context):
        command = group.get_command(context, word)
        if hasattr(command, "list_commands"):
            yield from verbs(f"{name} {word}", command)
        else:
            yield f"{name} {word}", command


VERBS = dict(verbs("nightmill", typer.main.get_command(app)))


def words(command: Command) -> set[str]:
    """Return the arguments and options of a command, as they are typed."""
    found: set[str] = set()
    for parameter in command.params:
        if parameter.param_type_name == "argument":
            found.add(parameter.name.upper())
        else:
            found |= {*parameter.opts, *parameter.secondary_opts}
    return found - {"-h", "--help"}


@pytest.mark.parametrize("verb", VERBS)
def test_every_option_is_documented(verb: str) -> None:
    wanted = words(VERBS[verb])
    told = {code.split()[0].rstrip(".") for code in CLI.named(verb)} if wanted else set()
    assert told == wanted


def test_every_verb_is_documented_and_no_other() -> None:
    told = {heading for heading in CLI.headings if heading.startswith("nightmill ")}
    groups = {verb.rpartition(" ")[0] for verb in VERBS} - {"nightmill"}
    assert told - groups == set(VERBS)


def test_pages_type_options_that_exist() -> None:
    unknown = [
        f"{page.name}: {line}"
        for page in all_pages()
        for fence in page.fences
        for line in fence.text.replace("\\\n", " ").splitlines()
        for verb, given in called(line)
        if not {word.partition("=")[0] for word in given if word.startswith("--")} <= words(VERBS[verb])
    ]
    assert unknown == []


@pytest.mark.parametrize("verb", [verb for verb in VERBS if VERBS[verb].epilog])
def test_help_has_examples_of_what_exists(verb: str) -> None:
    told = VERBS[verb].epilog.replace("\b", "").splitlines()[2:]
    calls = [call for line in told for call in called(line)]
    assert calls
    assert all(name == verb for name, _ in calls)
    options = {word for _, given in calls for word in given if word.startswith("--")}
    assert options <= words(VERBS[verb])


OFFERED = "moon"
"""The verb of the guide that shows how to add one."""


def called(line: str) -> Iterator[tuple[str, list[str]]]:
    """Yield each call of nightmill in a line of a block: the verb, and the words behind it."""
    command = line.partition("#")[0]
    for part in command.split("|"):
        given = part.removeprefix("$").split()
        if given[:2] == ["nightmill", "capsule"] and given[2:3] and f"nightmill capsule {given[2]}" not in VERBS:
            given.insert(2, "make")  # which may be left out
        if given[:1] == ["nightmill"]:
            verb = next((name for name in VERBS if given[: len(name.split())] == name.split()), None)
            if given[1:2] == [OFFERED]:
                continue
            assert verb or len(given) == 1 or given[1].startswith("-"), f"no such verb: {line}"
            if verb:
                yield verb, given[len(verb.split()) :]
