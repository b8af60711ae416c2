"""Errors, by whether trying again can help.

DriftloopError
├── Temporary            trying again later can help
│   └── Unavailable      Kafka, MLflow, a replica or the store does not answer
└── Permanent            trying again cannot help
    ├── NotFound         there is no such model, version or event
    ├── InvalidData      a row, column or data set cannot be used
    ├── Unservable       a version cannot be served
    └── Conflict         the action is not possible in the present state
"""


class DriftloopError(Exception):
    """Base of all errors of driftloop."""


class Temporary(DriftloopError):
    """Trying again later can help."""


class Unavailable(Temporary):
    """Kafka, MLflow, a replica or the store does not answer."""


class Permanent(DriftloopError):
    """Trying again cannot help."""


class NotFound(Permanent):
    """There is no such model, version or event; the message lists what there is."""


class InvalidData(Permanent):
    """A row, column or data set cannot be used; the message says which and why."""


class Unservable(Permanent):
    """A version cannot be served; the message says why."""


class Conflict(Permanent):
    """The action is not possible in the present state; the message says what is possible."""
