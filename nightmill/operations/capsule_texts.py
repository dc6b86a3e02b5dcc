"""The texts of a capsule: what people read in it, and the two programs that they start."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import yaml

from nightmill import __version__
from nightmill.execution.capsule.folder import RECORDED
from nightmill.execution.evidence import on_one_line
from nightmill.model.campaign import Layer
from nightmill.model.layout import ORDER
from nightmill.model.order import JobOrder, OrderStep
from nightmill.model.report import JobReport
from nightmill.model.software import Stack
from nightmill.planning.sealed import StageCommon

_PROGRAM: Final = """\
#!/bin/sh
# {what}; see README.txt.
here=$(CDPATH= cd -- "$(dirname -- "$0")" && pwd -P) || exit 2
for python in "${{NIGHTMILL_PYTHON:-}}" {made_by} python3 python; do
    if command -v "$python" >/dev/null 2>&1 && "$python" -P -c 'import nightmill' 2>/dev/null; then
        exec "$python" -P -m nightmill capsule {verb} "$here" "$@"
    fi
done
echo "{verb}: no Python was found that has nightmill {version}; install it, or name one in NIGHTMILL_PYTHON" >&2
exit 3
"""
_README: Final = """\
The capsule of {attempt}
{line}

One job in a folder. It needs Python with nightmill {version} or later and the programs that its steps call; no site, no
database, no server, no network. It may be moved and copied as a whole.
{images}
  ./run                          runs the job as it ran, with the worker that runs all jobs
  ./run --steps {steps:<17}runs some steps; what they read of others comes from the last run
  ./run --input {example:<17}takes a file of yours in the place of an input
  ./run --inputs FOLDER          takes all files of a folder that have names of inputs
  ./shell                        opens a shell where a step would run, with all that it would see
  nightmill capsule diff .       compares the last run with what is on record

  inputs/                        the inputs, under the names that steps see; copies are made for each run
  bundle/                        the pipeline's folder as it was at submit; edit it, and run again
  order.json                     what the worker obeys
  configuration.yaml             parameters, stage and inputs, each with what set it
  commands.sh                    the commands, as they can be typed in a shell of the step
  environment.sh                 what the steps see beside PATH, and with which software they ran
  recorded.json                  what is on record of the attempt, where it ran
  recorded/                      what it published, where the capsule was asked to bring it (--products)
  runs/N/                        what run N left: products/, scratch/ with everything, journal/, report.json
"""


@dataclass(frozen=True)
class About:
    """What is known of a job beside its order.

    Parameters
    ----------
    origins
        Keys of the campaign to the layers that set them, as the campaign has them on record.
    software
        Step to the software that it ran with; none of a job that never ran.
    host
        Where it ran.
    site
        Name of the site.
    """

    common: StageCommon
    origins: Mapping[str, Layer]
    software: Mapping[str, Stack]
    host: str
    site: str


def write(folder: Path, order: JobOrder, recorded: JobReport | None, about: About) -> None:
    """Write the texts of a capsule into its folder.

    Parameters
    ----------
    order
        With the places of the capsule.
    recorded
        What is on record of the attempt; None where it never ran.
    """
    (folder / ORDER).write_text(order.model_dump_json(indent=2), encoding="utf-8")
    if recorded is not None:
        (folder / RECORDED).write_text(recorded.model_dump_json(indent=2), encoding="utf-8")
    (folder / "configuration.yaml").write_text(_configuration(order, about), encoding="utf-8")
    (folder / "commands.sh").write_text("\n".join(_commands(order)) + "\n", encoding="utf-8")
    (folder / "environment.sh").write_text("\n".join(_environment(order, about)) + "\n", encoding="utf-8")
    (folder / "README.txt").write_text(_readme(order), encoding="utf-8")
    for verb, what in (("run", "Runs the job"), ("shell", "Opens a shell where a step of the job would run")):
        program = folder / verb
        text = _PROGRAM.format(what=what, verb=verb, made_by=shlex.quote(sys.executable), version=__version__)
        program.write_text(text, encoding="utf-8")
        program.chmod(program.stat().st_mode | 0o100)


def _readme(order: JobOrder) -> str:
    example = f"{order.inputs[0].role}=PATH" if order.inputs else "ROLE=PATH"
    steps = ",".join(step.name for step in order.steps[:2])
    title = f"The capsule of {order.attempt}"
    named = dict.fromkeys(step.image for step in order.steps if step.image)
    images = "".join(f"Steps run in image {image}.\n" for image in named)
    images += "How, says the site that you are in, or --site DIR; --runtime none runs them without.\n" if images else ""
    return _README.format(
        images=images,
        attempt=order.attempt,
        line="=" * len(title),
        version=__version__,
        example=f"{example} ",
        steps=f"{steps} ",
    )


def _configuration(order: JobOrder, about: About) -> str:
    """Write what was effective, and which layer of the configuration set what."""
    stage = f"pipeline.stages.{order.attempt.stage}"
    origins = {
        key: str(layer)
        for key, layer in about.origins.items()
        if not key.startswith("pipeline.stages.") or key == stage or key.startswith(f"{stage}.")
    }
    layers = about.common.origins
    data = {
        "attempt": str(order.attempt),
        "site": about.site,
        "pipeline": f"{order.pipeline} {order.pipeline_version}",
        "unit": dict(order.data_id),
        "parameters": dict(order.parameters),
        "stage": about.common.stage.model_dump(mode="json", exclude_defaults=True),
        "inputs": [
            {"role": file.role, "file": file.name, "because": file.rule, "said by": layers.get(file.role, "")}
            for file in order.inputs
        ],
        "origins": origins,
    }
    head = "# What was effective. What is not among the origins is as the pipeline, or a default, says.\n"
    return head + yaml.safe_dump(data, sort_keys=False, allow_unicode=True, width=120)


def _commands(order: JobOrder) -> Iterator[str]:
    yield _note(f"The commands of {order.attempt}. Each is for the working folder of its step: ./shell --step NAME")
    for step in order.steps:
        yield ""
        yield _note(f"step {step.name}, which may take {step.wall_seconds:g} s")
        for output in step.outputs:
            if output.later:
                yield _note(f"  makes {output.called}: {output.produces or output.open_name}")
        if step.image:
            yield _note(f"  in image {step.image}")
        yield _command(step)


def _note(text: str) -> str:
    """Write a comment of one line, whatever its text holds: a shell reads the file."""
    return f"# {on_one_line(text)}"


def _command(step: OrderStep) -> str:
    """Write a command so that a shell reads it as it is run; the interpreter is that of environment.sh."""
    python = "python3" if step.image else '"$NIGHTMILL_PYTHON"'
    words = [python if item == "{python}" else shlex.quote(item) for item in step.argv]
    return " ".join([*(f"{name}={shlex.quote(value)}" for name, value in step.environment.items()), *words])


def _environment(order: JobOrder, about: About) -> Iterator[str]:
    cores = order.resources.cores
    yield _note(f"What every step of {order.attempt} sees, beside PATH, LANG and the like of its host.")
    yield f'test -n "${{NIGHTMILL_PYTHON:-}}" || NIGHTMILL_PYTHON={shlex.quote(sys.executable)}'
    yield "export NIGHTMILL_PYTHON TZ=UTC PYTHONDONTWRITEBYTECODE=1"
    yield f"export NIGHTMILL_CORES={cores} OMP_NUM_THREADS={cores}"
    for step in order.steps:
        yield _note(f"step {step.name}")
        yield from (_note(f"  {name}={shlex.quote(value)}") for name, value in step.environment.items())
        sections = about.software[step.name].sections if step.name in about.software else {}
        yield from (_note(f"  ran with {name} {text}") for each in sections.values() for name, text in each.items())
    if about.host:
        yield _note(f"on host {about.host}")
