"""What is on record of jobs, and of what made files, as programs read it."""

from __future__ import annotations

from nightmill.cli.documents import files, lineages, told, work
from provenance.history import Execution, JobHistory, Maker
from provenance.lineage import Lineage


def history_of(job: JobHistory) -> work.JobHistory:
    """Tell of a job and one of its attempts."""
    return told(
        work.JobHistory,
        job,
        attempts=[told(work.Attempt, each) for each in job.attempts],
        shown=told(work.Attempt, job.shown) if job.shown else None,
        inputs=[told(work.ChosenInput, each) for each in job.inputs],
        executions=[_execution(each) for each in job.executions],
        made=[told(work.MadeFile, each) for each in job.made],
    )


def maker_of(maker: Maker) -> files.Maker:
    """Tell of what made a file."""
    inputs = [told(work.ChosenInput, each) for each in maker.inputs]
    return told(files.Maker, maker, execution=_execution(maker.execution), inputs=inputs)


def _execution(run: Execution) -> work.Execution:
    sections = {} if run.software is None else run.software.sections
    return told(work.Execution, run, software=sections)


def lineage_of(found: Lineage) -> lineages.Lineage:
    """Tell of what a file was made of, or what was made of it."""
    names = {id_: node.name for id_, node in found.files.items()}
    edges = {
        relation.value: [told(lineages.Edge, edge, file=names[edge.file_id]) for edge in edges]
        for relation, edges in found.edges.items()
    }
    return told(
        lineages.Lineage,
        found,
        file=names[found.start],
        files=[told(lineages.LineageFile, node) for node in found.files.values()],
        executions=[told(lineages.LineageExecution, node) for node in found.executions.values()],
        **edges,
    )
