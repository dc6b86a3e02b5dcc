"""The command line: the composition root, and the only place that knows a terminal.

Each verb is a module of its own, imported when it is asked for; what a verb needs beyond parsing its arguments is
imported when it runs. Errors of nightmill become one message on stderr and an exit code: 1 some of it failed, 2 the
request was refused and nothing was done, 3 a service could not be reached.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib import import_module
from typing import Annotated, Any, Final, NoReturn

import typer
from typer.core import TyperGroup

from nightmill import __version__
from nightmill.cli.shape import examples, group
from nightmill.errors import NightmillError, UnknownName

VERBS: Final = (
    "demo",
    "init",
    "server",
    "ingest",
    "plan",
    "submit",
    "status",
    "rerun",
    "find",
    "show",
    "why",
    "lineage",
    "calib",
    "run",
    "record",
    "recover",
    "backup",
    "retain",
    "sql",
    "doctor",
)
"""Every verb, in the order of the help: a module of :mod:`nightmill.cli.verbs`, which holds a function of that name and
``EXAMPLES`` of its use, or (for verbs with verbs of their own) a Typer ``app``."""


class _Verbs(TyperGroup):
    """Gives a verb's command when it is asked for."""

    def list_commands(self, ctx: Any) -> list[str]:
        return list(VERBS)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        if cmd_name not in VERBS:
            raise UnknownName("command", cmd_name, VERBS, remedy="see 'nightmill --help'")
        module = import_module(f"{__name__}.verbs.{cmd_name}")
        if hasattr(module, "app"):
            command = typer.main.get_command(module.app)
            command.name = cmd_name
            return command
        verb = group()
        verb.command(cmd_name, epilog=examples(*module.EXAMPLES))(getattr(module, cmd_name))
        return typer.main.get_command(verb)


def _tell_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"nightmill {__version__}")
        raise typer.Exit


app = group(cls=_Verbs)


@app.callback()
def nightmill(
    version: Annotated[
        bool, typer.Option("--version", help="Print the version and exit.", callback=_tell_version, is_eager=True)
    ] = False,
) -> None:
    """Process campaigns over astronomical files: plan, submit, watch, rerun, and ask where everything came from."""


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Run the command line and exit.

    Parameters
    ----------
    arguments
        By default those that the process was started with.
    """
    try:
        app(arguments, prog_name="nightmill")
    except NightmillError as error:
        from nightmill.cli.render.output import print_error

        print_error(error)
        sys.exit(error.exit_code)
    sys.exit(0)
