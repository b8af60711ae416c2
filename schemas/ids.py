"""Every id follows from its cause, so that a redelivered record changes nothing."""

import uuid

_NAMESPACE = uuid.uuid5(uuid.NAMESPACE_DNS, "driftloop")


def derived(*cause: str | int) -> str:
    """The id of the thing that follows from `cause`: the same cause, the same id.

    >>> derived("drift-17", "RetrainRequested") == derived("drift-17", "RetrainRequested")
    True
    >>> derived("drift-17", "RetrainRequested") == derived("drift-18", "RetrainRequested")
    False
    """
    return str(uuid.uuid5(_NAMESPACE, "\x1f".join(str(part) for part in cause)))
