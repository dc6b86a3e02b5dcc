"""Units that are left out of a plan since an input lacks files: skipped, or held until these come."""

from __future__ import annotations

from dataclasses import dataclass, field

from nightmill.backbone.work.left_out import LeftOut
from nightmill.model.pipeline import Input
from nightmill.planning.problems import Problems


class Lacking(Problems):
    """Collects what units lack in one input, where its ``missing`` leaves them out.

    Parameters
    ----------
    role, declared
        The input.
    units
        Where the units are kept, by name. What one input skips, no other holds.
    """

    def __init__(self, role: str, declared: Input, units: dict[str, LeftOut]) -> None:
        super().__init__()
        self._role = role
        self._declared = declared
        self._units = units

    def add(self, topic: str, reason: str, example: str = "", *, detail: str = "", noun: str = "unit") -> None:
        """Leave a unit out, and keep the sentence that tells it, as :meth:`Problems.add`."""
        missing = self._declared.missing
        before = self._units.get(example)
        if before is None or before.missing != "skip":
            why = f"{reason} ({detail})" if detail else reason
            types = ",".join(dict.fromkeys(way.type for way in self._declared.ways))
            self._units[example] = LeftOut(example, self._role, types, missing, why)
        until = "; held until it comes" if missing == "hold" else "; skipped"
        super().add(topic, f"{reason}{until}", example, detail=detail, noun=noun)


@dataclass
class Shortfalls:
    """Where it is told what units of a stage lack.

    Parameters
    ----------
    problems
        What is wrong with the plan.
    waiting
        What a stage before it may still make.
    units
        Those that are left out, by name.
    """

    problems: Problems
    waiting: Problems = field(default_factory=Problems)
    units: dict[str, LeftOut] = field(default_factory=dict)
    _lacking: list[Lacking] = field(default_factory=list)

    def of(self, role: str, declared: Input) -> Lacking:
        """Return where to tell of an input that leaves units out."""
        self._lacking.append(Lacking(role, declared, self.units))
        return self._lacking[-1]

    def sentences(self) -> tuple[str, ...]:
        """Return why units are left out, one sentence for those that are alike."""
        return tuple([sentence for each in self._lacking for sentence in each.sentences()])
