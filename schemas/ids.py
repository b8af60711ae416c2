"""Every id follows from its cause, so that a redelivered record changes nothing."""

import uuid

_NAMESPACE = uuid.uuid5(uuid.NAMESPACE_DNS, "driftloop")


def derive(*cause: str | int) -> str:
    """The id of the thing that follows from `cause`: the same cause, the same id.

    >>> derive("drift-17", "RetrainRequested") == derive("drift-17", "RetrainRequested")
    True
    >>> derive("drift-17", "RetrainRequested") == derive("drift-18", "RetrainRequested")
    False
    """
    return str(uuid.uuid5(_NAMESPACE, "\x1f".join(str(part) for part in cause)))
