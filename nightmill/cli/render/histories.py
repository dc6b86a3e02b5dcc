"""What is on record of jobs, and of what made files, as programs read it."""

from __future__ import annotations

from collections.abc import Sequence

from nightmill.cli.documents import file_warnings, files, knowledge, lineages, told, work
from provenance.history import Execution, JobHistory, Maker
from provenance.knowledge import Completeness, Warned
from provenance.lineage import Lineage


def history_of(job: JobHistory) -> work.JobHistory:
    """Tell of a job and one of its attempts."""
    return told(
        work.JobHistory,
        job,
        attempts=[told(work.Attempt, each) for each in job.attempts],
        shown=told(work.Attempt, job.shown) if job.shown else None,
        inputs=[told(work.ChosenInput, each) for each in job.inputs],
        executions=[_run(each) for each in job.executions],
        made=[
            told(work.MadeFile, each, warnings=[told(file_warnings.FileWarning, warning) for warning in each.warnings])
            for each in job.made
        ],
    )


def maker_of(maker: Maker) -> files.Maker:
    """Tell of what made a file."""
    inputs = [told(work.ChosenInput, each) for each in maker.inputs]
    return told(files.Maker, maker, execution=_run(maker.execution), inputs=inputs)


def _run(run: Execution) -> work.Execution:
    seen = run.observed
    differences = [told(knowledge.Difference, each) for each in seen.differences] if seen else []
    observed = told(knowledge.Observed, seen, differences=differences) if seen else None
    sections = run.software.sections if run.software is not None else {}
    return told(work.Execution, run, software=sections, observed=observed)


def known_of(known: Completeness, warnings: Sequence[Warned]) -> dict[str, object]:
    """Tell of how much is known of a campaign, and what it warns of, for documents that have both."""
    return {
        "known": told(knowledge.Completeness, known),
        "differences": [told(knowledge.WarnedOf, each) for each in warnings],
    }


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
        was_derived_from=[
            lineages.Derived(file=names[made], of=sorted(names[each] for each in of if each in names))
            for made, of in found.derived.items()
            if made in names
        ],
        left_out=[told(lineages.Edge, edge, file=names[edge.file_id]) for edge in found.left_out],
        **edges,
    )
