"""Which kinds of drift nobody wants to be woken for, by what was said when a version was deployed."""

from collections.abc import Mapping, Sequence

from schemas.events import DeployRequested, DriftDetected, DriftKind

KEPT = 8
"""Versions of a model whose word is remembered, newest last."""

Muted = Mapping[str, Sequence[DriftKind]]
"""By version."""


def heard(muted: Muted, request: DeployRequested) -> Muted:
    """What is muted after a deployment was asked for; the newest word about a version counts.

    >>> request = DeployRequested(id="r", at=1, model="m", version="3", muted=["feature"])
    >>> {version: [kind.value for kind in kinds] for version, kinds in heard({}, request).items()}
    {'3': ['feature']}
    """
    others = {version: kinds for version, kinds in muted.items() if version != request.version}
    kept = dict(list(others.items())[-(KEPT - 1) :])
    return {**kept, request.version: request.muted} if request.muted else kept


def is_muted(muted: Muted, evidence: DriftDetected) -> bool:
    """Whether nobody wants to act on it."""
    return evidence.kind in muted.get(evidence.version, ())
