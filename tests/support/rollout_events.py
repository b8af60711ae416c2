"""Events that a rollout controller handles, of model flights with champion v7 and challenger v8."""

from collections.abc import Iterable, Mapping

from driftloop.mlops_core.rollout import state_machine
from driftloop.mlops_core.rollout.controller import handle
from driftloop.mlops_core.rollout.controller_state import RolloutController
from driftloop.mlops_core.rollout.state_machine import Rollout
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
    Traffic,
    TrafficMeasured,
)
from driftloop.schemas.settings import RolloutSettings

MODEL = "flights"
CANARY = RolloutSettings(steps=(10, 50), evidence="canary", strategy="champion")
"""Every registered version gets a canary, which its own labels and requests judge."""
PAIRED = RolloutSettings(steps=(10, 50), strategy="champion")
"""A version gets a canary once it is proven; requests judge it."""
SERVING = RolloutController(model=MODEL, champion="7", replicas=3)
GOOD, BAD = 0.1, 0.6
MINUTE = 60_000


def registered(version: str, rollout: str = "automatic", id_: str = "") -> ModelRegistered:
    fields = {"id": id_ or f"registered-{version}", "at": 1, "model": MODEL, "version": version}
    return ModelRegistered.model_validate({**fields, "run_id": "r", "rollout": rollout})


def asked(version: str, replicas: int = 1) -> DeployRequested:
    id_ = f"asked-{version}-{replicas}"
    return DeployRequested(id=id_, at=1, model=MODEL, version=version, replicas=replicas)


def proven(version: str, champion: str = "7", evidence: str = "paired", id_: str = "") -> ChallengerProven:
    fields = {"id": id_ or f"proven-{version}-{champion}", "at": 1, "model": MODEL, "version": version}
    sentence = f"v{version} predicts better than champion v{champion}"
    more = {"champion": champion, "evidence": evidence, "sentence": sentence}
    return ChallengerProven.model_validate({**fields, **more})


def said(action: RolloutAction, number: int = 0) -> RolloutCommanded:
    return RolloutCommanded(id=f"said-{action}-{number}", at=2, model=MODEL, action=action)


def window(number: int, loss: float = GOOD, rows: int = 300, since: int = -1, id_: str = "") -> Event:
    """Hour `number`: `rows` labels of each version, of which stable's have the loss `GOOD`."""
    return PerformanceMeasured(
        id=id_ or f"window-{number}",
        at=number * 10 + 10,
        model=MODEL,
        since=number * 10 if since < 0 else since,
        until=number * 10 + 10,
        rows=2 * rows,
        labelled=2 * rows,
        versions={
            "7": Outcome(rows=rows, loss=rows * GOOD, loss_squared=rows * GOOD),
            "8": Outcome(rows=rows, loss=rows * loss, loss_squared=rows * loss),
        },
    )


def calls(answers: int, errors: int = 0, bucket: int = 12) -> Traffic:
    """Calls of one row each, with answers in one bucket of the latency."""
    latency = [0] * bucket + [answers]
    return Traffic(predictions=answers, calls=answers + errors, errors=errors, latency=latency)


def served(number: int, answers: int = 300, errors: int = 0, bucket: int = 12) -> TrafficMeasured:
    """Minute `number` of the wall clock: so many calls of v7, and of v8 with errors or slow."""
    return TrafficMeasured(
        id=f"traffic-{number}",
        at=(number + 1) * MINUTE,
        model=MODEL,
        since=number * MINUTE,
        until=(number + 1) * MINUTE,
        versions={"7": calls(300), "8": calls(answers, errors, bucket)},
    )


def good(number: int) -> tuple[Event, Event]:
    """Requests and labels that pass a step."""
    return served(number), window(number)


def evidence(number: int, weights: Mapping[str, float], **changes: object) -> EvidenceMeasured:
    """A span of 100 labels after which the pool has these weights; v8 is 0.02 better than champion v7."""
    fields: dict[str, object] = {
        "id": f"evidence-{number}",
        "at": number * 10,
        "model": MODEL,
        "champion": "7",
        "leader": max(weights, key=weights.__getitem__),
        "rows": 100,
        "labelled": 100 * number,
        "since": number * 10 - 10,
        "until": number * 10,
        "loss": "squared error",
        "members": {
            name: MemberEvidence(weight=weight, loss=GOOD, rows=100) for name, weight in weights.items()
        },
        "pairs": {"8": pair(0.02)},
        "sentence": "v7 leads",
    }
    return EvidenceMeasured.model_validate({**fields, **changes})


def pair(gain: float, against: float = 0.01) -> PairEvidence:
    return PairEvidence(rows=500, gain=gain, low=gain - 0.1, high=gain + 0.1, proof=2, against=against)


def agreement(rows: int, disagreeing: int, version: str = "8", number: int = 0) -> AgreementMeasured:
    compared = Agreement(rows=rows, disagreeing=disagreeing, largest=0.25)
    id_ = f"agreement-{version}-{number}"
    return AgreementMeasured(id=id_, at=1, model=MODEL, version=version, agreement=compared)


def open_(controller: RolloutController) -> Rollout:
    assert controller.open is not None
    return controller.open


def kinds(events: Iterable[Event]) -> list[str]:
    return [type(event).__name__ for event in events]


class Teller:
    """Hands events to controllers under some settings."""

    def __init__(self, settings: RolloutSettings) -> None:
        self.settings = settings

    def __call__(
        self, controller: RolloutController, *events: Event
    ) -> tuple[RolloutController, list[Event]]:
        """Handle the events; everything that follows."""
        follows: list[Event] = []
        for event in events:
            controller, more = handle(controller, event, self.settings)
            follows += more
        return controller, follows

    def performed(
        self, controller: RolloutController, clock: int = 0
    ) -> tuple[RolloutController, list[Event]]:
        """The effects of the present phase were carried out."""
        return self(controller, state_machine.performed_report(open_(controller), clock))

    def obstructed(self, controller: RolloutController) -> tuple[RolloutController, list[Event]]:
        """They cannot be carried out."""
        return self(controller, state_machine.obstructed_report(open_(controller), "no such image"))

    def canary(self, controller: RolloutController = SERVING, evidence: str = "paired") -> RolloutController:
        """v8 at its first step, its traffic shifted."""
        begins = registered("8") if self.settings.evidence == "canary" else proven("8", evidence=evidence)
        controller, _ = self(controller, begins)
        return self.performed(self.performed(controller)[0])[0]

    def promoted(self, controller: RolloutController = SERVING) -> RolloutController:
        """v8 is champion, and its rollout closed."""
        controller, _ = self(self.canary(controller), *good(0))
        controller, _ = self(self.performed(controller)[0], *good(1))
        return self.performed(self.performed(controller)[0])[0]
