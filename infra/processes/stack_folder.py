"""The folder of a laptop stack: one stack at a time, the same ports at the next start."""

import fcntl
import json
import os
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from driftloop.infra.processes.child import free_port, listening
from driftloop.mlops_core.errors import Conflict

SETTINGS, LOCK = "settings.json", "stack.lock"
PORTS = ("serving", "dashboard")
"""Groups of the settings with a port of the stack's own."""


def check_free(folder: Path) -> None:
    """Return if no stack runs in the folder, which need not exist. Raises Conflict as `claim` does."""
    if running_settings(folder) is not None:
        claim(folder)()


def claim(folder: Path) -> Callable[[], None]:
    """Lock the folder for this process; returns what unlocks it.

    Raises:
        Conflict: another stack runs there; the message names its process, its page and what can be done.
    """
    folder.mkdir(parents=True, exist_ok=True)
    file = os.open(folder / LOCK, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        owner = os.read(file, 100).decode(errors="replace")
        os.close(file)
        raise Conflict(
            f"a stack runs in {folder} already ({owner}); its page is {_page(folder)}. Use it, stop it with "
            "Ctrl-C, or name another --folder"
        ) from None
    os.ftruncate(file, 0)
    os.write(file, f"process {os.getpid()} since {time.strftime('%Y-%m-%d %H:%M:%S')}".encode())
    return lambda: os.close(file)


def running_settings(folder: Path) -> Path | None:
    """The settings file of the stack that runs in the folder; None if none does."""
    try:
        file = os.open(folder / LOCK, os.O_RDONLY)
    except OSError:
        return None
    try:
        fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError:
        return folder / SETTINGS if (folder / SETTINGS).is_file() else None
    finally:
        os.close(file)
    return None


def ports(folder: Path, given: Mapping[str, Mapping[str, Any]]) -> dict[str, dict[str, int]]:
    """Ports by group: as given, else those of the last start, else free ones.

    Raises:
        Conflict: something listens on a port that was given.
    """
    last = _last_settings(folder)
    found: dict[str, dict[str, int]] = {}
    for group in PORTS:
        wanted = given.get(group, {}).get("port")
        if wanted is not None and listening(wanted):
            raise Conflict(
                f"{group}.port {wanted}: another process listens there (perhaps a stack in another folder); "
                f"stop it, choose another {group}.port, or leave it out"
            )
        before = last.get(group, {}).get("port")
        usable = isinstance(before, int) and before > 0 and not listening(before)
        found[group] = {"port": wanted or (before if usable else free_port())}
    return found


def _last_settings(folder: Path) -> dict[str, Any]:
    try:
        fields: dict[str, Any] = json.loads((folder / SETTINGS).read_text())
    except (OSError, ValueError):
        return {}
    return fields


def _page(folder: Path) -> str:
    page = _last_settings(folder).get("dashboard", {})
    return f"http://{page.get('host', '127.0.0.1')}:{page.get('port', '?')}"
