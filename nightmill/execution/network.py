"""What the steps of a job depend on that lies on network mounts of this host."""

from __future__ import annotations

import sys
from itertools import chain

from nightmill.errors import JobFailed
from nightmill.execution.context import JobContext
from nightmill.files.mounts import on_network, paths_of
from nightmill.model.fate import Fate
from nightmill.model.node import NetworkPaths
from nightmill.model.order import OrderStep


def network_paths(step: OrderStep, context: JobContext) -> list[str]:
    """Return a sentence for each path that a step depends on and that lies on a network mount of this host.

    Raises
    ------
    JobFailed
        Where the site refuses such steps; where its image or the runtime is not there.
    """
    if context.network_paths is NetworkPaths.ALLOW:
        return []
    container = context.containers.of(step)
    argv = [each.replace("{python}", sys.executable) for each in step.argv]
    own = paths_of(argv, step.environment) if container is None else container.places
    found = on_network(chain((context.scratch, context.bundles.trees.parent), own))
    if found and context.network_paths is NetworkPaths.REFUSE:
        raise JobFailed(
            f"step {step.name!r} is not started: {'; '.join(found)}; and the site refuses that",
            fate=Fate.STEP_NOT_STARTED,
            step=step.name,
            remedy="put it into the image, the pipeline's folder or a disk of this node, or see network_paths of the"
            " site",
        )
    return found
