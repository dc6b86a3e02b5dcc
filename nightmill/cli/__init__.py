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

from nightmill import __version__, plugins
from nightmill.cli.shape import examples, group
from nightmill.errors import BadPlugin, NightmillError, UnknownName

VERBS: Final = (
    "demo",
    "init",
    "server",
    "runner",
    "ingest",
    "retype",
    "withdraw",
    "exclude",
    "plan",
    "plans",
    "submit",
    "status",
    "logs",
    "rerun",
    "pause",
    "resume",
    "cancel",
    "hold",
    "release",
    "priority",
    "limit",
    "sign-off",
    "find",
    "show",
    "why",
    "lineage",
    "compare",
    "verify",
    "calib",
    "errors",
    "run",
    "capsule",
    "regress",
    "record",
    "recover",
    "backup",
    "retain",
    "bring-home",
    "ship-logs",
    "ops",
    "acts",
    "sql",
    "schema",
    "doctor",
)
"""Every verb, in the order of the help: a module of :mod:`nightmill.cli.verbs`, which holds a function of that name and
``EXAMPLES`` of its use, or (for verbs with verbs of their own) a Typer ``app``."""


GROUP: Final = "nightmill.verbs"
"""Entry points of verbs that other packages offer: modules like those of :mod:`nightmill.cli.verbs`."""


class _Verbs(TyperGroup):
    """Gives a verb's command when it is asked for: one of nightmill's own, else one that a package offers."""

    def list_commands(self, ctx: Any) -> list[str]:
        return [*VERBS, *(name for name in plugins.names(GROUP) if name not in VERBS and _is_sound(name))]

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        if cmd_name in VERBS:
            return _command(cmd_name, import_module(f"{__name__}.verbs.{cmd_name.replace('-', '_')}"))
        if cmd_name not in plugins.names(GROUP):
            if ctx.resilient_parsing:  # a shell asks what may follow; it is told nothing
                return None
            raise UnknownName("command", cmd_name, self.list_commands(ctx), remedy="see 'nightmill --help'")
        return _command(cmd_name, plugins.load(GROUP, cmd_name, what="command"))


def _command(name: str, module: Any) -> Any:
    """Make the command of a verb."""
    if hasattr(module, "app"):
        command = typer.main.get_command(module.app)
        command.name = name
        return command
    function = getattr(module, name.replace("-", "_"), None)
    if function is None:
        of = f"command {name!r} of {plugins.package(GROUP, name)}"
        raise BadPlugin(f"{of} has neither a function of that name nor an app", remedy="tell whoever maintains it")
    verb = group()
    verb.command(name, epilog=examples(*getattr(module, "EXAMPLES", ())))(function)
    return typer.main.get_command(verb)


def _is_sound(name: str) -> bool:
    """Whether a verb of another package can be used: whoever types it is told why not, and nobody else."""
    try:
        _command(name, plugins.load(GROUP, name, what="command"))
    except BadPlugin:
        return False
    return True


def _tell_version(ctx: typer.Context, wanted: bool) -> None:
    if wanted and not ctx.resilient_parsing:
        typer.echo(f"nightmill {__version__}")
        raise typer.Exit


app = group(cls=_Verbs, add_completion=True)


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
