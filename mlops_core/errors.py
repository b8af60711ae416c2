"""What can go wrong, and whether trying again can help.

DriftloopError
├── Temporary            try again later: somebody is away
│   └── Unavailable      a system we need doesn't answer
└── Permanent            trying again won't help
    ├── Unknown          a model or version that nobody registered
    ├── BadData          a row, column or data set that can't be used
    ├── Broken           a version that can't be served
    └── Impossible       not from here: the message says what is possible
"""


class DriftloopError(Exception):
    """All errors of ours."""


class Temporary(DriftloopError):
    """Trying again later can help."""


class Unavailable(Temporary):
    """A system that we need doesn't answer."""


class Permanent(DriftloopError):
    """Trying again won't help."""


class Unknown(Permanent):
    """A model or version that nobody registered."""


class BadData(Permanent):
    """A row, column or data set that can't be used; says which and why."""


class Broken(Permanent):
    """A version that can't be served; says why."""


class Impossible(Permanent):
    """An action that isn't possible in this state; says what is."""
