"""``nightmill capsule``: a job in a folder that runs without its site."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer
from typer.core import TyperGroup

from nightmill.cli.completing import stages
from nightmill.cli.containers import Bound, RuntimeName, confinement_for, containers_for
from nightmill.cli.render.output import echo, say
from nightmill.cli.shape import SiteFolder, examples, group, job_of
from nightmill.errors import RequestRefused

if TYPE_CHECKING:
    from nightmill.execution.capsule.compare import Comparison
    from nightmill.execution.capsule.folder import Capsule, Run
    from nightmill.execution.capsule.given import Given

MAKE: Final = "make"
"""What is meant where no verb of a capsule is named."""


class _Verbs(TyperGroup):
    """Takes ``nightmill capsule JOB DIR`` for ``nightmill capsule make JOB DIR``."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        named = not args or args[0] in self.commands or args[0] in ctx.help_option_names
        return super().parse_args(ctx, args if named else [MAKE, *args])


app = group(cls=_Verbs, help="A job in a folder that runs without its site: to debug it anywhere.")

Here = Annotated[Path, typer.Argument(metavar="DIR", help="The folder of the capsule.")]
GivenInputs = Annotated[
    list[str] | None,
    typer.Option("--input", metavar="ROLE=PATH", help="A file of yours in place of an input; also NAME=PATH."),
]
GivenFolder = Annotated[
    Path | None, typer.Option("--inputs", metavar="DIR", help="Take all files of a folder that have names of inputs.")
]
ContainerSite = Annotated[
    Path | None,
    typer.Option("--site", metavar="DIR", help="The site that says how images are run, where a step has one."),
]


@app.command(MAKE, epilog=examples("nightmill capsule make first/clean/exposure=2,detector=2 mine"))
def make(
    job: Annotated[
        str,
        typer.Argument(
            metavar="JOB", help="CAMPAIGN/STAGE/UNIT, or an attempt of it (.../a02).", autocompletion=stages
        ),
    ],
    directory: Annotated[Path, typer.Argument(metavar="DIR", help="A new folder, or an empty one.")],
    link: Annotated[
        bool, typer.Option("--link", help="Link inputs that lie in a folder and that nobody may write to.")
    ] = False,
    products: Annotated[
        bool, typer.Option("--products", help="Bring what the attempt published, to compare with.")
    ] = False,
    site: SiteFolder = None,
) -> None:
    """Write a job into a folder that runs by itself: inputs, pipeline, configuration, commands, and what is on record.

    Of the last attempt, unless another is named; of a job that never ran, the one that would come. Nothing of the site
    is changed, and the folder is whole or not there. 'make' may be left out.
    """
    from nightmill.cli.opening import open_without_types
    from nightmill.cli.render.output import progress
    from nightmill.operations.capsule import write_capsule
    from nightmill.planning.problems import counted

    key, number = job_of(job)
    if key is None:
        raise RequestRefused(f"{job!r} is not a job", remedy="write CAMPAIGN/STAGE/UNIT")
    with open_without_types(site) as opened, progress("inputs", in_bytes=True) as report:
        done = write_capsule(opened, key, directory, number=number, link=link, products=products, report=report)
    inputs = len(done.order.inputs)
    echo(f"{done.order.attempt}: {'its capsule' if done.recorded else 'it never ran; its capsule'} is {directory}")
    echo(f"  {counted(inputs, 'input')}{f', {len(done.linked)} of them linked' if link else ''}")
    if products:
        echo(f"  {len(done.products)} recorded products")
    echo(f"run it: {directory}/run")


@app.command("run", epilog=examples("nightmill capsule run mine --steps subtract"))
def run(
    directory: Here,
    steps: Annotated[
        str | None, typer.Option(metavar="A,B", help="Run these steps alone; what they read of others is taken.")
    ] = None,
    given: GivenInputs = None,
    folder: GivenFolder = None,
    sets: Annotated[list[str] | None, typer.Option("--set", hidden=True)] = None,
    runtime: RuntimeName = None,
    bind: Bound = None,
    site: ContainerSite = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the report as JSON.")] = False,
) -> None:
    """Run the job of a capsule, as its program 'run' does: no site, no database, no server.

    What it makes stays in 'runs' of the capsule, with its whole scratch. Steps that read what others make take it from
    the newest run, else from the recorded products.
    """
    from nightmill.execution.capsule.folder import Capsule
    from nightmill.execution.capsule.given import chosen_steps
    from nightmill.execution.capsule.running import run_capsule

    if sets:
        raise RequestRefused(
            f"--set {sets[0]}: parameters stand in the commands of the order, filled in",
            remedy="edit the command's program in bundle/ of the capsule, or submit a campaign with --set",
        )
    capsule = Capsule.open(directory)
    only = None if steps is None else chosen_steps(capsule.order, steps.split(","))
    replaced = _given(capsule, only, given, folder)
    containers = containers_for(capsule.order, site, runtime, bind)
    _close_to_others(capsule)
    confinement = confinement_for(site)
    done = run_capsule(capsule, replaced, only=only, containers=containers, confinement=confinement)
    report = done.report
    if as_json:
        echo(report.model_dump_json(exclude={"order"}))
    else:
        _tell_run(done)
    if report.evidence:
        say(report.evidence)
        if report.fate == "input_corrupt":
            say("a file that you have changed is an input of yours: give it with --input")
        raise typer.Exit(1)


@app.command("shell", epilog=examples("nightmill capsule shell mine -c 'ls ../inputs'"))
def shell(
    directory: Here,
    step: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="Of which step; by default where the last run failed, or the first."),
    ] = None,
    given: GivenInputs = None,
    folder: GivenFolder = None,
    command: Annotated[
        str | None, typer.Option("-c", metavar="COMMAND", help="What the shell is to do, instead of asking.")
    ] = None,
    runtime: RuntimeName = None,
    bind: Bound = None,
    site: ContainerSite = None,
) -> None:
    """Open a shell where a step of a capsule would run, with its inputs, its environment, and its command shown.

    Nothing that is done there is checked or published. The shell is that of SHELL, or /bin/sh of the image of the step;
    its folder stays, in 'shells' of the capsule.
    """
    import shlex

    from nightmill.execution.capsule.folder import Capsule
    from nightmill.execution.capsule.given import chosen_steps
    from nightmill.execution.capsule.running import prepare_shell
    from nightmill.execution.launch.plain import Launch

    capsule = Capsule.open(directory)
    last = next(capsule.runs(), None)
    [name] = chosen_steps(
        capsule.order, [step or (last.report.failed_step if last else "") or capsule.order.steps[0].name]
    )
    replaced = _given(capsule, (name,), given, folder)
    containers = containers_for(capsule.order, site, runtime, bind)
    _close_to_others(capsule)
    ready = prepare_shell(capsule, replaced, step=name, containers=containers)
    if command is None:
        say(f"step {name} of {capsule.order.attempt}, in {ready.work}; its command:")
        say(f"  {shlex.join(ready.argv)}")
    environment = {**ready.environment, **{key: os.environ[key] for key in ("TERM",) if key in os.environ}}
    program = "/bin/sh" if ready.container else os.environ.get("SHELL") or "/bin/sh"
    argv = [program, *(("-c", command) if command is not None else ())]
    os.chdir(ready.work)
    try:
        if ready.container is not None:
            launch, network = Launch(argv, ready.work, environment, 1), ready.step.network != "off"
            around = ready.container.shell(launch, scratch=ready.work.parent, network=network)
            os.execvp(around[0], around)  # noqa: S606 - as below
        os.execve(program, argv, environment)  # noqa: S606 - a person's own shell
    except OSError as error:
        raise RequestRefused(f"the shell {program} cannot be started: {error.strerror}", remedy="set SHELL") from error


@app.command("diff", epilog=examples("nightmill capsule diff mine --ignore DATE"))
def diff(
    directory: Here,
    number: Annotated[int | None, typer.Option("--run", metavar="N", help="Which run; by default the newest.")] = None,
    ignore: Annotated[
        list[str] | None, typer.Option(metavar="KEYWORD", help="A keyword of FITS headers that does not count.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the comparison as JSON.")] = False,
) -> None:
    """Tell how the result of a run of a capsule differs from what is on record: exit code 1 where it does."""
    from nightmill.cli.documents import told
    from nightmill.cli.documents.capsules import CapsuleDiff
    from nightmill.cli.render.output import print_json
    from nightmill.execution.capsule.compare import compare
    from nightmill.execution.capsule.folder import Capsule

    capsule = Capsule.open(directory)
    found = compare(capsule, capsule.run(number), ignored=ignore or ())
    if as_json:
        print_json(told(CapsuleDiff, found))
    else:
        _tell_comparison(found)
    if not found.equal:
        raise typer.Exit(1)


def _given(capsule: Capsule, only: tuple[str, ...] | None, words: list[str] | None, folder: Path | None) -> Given:
    from nightmill.execution.capsule.given import given_files

    given = given_files(capsule.order, only, words or (), folder)
    for name, path in given.inputs.items():
        say(f"in place of {name}: {path}")
    for role, path in given.outputs.items():
        say(f"as {role}: {path}")
    for name in given.passed_over:
        say(f"passed over, since no input has its name: {name}")
    return given


def _close_to_others(capsule: Capsule) -> None:
    """Let nobody else read what a run makes but whom the site lets read its products."""
    os.umask(capsule.order.stores[capsule.order.log_store].access.umask)


def _tell_run(done: Run) -> None:
    report = done.report
    echo(f"{report.attempt}, run {done.number}: {'done' if not report.evidence else report.state}")
    for taken in report.order.taken:
        echo(f"  {taken.role}: {taken.name}, taken from {taken.store}")
    for step in report.steps:
        cost = step.cost
        spent = f"{cost.wall_seconds:.2f} s, {cost.max_rss_bytes / 1e6:.0f} MB" if cost else ""
        echo(f"  {step.name}: exit code {step.exit_code}  {spent}")
    for file in report.made:
        echo(f"  {file.role}: {file.name} ({file.size_bytes} bytes)")
    echo(f"all of it is in {done.folder}")


def _tell_comparison(found: Comparison) -> None:
    echo(
        f"run {found.run} {'gives what is on record' if found.equal else 'differs from what is on record'} of"
        f" {found.recorded}"
    )
    for text in found.changed:
        echo(f"  {text}")
    for text in found.endings:
        echo(f"  {text}")
    for output in found.outputs:
        echo(f"  {output.role} {output.name}: {output.verdict}")
        for text in output.differences:
            echo(f"    {text}")
