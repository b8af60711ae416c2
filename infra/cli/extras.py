"""Optional dependencies: whether the packages of one of driftloop's extras are installed.

>>> missing("agents")
[]
"""

import re
from importlib import metadata
from itertools import chain

from driftloop.mlops_core.errors import Conflict

_REQUIREMENT = re.compile(r"""(?P<distribution>[\w.-]+).*; extra == ['"](?P<extra>[\w-]+)['"]""")


def require(*extras: str) -> None:
    """Return if all packages of the extras are installed.

    Raises:
        Conflict: packages are missing; the message has the command that installs them.
    """
    absent = {extra: packages for extra in extras if (packages := missing(extra))}
    if absent:
        names = ", ".join(sorted(set(chain.from_iterable(absent.values()))))
        raise Conflict(f"not installed: {names}; run pip install 'driftloop[{','.join(absent)}]'")


def missing(extra: str) -> list[str]:
    """Distributions that the extra names and that are not installed, sorted."""
    requirements = filter(None, map(_REQUIREMENT.match, metadata.requires("driftloop") or ()))
    named = {found["distribution"] for found in requirements if found["extra"] == extra}
    return sorted(name for name in named if not _is_installed(name))


def _is_installed(distribution: str) -> bool:
    try:
        metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return False
    return True
