"""What is on record of jobs, and of what made files, as programs read it."""

from __future__ import annotations

from nightmill.cli.documents import files, lineages, told, work
from provenance.history import Execution, JobHistory, Maker
from provenance.lineage import Lineage


def history_of(job: JobHistory) -> work.JobHistory:
    """Tell of a job and one of its attempts."""
    return told(work.JobHistory, job, executions=[_run(each) for each in job.executions])


def maker_of(maker: Maker) -> files.Maker:
    """Tell of what made a file."""
    return told(files.Maker, maker, execution=_run(maker.execution))


def _run(run: Execution) -> work.Execution:
    return told(work.Execution, run, software=run.software.sections if run.software is not None else {})


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
        files=found.files.values(),
        executions=found.executions.values(),
        was_derived_from=[
            lineages.Derived(file=names[made], of=sorted(names[each] for each in of if each in names))
            for made, of in found.derived.items()
            if made in names
        ],
        left_out=[told(lineages.Edge, edge, file=names[edge.file_id]) for edge in found.left_out],
        **edges,
    )
