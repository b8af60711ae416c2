"""What a measurement changes in the open rollout: labels, requests, paired losses, agreement of scores."""

from typing import Literal

from driftloop.mlops_core.rollout import request_verdict, state_machine
from driftloop.mlops_core.rollout.controller_state import (
    MOVED,
    SMALLEST_WEIGHT,
    UNMEASURABLE,
    RolloutController,
    with_rollout,
)
from driftloop.mlops_core.rollout.label_verdict import judge, version_name
from driftloop.mlops_core.rollout.state_machine import Rollout
from driftloop.mlops_core.rollout.states import Signal
from driftloop.schemas.events import (
    AgreementMeasured,
    Event,
    EvidenceMeasured,
    PerformanceMeasured,
    RolloutPhase,
    TrafficMeasured,
    VerdictEvidence,
)
from driftloop.schemas.settings import RolloutSettings


def on_measurement(
    controller: RolloutController, event: Event, settings: RolloutSettings
) -> tuple[RolloutController, list[Event]]:
    """The controller after a measurement, and the events that follow."""
    match event:
        case PerformanceMeasured():
            return _on_labels(controller, event, settings)
        case TrafficMeasured():
            return _on_requests(controller, event, settings)
        case EvidenceMeasured():
            return _on_evidence(controller, event, settings)
        case AgreementMeasured():
            rollout = controller.open
            if rollout is not None and rollout.version == event.version:
                agreement = rollout.agreement + event.agreement
                controller = controller.model_copy(
                    update={"open": rollout.model_copy(update={"agreement": agreement})}
                )
            return controller, []
        case _:
            return controller, []


def _on_labels(
    controller: RolloutController, event: PerformanceMeasured, settings: RolloutSettings
) -> tuple[RolloutController, list[Event]]:
    """Judge the canary by its labels; while it is paused, labels are counted without a verdict."""
    controller = controller.model_copy(update={"measured_until": event.until})
    rollout = controller.open
    if rollout is None or rollout.phase not in (RolloutPhase.CANARY, RolloutPhase.PAUSED):
        return controller, []
    grown = state_machine.add_labels(rollout, event)
    if grown is rollout:
        return controller, []
    kept = grown if grown.evidence[-1].finite else rollout
    if rollout.phase is RolloutPhase.PAUSED:
        return with_rollout(controller, kept, [])
    verdict = judge(grown.evidence, rollout.version, rollout.stable or "", settings)
    if rollout.proof == "paired" and (rollout.blend or verdict.outcome != "fail"):
        # Paired losses on all labelled rows are judged instead (`_on_evidence`): there are far more of them
        # than labels of the canary's requests, and stable's blend mixes the scores of several versions.
        return with_rollout(controller, kept, [])
    return _apply_verdict(controller, kept, event, verdict, "labels")


def _on_requests(
    controller: RolloutController, event: TrafficMeasured, settings: RolloutSettings
) -> tuple[RolloutController, list[Event]]:
    """Judge the canary by its requests; while it is paused, requests are counted without a verdict."""
    rollout = controller.open
    if rollout is None or rollout.phase not in (RolloutPhase.CANARY, RolloutPhase.PAUSED):
        return controller, []
    if not rollout.step or len(rollout.requests) < rollout.step:
        return controller, []  # the step's share is not set yet
    *before, now = rollout.requests
    counted = now.plus(event, rollout.version, rollout.stable or "")
    grown = rollout.model_copy(update={"requests": (*before, counted)})
    if rollout.phase is RolloutPhase.PAUSED or rollout.since is None:
        return with_rollout(controller, grown, [])
    names = (rollout.version, rollout.stable or "")
    judgement = request_verdict.judge(grown.requests, grown.agreement, names, settings, event.until)
    alerts: list[Event] = []
    if judgement.overdue:
        grown, alerts = state_machine.overdue_alert(grown, judgement.evidence.sentence)
    # Requests have wall-clock times; the events that follow have the time of the data.
    trigger = event.model_copy(update={"at": controller.measured_until})
    controller, events = _apply_verdict(controller, grown, trigger, judgement.evidence, "requests")
    return controller, [*alerts, *events]


def _on_evidence(
    controller: RolloutController, event: EvidenceMeasured, settings: RolloutSettings
) -> tuple[RolloutController, list[Event]]:
    """Update the weights of the blend; roll the canary back if its paired losses are surely higher."""
    if settings.strategy == "blend" and not controller.pinned:
        controller = controller.model_copy(update={"blend": _blend_weights(controller.blend, event)})
    rollout = controller.open
    if rollout is None or rollout.phase is not RolloutPhase.CANARY or event.champion != rollout.stable:
        return controller, []
    pair = event.pairs.get(rollout.version)
    if pair is None or pair.gain >= 0 or pair.against < 1 / settings.alpha:
        return controller, []
    verdict = VerdictEvidence(
        outcome="fail",
        sentence=(
            f"{version_name(rollout.version)} is surely worse than {version_name(event.champion)}: its loss "
            f"is {-pair.gain:.4f} higher per prediction on the same {pair.rows:,} labelled rows"
        ),
        canary_rows=pair.rows,
        stable_rows=pair.rows,
        low=-pair.high,
        high=-pair.low,
    )
    return with_rollout(controller, *state_machine.advance(rollout, Signal.FAILED, event, verdict))


def _blend_weights(before: dict[str, float], event: EvidenceMeasured) -> dict[str, float]:
    """Weights of the versions that were scored, adding up to 1; `before` where they changed by little."""
    kept = {
        version: member.weight
        for version, member in event.members.items()
        if member.weight >= SMALLEST_WEIGHT and member.rows and version not in event.unscored
    }
    if not kept:
        return before
    total = sum(kept.values())
    now = {version: round(weight / total, 4) for version, weight in kept.items()}
    moved = sum(abs(now.get(version, 0.0) - before.get(version, 0.0)) for version in {*now, *before})
    left = set(before) - set(event.members)
    return now if moved >= MOVED or left or set(now) - set(before) else before


def _apply_verdict(
    controller: RolloutController,
    rollout: Rollout,
    trigger: Event,
    verdict: VerdictEvidence,
    about: Literal["requests", "labels"],
) -> tuple[RolloutController, list[Event]]:
    """Advance the rollout by a verdict about the canary's requests or labels."""
    match verdict.outcome:
        case "pass":
            rollout = state_machine.add_passed_verdict(rollout, about)
            if not state_machine.is_step_passed(rollout):
                return with_rollout(controller, rollout, [])
            signal = state_machine.next_signal(rollout, Signal.PASSED)
        case "fail":
            signal = Signal.FAILED
        case "hold":
            rollout, signal = state_machine.remove_passed_verdict(rollout, about), Signal.HELD
        case "error":
            rollout = state_machine.remove_passed_verdict(rollout, about)
            signal = Signal.PAUSED if rollout.errors + 1 >= UNMEASURABLE else Signal.HELD
    return with_rollout(controller, *state_machine.advance(rollout, signal, trigger, verdict))
