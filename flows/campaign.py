"""The flow of a campaign: each stage in its turn, a slice run for each slice that has work left."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TypeVar

from prefect import flow
from prefect.client.schemas.objects import State
from prefect.logging import get_run_logger
from prefect.runtime import flow_run as this_flow_run
from prefect.states import Completed, Failed
from sqlalchemy.orm import Session

from flows import artifacts
from flows.hosting.api import PrefectApi
from flows.hosting.halted import end_halted
from flows.hosting.own_site import REFUSED, own_site
from flows.hosting.reconcile import HELD, reconcile_campaign
from flows.slice import HALTED, PATIENCE_SECONDS
from nightmill.backbone.work import campaigns, leases
from nightmill.backbone.work.campaigns import StageProgress
from nightmill.backbone.work.conducting import conducts_campaign
from nightmill.backbone.work.slices import slices as slices_in
from nightmill.backbone.work.steering import Steering, steering_of
from nightmill.backbone.work.steering import waits as waits_for_somebody
from nightmill.clock import utc_now
from nightmill.errors import DatabaseAway, PlanRefused, RequestRefused, ServerAway
from nightmill.execution.owner import this_process
from nightmill.model.states import JobState
from nightmill.operations import credentials
from nightmill.operations.costs import seconds_left
from nightmill.operations.drain import drain
from nightmill.operations.notify import await_told, notify
from nightmill.operations.patience import Patience
from nightmill.operations.samples import sign_by_rule
from nightmill.operations.site import Site, open_site
from nightmill.operations.turns import StageTurn, Turn, grow, take_turn
from nightmill.planning.problems import counted

Result = TypeVar("Result")

POLL_SECONDS = 0.5
MOST_POLL_SECONDS = 5.0
"""A slice that has taken long is looked at less often: each time after a fiftieth of what it took."""
LAST_PATIENCE_SECONDS = 5.0
"""When it is told to end itself, and will be killed if it does not."""
RECONCILE_SECONDS = 30.0
"""How often slices are looked after whose process may have died without a word."""


@flow(name="campaign", flow_run_name="{campaign}", persist_result=False, validate_parameters=False)
def campaign(campaign: str, site: str) -> State[None]:
    """Carry out what is not done of a campaign.

    Ends Failed where some job is not done, or some stage cannot be carried out; Paused or Cancelled where its operators
    want that. Carried out again, it takes up what is not published.
    """
    try:
        directory = own_site(site)
    except RequestRefused as refused:
        return Failed(name=REFUSED, message=str(refused))
    flow_run_id = str(this_flow_run.get_id())
    patience = Patience(f"campaign {campaign}", PATIENCE_SECONDS, get_run_logger().warning)
    with PrefectApi.of_flow(PATIENCE_SECONDS) as api, open_site(directory, patience=patience) as opened:
        try:
            found = credentials.require(opened.config)
        except credentials.CredentialsLacking as lacking:
            return Failed(name=HALTED, message=str(lacking))
        expected = opened.patiently(lambda: seconds_left(opened, campaign)) if found else None
        for sentence in credentials.short(found, expected):
            get_run_logger().warning(sentence)
        conductor = Conductor(opened, api, campaign, flow_run_id)
        with conductor.in_hand():
            conductor.conduct()
        stages = conductor.stages()
        artifacts.tell_campaign(api, flow_run_id, opened, campaign, stages, conductor.problems)
        steering = conductor.steering()
        await_told(notify(opened, campaign, ended=not steering.is_paused, warn=get_run_logger().warning))
        if steering.halts and not _is_complete(stages):
            return end_halted(opened, api, flow_run_id, conductor.campaign_id, steering)
        run = api.read(flow_run_id)
    return outcome(stages, conductor.problems, times=run.run_count if run else 1)


def outcome(stages: Sequence[StageProgress], problems: Sequence[str], *, times: int = 1) -> State[None]:
    """Return the state that a campaign ends with: Completed where every stage was planned and every job is done.

    It is named Held where units wait for what their inputs lack, and where nothing else is left but jobs that are held.
    Its message tells how many times the campaign was carried out, where that is more than once.
    """
    total = sum(stage.total for stage in stages)
    left = total - sum(stage.counts.get(JobState.DONE, 0) for stage in stages)
    held = sum(stage.left_out.get("hold", 0) for stage in stages)
    waits = [f"{held} {'unit' if held == 1 else 'units'} held"] if held else []
    barred = sum(stage.counts.get(JobState.HELD, 0) for stage in stages)
    waits += [f"{barred} of them held"] if barred else []
    again = [f"carried out {times} times"] if times > 1 else []
    jobs = f"{left} of {counted(total, 'job')} not done" if left else f"{counted(total, 'job')} done"
    told = "; ".join([jobs, *again, *waits, *problems])
    if _is_complete(stages):
        return Completed(name=HELD, message=told) if held else Completed(message=told)
    if waits_for_somebody(stages):
        return Completed(name=HELD, message=told)
    return Failed(message=told)


def _is_complete(stages: Sequence[StageProgress]) -> bool:
    return all(stage.revisions and stage.counts.get(JobState.DONE, 0) == stage.total for stage in stages)


@dataclass
class Conductor:
    """One campaign in the hands of one flow run."""

    site: Site
    api: PrefectApi
    name: str
    flow_run_id: str
    problems: list[str] = field(default_factory=list)
    """Why stages, or units of them, were not carried out."""
    _running: dict[str, str] = field(default_factory=dict)
    """The slice runs that are under way, with their stages."""

    def __post_init__(self) -> None:
        self.campaign_id = self._read(partial(campaigns.own_campaign, name=self.name)).id

    @contextmanager
    def in_hand(self) -> Iterator[None]:
        """Put on record that this process conducts the campaign, for as long as it does."""
        owner = this_process()

        def take(session: Session) -> int:
            conducts_campaign(session, self.campaign_id, self.flow_run_id)
            return leases.take(session, owner, flow_run_id=self.flow_run_id, now=utc_now())

        lease = self.site.patiently(lambda: self.site.database.write(take))

        def release() -> None:
            self.site.database.write(lambda session: leases.release(session, lease, now=utc_now()))

        try:
            yield
        except BaseException:
            with suppress(DatabaseAway):  # who is told to end has seconds; a drain ends leases of dead processes
                release()
            raise
        self.site.patiently(release)

    def stages(self) -> list[StageProgress]:
        """Return how the stages stand."""
        return self._read(partial(campaigns.progress, campaign_id=self.campaign_id))

    def steering(self) -> Steering:
        """Return what the operators of the campaign want."""
        return self._read(partial(steering_of, campaign_id=self.campaign_id))

    def conduct(self) -> None:
        """Carry out every stage whose turn comes, and again what comes meanwhile that was held.

        Where this flow run is cancelled, its slices are.
        """
        self._reconcile()
        try:
            self._conduct_stages()
            while self._has_come():
                self.problems.clear()
                self._conduct_stages()
        except BaseException:
            with suppress(ServerAway), replace(self.api, patience_seconds=LAST_PATIENCE_SECONDS) as api:
                own = api.read(self.flow_run_id)
                if own is not None and own.state.type == "CANCELLING":
                    self._cancel_slices(api)
            raise

    def _conduct_stages(self) -> None:
        todo = [stage.stage for stage in self.stages()]
        while todo or self._running:
            reasons = []
            for stage in list(todo):
                turn = self._take_turn(stage, under_way={*todo, *self._running.values()})
                if turn.turn is Turn.READY:
                    todo.remove(stage)
                    self.problems += [turn.reason] if turn.reason else []
                    self._start_slices(stage)
                else:  # blocked ones too: a slice that runs may yet do what they need
                    reasons.append(turn.reason)
            if not self._running:
                self.problems += reasons
                return
            self._wait_for_some()

    def _has_come(self) -> bool:
        """Say whether a rule has signed a breakpoint off, or units have joined a plan that were held before."""
        ruled = self.site.patiently(lambda: sign_by_rule(self.site, self.name))
        self.problems += ruled.waits
        if ruled.signed:
            get_run_logger().info("Signed off by their rules: %s", ", ".join(ruled.signed))
            return True
        if not any("hold" in stage.left_out for stage in self.stages()):
            return False
        with suppress(PlanRefused):
            return self.site.patiently(lambda: grow(self.site, self.name))
        return False

    def _take_turn(self, stage: str, *, under_way: Collection[str]) -> StageTurn:
        try:
            return self.site.patiently(lambda: take_turn(self.site, self.name, stage, under_way=under_way))
        except PlanRefused as refused:
            get_run_logger().error("%s", refused)
            return StageTurn(Turn.BLOCKED, reason=f"stage {stage!r} cannot be planned: {refused.problems[0]}")

    def _start_slices(self, stage: str) -> None:
        """Have the slices of a stage carried out that have work left: each by its one flow run, in place."""
        slices = self._read(partial(slices_in, campaign_id=self.campaign_id, stage=stage))
        directory = str(self.site.config.directory)
        unfinished = [each for each in slices if each.done < each.jobs and not each.waits]
        get_run_logger().info("Stage %s: slices with work left: %d of %d", stage, len(unfinished), len(slices))
        for each in unfinished:
            run = self.api.run_of(
                "slice/slice",
                name=f"{self.name} {stage} #{each.number}",
                key=f"{directory}:{self.name}:{stage}:{each.number}",
                parameters={"campaign": self.name, "stage": stage, "number": each.number, "site": directory},
                tags=[self.name],
                parent=self.flow_run_id,
            )
            if run.state.ended:
                self.api.schedule(run.id, "carried out again by its campaign")
            self._running[run.id] = stage

    def _wait_for_some(self) -> None:
        """Wait until a slice run has ended, at least."""
        began = time.monotonic()
        reconcile_at = began + RECONCILE_SECONDS
        while True:
            runs = {run.id: run.state for run in self.api.read_many(sorted(self._running))}
            under_way = {run_id for run_id, state in runs.items() if not state.ended}
            ended = self._running.keys() - under_way
            if ended:
                self._running = {run_id: stage for run_id, stage in self._running.items() if run_id in under_way}
                refused = [
                    runs[run_id].message for run_id in ended & runs.keys() if runs[run_id].name in (REFUSED, HALTED)
                ]
                self.problems += sorted(set(refused) - set(self.problems))
                if any(run_id not in runs or runs[run_id].type == "CRASHED" for run_id in ended):
                    self._reconcile()  # it did not tell how its jobs ended
                return
            if time.monotonic() > reconcile_at:
                self._reconcile()
                reconcile_at = time.monotonic() + RECONCILE_SECONDS
            time.sleep(min(max(POLL_SECONDS, (time.monotonic() - began) / 50), MOST_POLL_SECONDS))

    def _cancel_slices(self, api: PrefectApi) -> None:
        for run in api.read_many(sorted(self._running)):
            if not run.state.ended:
                waits = run.state.type == "SCHEDULED"
                message = "with its campaign"
                api.set_state(run.id, {"type": "CANCELLED" if waits else "CANCELLING", "message": message})

    def _reconcile(self) -> None:
        def once() -> None:
            drain(self.site, patience_seconds=30.0)
            reconcile_campaign(self.site, self.api, self.name)

        self.site.patiently(once)
        notify(self.site, self.name, warn=get_run_logger().warning)

    def _read(self, work: Callable[[Session], Result]) -> Result:
        def once() -> Result:
            with self.site.database.reading() as session:
                return work(session)

        return self.site.patiently(once)
