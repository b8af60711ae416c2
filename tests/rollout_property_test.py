from collections.abc import Sequence

from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from mlops_core.rollout import machine
from mlops_core.rollout.desk import Desk, handle, standing
from mlops_core.rollout.effects import (
    REPORTED,
    Crown,
    Effect,
    EnsureRevision,
    Retire,
    ShiftTraffic,
    Tag,
    effects,
)
from mlops_core.rollout.machine import Rollout
from mlops_core.rollout.states import TERMINAL, Phase
from schemas.events import (
    AnyEvent,
    DeployRequested,
    Event,
    ModelRegistered,
    Outcome,
    PerformanceMeasured,
    RolloutAction,
    RolloutCommanded,
    RolloutObstructed,
    RolloutPerformed,
)
from schemas.settings import RolloutSettings

MODEL = "flights"
SETTINGS = RolloutSettings(steps=(10, 50, 100), min_labels=50)
Report = RolloutPerformed | RolloutObstructed


class Place:
    """A place where versions serve, and the registry beside it."""

    def __init__(self) -> None:
        self.up: set[str] = set()
        self.weights: dict[str, int] = {}
        self.champion: str | None = None

    def perform(self, effect: Effect) -> None:
        match effect:
            case EnsureRevision(_, version, _):
                self.up.add(version)
            case ShiftTraffic(_, weights):
                assert sum(weights.values()) == 100
                assert set(weights) <= self.up, "traffic goes only to versions that were ensured"
                self.weights = dict(weights)
            case Crown(_, version):
                self.champion = version
            case Retire(_, version):
                # A first version that is given up has nobody to leave its traffic to.
                assert version not in self.weights or self.weights == {version: 100}
                self.up.discard(version)
            case Tag():
                pass


class Shell(RuleBasedStateMachine):
    """Every order of events, reports, commands, redeliveries and crashes that a shell can bring about."""

    def __init__(self) -> None:
        super().__init__()
        self.place = Place()
        self.desk = Desk(model=MODEL)
        self.stored = self.desk.model_dump_json()
        self.log: list[AnyEvent] = []
        self.ended: dict[str, Phase] = {}
        self.ids: dict[str, Event] = {}
        self.number = 0

    @initialize(champion=st.booleans())
    def begin(self, champion: bool) -> None:
        if champion:
            self.desk = Desk(model=MODEL, champion="0")
            self.place.champion = "0"
        self.start_again(0)

    def fresh(self) -> int:
        self.number += 1
        return self.number

    def tell(self, event: AnyEvent, *, stored: bool = True) -> None:
        """Handle it and publish what follows; a crash may come before the desk is stored."""
        self.remember(event)
        self.log.append(event)
        self.desk, follows = handle(self.desk, event, SETTINGS)
        for follow in follows:
            assert follow.caused_by in self.ids, "an effect never comes before its cause"
            self.remember(follow)
        if stored:
            self.stored = self.desk.model_dump_json()

    def remember(self, event: Event) -> None:
        assert self.ids.setdefault(event.id, event) == event, "an id stands for one event"

    def report(self) -> Report:
        assert self.desk.open is not None
        return machine.performed(self.desk.open)

    def perform(self, what: Sequence[Effect]) -> None:
        for effect in what:
            self.place.perform(effect)

    @property
    def busy(self) -> bool:
        return self.desk.open is not None and self.desk.open.phase in REPORTED

    @rule(manual=st.booleans())
    def register(self, manual: bool) -> None:
        n = self.fresh()
        how = "manual" if manual else "automatic"
        fields = {"id": f"registered-{n}", "at": n, "model": MODEL, "version": str(n)}
        self.tell(ModelRegistered.model_validate({**fields, "run_id": "r", "rollout": how}))

    @rule(version=st.integers(0, 8))
    def ask(self, version: int) -> None:
        n = self.fresh()
        self.tell(DeployRequested(id=f"asked-{n}", at=n, model=MODEL, version=str(version)))

    @rule(action=st.sampled_from(RolloutAction))
    def command(self, action: RolloutAction) -> None:
        n = self.fresh()
        self.tell(RolloutCommanded(id=f"said-{n}", at=n, model=MODEL, action=action))

    @rule(
        rows=st.sampled_from([0, 20, 60]),
        loss=st.sampled_from([0.1, 0.1, 0.9, float("inf")]),
        crash=st.booleans(),
    )
    def measure(self, rows: int, loss: float, crash: bool) -> None:
        self.tell(self.window(rows, loss), stored=not crash)
        if crash:
            self.start_again(0)
            self.tell(self.log[-1])

    def window(self, rows: int, loss: float) -> PerformanceMeasured:
        n = self.fresh()
        rollout = self.desk.open
        good = Outcome(rows=rows, loss=rows * 0.1, loss_squared=rows * 0.1)
        canary = Outcome(
            rows=rows, loss=rows * loss if rows else 0.0, loss_squared=rows * loss if rows else 0.0
        )
        versions = {rollout.stable or "none": good, rollout.version: canary} if rollout else {}
        fields = {"id": f"window-{n}", "at": n, "since": n, "until": n, "rows": rows, "labelled": rows}
        return PerformanceMeasured.model_validate({**fields, "model": MODEL, "versions": versions})

    @precondition(lambda self: self.busy)
    @rule()
    def carry_out(self) -> None:
        assert self.desk.open is not None
        self.perform(effects(self.desk.open))
        self.tell(self.report())

    @precondition(lambda self: self.busy)
    @rule(done=st.integers(0, 3))
    def fail_to_carry_out(self, done: int) -> None:
        assert self.desk.open is not None
        self.perform(effects(self.desk.open)[:done])
        self.tell(machine.obstructed(self.desk.open, "no such image"))

    @precondition(lambda self: self.log)
    @rule(data=st.data())
    def redeliver(self, data: st.DataObject) -> None:
        self.tell(data.draw(st.sampled_from(self.log)))

    @rule(done=st.integers(0, 3))
    def start_again(self, done: int) -> None:
        """Killed after some of the effects; another starts from what was stored."""
        if self.desk.open:
            self.perform(effects(self.desk.open)[:done])
        self.desk = Desk.model_validate_json(self.stored if self.log else self.desk.model_dump_json())
        self.perform(standing(self.desk))
        if self.desk.open:
            self.perform(effects(self.desk.open))

    @invariant()
    def nothing_leaves_a_terminal_phase(self) -> None:
        rollouts: list[Rollout] = [*self.desk.finished, *([self.desk.open] if self.desk.open else [])]
        for rollout in rollouts:
            if rollout.phase in TERMINAL or rollout.id in self.ended:
                assert self.ended.setdefault(rollout.id, rollout.phase) == rollout.phase

    @invariant()
    def at_rest_the_champion_serves_everything(self) -> None:
        if self.desk.open is None and self.desk.champion is not None:
            assert self.place.weights == {self.desk.champion: 100}
            assert self.place.champion == self.desk.champion
            assert {self.desk.champion, self.desk.previous or self.desk.champion} <= self.place.up

    @invariant()
    def the_queue_is_short(self) -> None:
        assert len(self.desk.queue) <= 2
        assert self.desk.open or not self.desk.queue

    def teardown(self) -> None:
        """Signals keep coming: every rollout ends in one terminal phase."""
        for _ in range(100):
            if self.desk.open is None:
                break
            if self.desk.open.phase is Phase.PAUSED:
                self.command(RolloutAction.RESUME)
            self.carry_out()
            self.tell(self.window(60, 0.1))
        assert self.desk.open is None
        assert all(rollout.phase in TERMINAL for rollout in self.desk.finished)


ShellTest = Shell.TestCase
ShellTest.settings = hypothesis_settings(max_examples=100, stateful_step_count=40)
