"""Orders: what was sealed of a job, with one attempt's number, becomes everything that the attempt may know."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Final

from nightmill.config.rules import NOWHERE
from nightmill.model.layout import BUNDLE, INPUTS, OUTPUTS, seen
from nightmill.model.observed import policies
from nightmill.model.order import (
    AttemptKey,
    Copy,
    JobOrder,
    OrderInput,
    OrderOutput,
    OrderStep,
    TakenOutput,
    later_names,
)
from nightmill.model.pipeline import Output, Step, several_of, staged_roles
from nightmill.planning.outputs import log_name, output_names
from nightmill.planning.sealed import PlannedJob, StageCommon, planned_inputs
from nightmill.planning.staged_names import StagedNames
from nightmill.planning.texts import SeenFile, Texts

JOBS_PER_FOLDER: Final = 1000


def render(
    common: StageCommon, job: PlannedJob, number: int, *, plan_sha256: str = "", memory_bytes: int | None = None
) -> JobOrder:
    """Render the order of one attempt.

    Parameters
    ----------
    common
        The sealed common part of the stage.
    job
        As it was sealed, each of its files with the copy to stage.
    number
        Of the attempt.
    plan_sha256
        Digest of the sealed plan.
    memory_bytes
        What the attempt asks for, where that is not what its stage says.
    """
    order = _Renderer(common, job, number).order(plan_sha256)
    if memory_bytes is None:
        return order
    return order.model_copy(update={"resources": order.resources.model_copy(update={"memory_bytes": memory_bytes})})


def memory_wanted(common: StageCommon, job: PlannedJob, more: int | None, *, most: int | None = None) -> int | None:
    """Return what the next attempt at a job asks for, where that is more than its stage says; bytes.

    Parameters
    ----------
    more
        What earlier attempts have shown that it needs.
    most
        What its host has.
    """
    wanted = min(more or 0, most or more or 0)
    return wanted if wanted > (common.of(job).stage.resources.memory_bytes or 0) else None


def fill_texts(common: StageCommon, job: PlannedJob) -> None:
    """Fill in the texts of a job's steps to see that they can be, before the rules of its stage are whole.

    Raises
    ------
    BadText
        Where a file has no value of a key that is asked, a template cannot be filled in, or names in the scratch clash.
    """
    renderer = _Renderer(common, job, 1)
    for step in renderer.stage.steps:
        renderer.step(step)


class _Renderer:
    def __init__(self, common: StageCommon, job: PlannedJob, number: int) -> None:
        self.common = common = common.of(job)
        self.stage = common.stage
        self.job = job
        self.key = AttemptKey(campaign=common.campaign, stage=self.stage.name, unit=job.unit, number=number)
        self.staged = {choice.role: choice.files for choice in job.choices}
        self.names = StagedNames(self.stage, job.choices)
        self.made: dict[str, OrderOutput] = {}
        self.several = several_of(self.stage)
        read = [job.restart.read_by(step) for step in self.stage.steps] if job.restart else []
        self.taken_files = tuple(dict.fromkeys(file for files in read for file in files))

    def order(self, plan_sha256: str) -> JobOrder:
        common = self.common
        inputs = tuple(self.inputs())
        steps = tuple([self.step(step) for step in self.stage.steps])
        stores = {copy.store for file in inputs for copy in file.copies} | {
            output.store for step in steps for output in step.outputs
        }
        stores |= {common.log_store} | ({common.bundle.store} if common.bundle else set())
        stores |= {file.store for file in self.taken_files}
        types = {output.type for step in steps for output in step.outputs if output.type}
        return JobOrder(
            attempt=self.key,
            data_id=self.job.data_id,
            begins_at=self.job.begins_at,
            ends_at=self.job.ends_at,
            pipeline=common.pipeline,
            pipeline_version=common.pipeline_version,
            pipeline_dir=common.pipeline_dir,
            bundle=common.bundle.order if common.bundle else None,
            plan_sha256=plan_sha256,
            parameters=common.parameters,
            stores={name: store for name, store in common.stores.items() if name in stores},
            file_types={name: common.file_types[name] for name in sorted(types)},
            inputs=inputs,
            steps=steps,
            only=self.job.restart.only if self.job.restart else None,
            taken=tuple(self.taken()),
            log_name=log_name(common, self.job.data_id, self.key.number),
            log_store=common.log_store,
            log_directory=self.directory(),
            resources=self.stage.resources,
            junk=self.stage.junk or "leave",
            keep_on_failure=self.stage.keep_on_failure,
            level=common.level,
        )

    def inputs(self) -> Iterator[OrderInput]:
        """Yield every file that is to be staged, once, under the first role that wants it."""
        roles: dict[int, dict[str, None]] = {}
        wanted = staged_roles(self.stage)
        for role, files in self.staged.items():
            for file in files if role in wanted else ():
                roles.setdefault(file.id, {})[role] = None
        seen: set[int] = set()
        for role, rule, _origin, files, level in planned_inputs(self.common, self.job):
            for file in files if role in wanted else ():
                if file.id not in seen:
                    seen.add(file.id)
                    yield OrderInput(
                        role=role,
                        name=file.name,
                        type=file.type,
                        size_bytes=file.size_bytes,
                        sha256=file.sha256,
                        store=file.store,
                        path=file.path,
                        data_id=file.data_id,
                        rule=rule,
                        level=level,
                        also=tuple([Copy(store=store, path=path) for store, path in file.also]),
                        more_roles=tuple(roles[file.id])[1:],
                        staged_as=self.names.other_than(file),
                        excluded=file.excluded,
                    )

    def taken(self) -> Iterator[TakenOutput]:
        """Yield what an earlier attempt made, under the names that the steps of this one read."""
        for file in self.taken_files:
            yield TakenOutput(
                role=file.role,
                name=file.name if file.place is None else self.made[file.role].names[file.place],
                size_bytes=file.size_bytes,
                sha256=file.sha256,
                store=file.store,
                path=file.path,
            )

    def step(self, step: Step) -> OrderStep:
        outputs = tuple([self.output(step, role, output) for role, output in step.outputs.items()])
        own = {output.role: tuple(self.seen_outputs(output, "")) for output in outputs}
        texts = Texts(
            inputs=self.inputs_of(step),
            outputs=own,
            several=self.several,
            parameters=self.common.parameters,
            unit=self.job.data_id,
            pipeline_dir=seen(BUNDLE) if self.common.bundle else self.common.pipeline_dir,
        )
        templates = self.common.bundle.templates if self.common.bundle else {}
        filled = {name: texts.fill(text) for name, text in step.environment.items()}
        rendered = OrderStep(
            name=step.name,
            argv=_call(step, texts) if step.call else tuple([each for item in step.argv for each in texts.items(item)]),
            inputs=tuple([name for role in step.inputs for name in self.names_of(role)]),
            outputs=outputs,
            environment={name: text for name, text in filled.items() if text is not None},
            wall_seconds=step.wall_seconds,
            on_failure=step.on_failure,
            warm=step.warm,
            software=step.software,
            image=step.image,
            network=step.network,
            sockets=step.sockets,
            shared_memory=step.shared_memory,
            may_eliminate=step.may_eliminate,
            differences=policies([step.differences]),
            files=tuple(texts.write(step.files, templates)) if step.files else (),
        )
        self.made |= {output.role: output for output in outputs}
        return rendered

    def output(self, step: Step, role: str, output: Output) -> OrderOutput:
        kept = output.to != NOWHERE
        valid_from, valid_until = self.validity(output)
        names = output_names(self.common, self.job.data_id, self.key.number, step.name, role)
        open_name = names[0] if names and "{" in names[0] else ""
        if open_name:
            names = ()
        elif not output.type and not output.later:
            names = (output.produces,)
        data_id = self.job.data_id
        return OrderOutput(
            role=role,
            type=output.type,
            names=names,
            data_id={key: data_id[key] for key in data_id if key not in output.tells} if output.tells else data_id,
            required=output.required,
            produces=output.produces,
            where=output.where,
            tells=output.tells,
            open_name=open_name,
            min=output.min,
            max=None if names else output.max,
            store=output.to if kept else "",
            directory=self.directory() if kept else "",
            calibration=output.calibration,
            valid_from=valid_from,
            valid_until=valid_until,
        )

    def validity(self, output: Output) -> tuple[str, str]:
        begins_at, ends_at = self.job.begins_at, self.job.ends_at
        if output.calibration is None or begins_at is None or ends_at is None:
            return "", ""
        valid_from, valid_until = output.calibration.validity(begins_at, ends_at)
        return valid_from.isoformat(), valid_until.isoformat()

    def directory(self) -> str:
        """Return the folder of the job's files below a store: a subfolder for each further thousand of jobs."""
        folder = f"{self.common.campaign}/{self.stage.name}"
        thousand = self.job.number // JOBS_PER_FOLDER
        return f"{folder}/{thousand:03d}" if thousand else folder

    def names_of(self, role: str) -> tuple[str, ...]:
        if role in self.staged:
            return tuple([file.name for file in self.staged[role]])
        made = self.made[role]
        return (later_names(role),) if made.later else made.names

    def inputs_of(self, step: Step) -> dict[str, tuple[SeenFile, ...]]:
        """Return the files that a step reads, as it sees them, by role."""
        return {
            role: tuple(
                [
                    SeenFile(seen(INPUTS, self.names[file]), file.name, file.type, file.get, file.excluded)
                    for file in self.staged[role]
                ]
            )
            if role in self.staged
            else tuple(self.seen_outputs(self.made[role], OUTPUTS))
            for role in step.inputs
        }

    def seen_outputs(self, output: OrderOutput, folder: str) -> Iterator[SeenFile]:
        """Yield the files of an output as steps see them; what is known of them is what their unit is of."""
        for name in (later_names(output.role),) if output.later else output.names:
            yield SeenFile(seen(folder, name) if folder else name, name, output.type, self.job.data_id.get)


def _call(step: Step, texts: Texts) -> tuple[str, ...]:
    arguments = {name: texts.argument(text) for name, text in step.arguments.items()}
    return ("{python}", "-m", "nightmill.execution.call", step.call, json.dumps(arguments))
