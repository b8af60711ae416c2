from collections.abc import Sequence

from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from driftloop.mlops_core.rollout import state_machine
from driftloop.mlops_core.rollout.controller import blend_effect, handle, steady_effects
from driftloop.mlops_core.rollout.controller_state import SEEN, RolloutController
from driftloop.mlops_core.rollout.effects import (
    REPORTED,
    Blend,
    Effect,
    EnsureRevision,
    Retire,
    SetChampion,
    ShiftTraffic,
    Tag,
    effects,
)
from driftloop.mlops_core.rollout.state_machine import Rollout
from driftloop.mlops_core.rollout.states import TERMINAL
from driftloop.schemas.events import (
    Agreement,
    AgreementMeasured,
    ChallengerProven,
    DeployRequested,
    Event,
    EvidenceMeasured,
    MemberEvidence,
    ModelRegistered,
    Outcome,
    PairEvidence,
    PerformanceMeasured,
    RolloutAction,
    RolloutCommanded,
    RolloutObstructed,
    RolloutPerformed,
    RolloutPhase,
    Traffic,
    TrafficMeasured,
)
from driftloop.schemas.settings import RolloutSettings

MODEL = "flights"
SETTINGS = [
    RolloutSettings(steps=(10, 50, 100), min_labels=50, min_requests=50, strategy=strategy, evidence=evidence)
    for strategy in ("champion", "blend")
    for evidence in ("auto", "canary")
]
Report = RolloutPerformed | RolloutObstructed


class Place:
    """A place where versions serve, and the registry beside it."""

    def __init__(self) -> None:
        self.up: set[str] = set()
        self.weights: dict[str, int] = {}
        self.champion: str | None = None
        self.blend: dict[str, float] = {}
        self.alone: set[str] = set()
        """Versions that answer alone, whatever the others do."""

    def perform(self, effect: Effect) -> None:
        match effect:
            case EnsureRevision(_, version, _):
                self.up.add(version)
            case ShiftTraffic(_, weights):
                assert sum(weights.values()) == 100
                assert set(weights) <= self.up, "traffic goes only to versions that were ensured"
                self.weights = dict(weights)
            case SetChampion(_, version):
                self.champion = version
            case Retire(_, version):
                # A first version that is given up has nobody to leave its traffic to.
                assert version not in self.weights or self.weights == {version: 100}
                self.up.discard(version)
            case Blend(_, weights, None):
                assert not weights or abs(sum(weights.values()) - 1) < 0.001
                self.blend = dict(weights)
            case Blend(_, weights, version) if version:
                assert set(weights) <= {version}
                self.alone = self.alone | {version} if weights else self.alone - {version}
            case Blend() | Tag():
                pass


class Shell(RuleBasedStateMachine):
    """Every order of events, reports, commands, redeliveries and crashes that a shell can bring about."""

    def __init__(self) -> None:
        super().__init__()
        self.place = Place()
        self.controller = RolloutController(model=MODEL)
        self.stored = self.controller.model_dump_json()
        self.log: list[Event] = []
        self.ended: dict[str, RolloutPhase] = {}
        self.ids: dict[str, Event] = {}
        self.insisted: set[str] = set()
        """Rollouts that a person resumed, or that were beyond a pause when the pin came."""
        self.settings = SETTINGS[0]
        self.number = 0

    @initialize(champion=st.booleans(), settings=st.sampled_from(SETTINGS))
    def begin(self, champion: bool, settings: RolloutSettings) -> None:
        self.settings = settings
        if champion:
            self.controller = RolloutController(model=MODEL, champion="0")
            self.place.champion = "0"
        self.start_again(0)

    def fresh(self) -> int:
        self.number += 1
        return self.number

    def tell(self, event: Event, *, stored: bool = True) -> None:
        """Handle it and publish what follows; a crash may come before the controller is stored."""
        self.remember(event)
        self.log.append(event)
        before = self.controller
        self.controller, follows = handle(before, event, self.settings)
        if before.pinned and self.controller.pinned and self.controller.champion != before.champion:
            assert before.open is not None
            held = before.open.by_hand or before.open.id in self.insisted
            assert held, "only a person's word takes the place of a pinned champion"
        if before.pinned and self.controller.pinned:
            assert self.controller.blend == before.blend, "pinned weights stay"
        for follow in follows:
            assert follow.caused_by in self.ids, "an effect never comes before its cause"
            self.remember(follow)
        if stored:
            self.stored = self.controller.model_dump_json()

    def remember(self, event: Event) -> None:
        assert self.ids.setdefault(event.id, event) == event, "an id stands for one event"

    def report(self) -> Report:
        assert self.controller.open is not None
        return state_machine.performed_report(self.controller.open)

    def perform(self, what: Sequence[Effect]) -> None:
        for effect in what:
            self.place.perform(effect)

    @property
    def busy(self) -> bool:
        return self.controller.open is not None and self.controller.open.phase in REPORTED

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
        rollout = self.controller.open
        late = rollout is not None and rollout.phase in (RolloutPhase.PROMOTING, RolloutPhase.PROMOTED)
        if rollout and (action is RolloutAction.RESUME or (action is RolloutAction.PIN and late)):
            self.insisted.add(rollout.id)
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
        rollout = self.controller.open
        good = Outcome(rows=rows, loss=rows * 0.1, loss_squared=rows * 0.1)
        canary = Outcome(
            rows=rows, loss=rows * loss if rows else 0.0, loss_squared=rows * loss if rows else 0.0
        )
        versions = {rollout.stable or "none": good, rollout.version: canary} if rollout else {}
        fields = {"id": f"window-{n}", "at": n, "since": n, "until": n, "rows": rows, "labelled": rows}
        return PerformanceMeasured.model_validate({**fields, "model": MODEL, "versions": versions})

    @rule(version=st.integers(0, 8), stale=st.booleans(), evidence=st.sampled_from(["paired", "canary"]))
    def prove(self, version: int, stale: bool, evidence: str) -> None:
        n = self.fresh()
        champion = "gone" if stale or self.controller.champion is None else self.controller.champion
        fields = {"id": f"proven-{n}", "at": n, "model": MODEL, "version": str(version)}
        more = {"champion": champion, "evidence": evidence, "sentence": "better"}
        self.tell(ChallengerProven.model_validate({**fields, **more}))

    @rule(calls=st.sampled_from([0, 20, 60]), errors=st.sampled_from([0, 0, 0, 30]), crash=st.booleans())
    def ask_for_predictions(self, calls: int, errors: int, crash: bool) -> None:
        self.tell(self.traffic(calls, errors), stored=not crash)
        if crash:
            self.start_again(0)
            self.tell(self.log[-1])

    def traffic(self, calls: int, errors: int) -> TrafficMeasured:
        n = self.fresh()
        rollout = self.controller.open
        stable = Traffic(predictions=100, calls=100, latency=[100])
        canary = Traffic(predictions=calls, calls=calls + errors, errors=errors, latency=[calls])
        versions = {rollout.stable or "none": stable, rollout.version: canary} if rollout else {}
        fields = {"id": f"traffic-{n}", "at": n, "model": MODEL, "since": n, "until": n + 1}
        return TrafficMeasured.model_validate({**fields, "versions": versions})

    @rule(
        weights=st.lists(st.floats(0.001, 1), min_size=1, max_size=5),
        scored=st.booleans(),
        gain=st.sampled_from([0.02, -0.02]),
        against=st.sampled_from([0.1, 1000.0]),
    )
    def weigh(self, weights: list[float], scored: bool, gain: float, against: float) -> None:
        n = self.fresh()
        champion = self.controller.champion or "0"
        found = PairEvidence(rows=100, gain=gain, low=gain - 1, high=gain + 1, proof=1, against=against)
        fields = {"id": f"evidence-{n}", "at": n, "model": MODEL, "champion": champion, "leader": champion}
        more = {"rows": 100, "labelled": n, "since": n, "until": n, "loss": "squared error", "sentence": ""}
        members = {
            str(version): MemberEvidence(weight=weight / sum(weights), loss=0.1, rows=100 * scored)
            for version, weight in enumerate(weights)
        }
        pairs = {self.controller.open.version: found} if self.controller.open else {}
        self.tell(EvidenceMeasured.model_validate({**fields, **more, "members": members, "pairs": pairs}))
        self.blend()

    def blend(self) -> None:
        """Carried out beside whatever else is done."""
        blend = blend_effect(self.controller, self.settings)
        if blend and self.controller.champion:
            self.perform([blend])

    @precondition(lambda self: self.controller.open)
    @rule(disagreeing=st.sampled_from([0, 0, 50]))
    def compare(self, disagreeing: int) -> None:
        assert self.controller.open is not None
        n = self.fresh()
        fields = {"id": f"agreement-{n}", "at": n, "model": MODEL, "version": self.controller.open.version}
        agreement = Agreement(rows=50, disagreeing=disagreeing)
        self.tell(AgreementMeasured.model_validate({**fields, "agreement": agreement}))

    @precondition(lambda self: self.busy)
    @rule()
    def carry_out(self) -> None:
        assert self.controller.open is not None
        self.perform(effects(self.controller.open))
        self.tell(self.report())

    @precondition(lambda self: self.busy)
    @rule(times=st.sampled_from([1, 2, 8]), pin=st.booleans())
    def go_well(self, times: int, pin: bool) -> None:
        """A rollout without trouble, perhaps behind a pin, so that the later phases are reached often."""
        if pin:
            self.command(RolloutAction.PIN)
        for _ in range(times):
            if self.busy:
                self.carry_out()
                self.tell(self.traffic(1000, 0))
                self.tell(self.window(60, 0.1))

    @precondition(lambda self: self.busy)
    @rule(done=st.integers(0, 3))
    def fail_to_carry_out(self, done: int) -> None:
        assert self.controller.open is not None
        self.perform(effects(self.controller.open)[:done])
        self.tell(state_machine.obstructed_report(self.controller.open, "no such image"))

    @precondition(lambda self: self.log)
    @rule(data=st.data())
    def redeliver(self, data: st.DataObject) -> None:
        self.tell(data.draw(st.sampled_from(self.log)))

    @rule(done=st.integers(0, 3))
    def start_again(self, done: int) -> None:
        """Killed after some of the effects; another starts from what was stored."""
        if self.controller.open:
            self.perform(effects(self.controller.open)[:done])
        self.controller = RolloutController.model_validate_json(
            self.stored if self.log else self.controller.model_dump_json()
        )
        self.perform(steady_effects(self.controller))
        self.blend()
        if self.controller.open:
            self.perform(effects(self.controller.open))

    @invariant()
    def nothing_leaves_a_terminal_phase(self) -> None:
        rollouts: list[Rollout] = [
            *self.controller.finished,
            *([self.controller.open] if self.controller.open else []),
        ]
        for rollout in rollouts:
            if rollout.phase in TERMINAL or rollout.id in self.ended:
                assert self.ended.setdefault(rollout.id, rollout.phase) == rollout.phase

    @invariant()
    def at_rest_the_champion_serves_everything(self) -> None:
        if self.controller.open is None and self.controller.champion is not None:
            assert self.place.weights == {self.controller.champion: 100}
            assert self.place.champion == self.controller.champion
            assert {
                self.controller.champion,
                self.controller.previous or self.controller.champion,
            } <= self.place.up

    @invariant()
    def the_queue_is_short(self) -> None:
        assert len(self.controller.queue) <= 3
        assert self.controller.open or self.controller.pinned or not self.controller.queue

    @invariant()
    def only_what_is_told_once_is_remembered_by_id(self) -> None:
        assert len(self.controller.seen) <= SEEN
        measured = ("window", "traffic", "evidence", "agreement")
        assert not any(id_.startswith(measured) for id_ in self.controller.seen)

    @invariant()
    def a_canary_serves_its_own_scores_only_where_its_own_labels_judge_it(self) -> None:
        rollout = self.controller.open
        if rollout and rollout.phase is RolloutPhase.CANARY and rollout.since is not None:
            own = rollout.proof == "canary"
            assert (rollout.version in self.place.alone) == (own and self.settings.strategy == "blend")
        if self.settings.strategy == "champion":
            assert self.place.blend == {}

    @invariant()
    def at_rest_the_champion_answers_with_the_blend(self) -> None:
        if self.controller.open is None:
            assert self.controller.champion not in self.place.alone

    def teardown(self) -> None:
        """Signals keep coming: every rollout ends in one terminal phase."""
        self.command(RolloutAction.UNPIN)
        for _ in range(100):
            if self.controller.open is None:
                break
            if self.controller.open.phase is RolloutPhase.PAUSED:
                self.command(RolloutAction.RESUME)
            self.carry_out()
            self.tell(self.window(600, 0.1))
            self.tell(self.traffic(10_000, 0))
        assert self.controller.open is None
        assert all(rollout.phase in TERMINAL for rollout in self.controller.finished)


ShellTest = Shell.TestCase
ShellTest.settings = hypothesis_settings(max_examples=200, stateful_step_count=40)
