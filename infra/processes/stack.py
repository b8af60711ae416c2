"""The laptop stack: broker, MLflow, serving host, agents and page, each a real process, one command."""

import json
import os
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType, TracebackType
from typing import Any, Self

import httpx

from driftloop.infra import brokers
from driftloop.infra.adapters.mlflow import server as mlflow_server
from driftloop.infra.processes import stack_folder
from driftloop.infra.processes.child import Child, ChildFailed, python_command
from driftloop.infra.wiring import plugins
from driftloop.schemas.settings import Settings
from driftloop.streams import admin

READY_SECONDS = 90.0
Say = Callable[[str], None]


@dataclass
class Stack:
    """The running processes, and settings that point at them; they stop in reverse order of their start."""

    settings: Settings
    settings_file: Path
    folder: Path
    closing: list[Callable[[], None]] = field(default_factory=list)
    children: dict[str, Child] = field(default_factory=dict)

    @classmethod
    def start(
        cls,
        folder: Path,
        broker: str | None = "embedded",
        with_agents: bool = True,
        say: Say = lambda _: None,
        groups: Mapping[str, Mapping[str, Any]] = MappingProxyType({}),
    ) -> Self:
        """Start what is missing; `broker` None takes the cluster that the settings point at.

        An MLflow server is started unless `groups` name one (`registry.tracking_uri`).

        Raises:
            Conflict: another stack runs in the folder, a port is in use, or a detector, target or trainer of
                the settings is not installed; nothing was started.
            ChildFailed, BrokerUnavailable, Unavailable: what did not start, with the end of its log.
        """
        folder = folder.absolute()
        stack_folder.check_free(folder)
        settings = _settings(folder, groups)
        if with_agents:
            plugins.check(settings)
        stack = cls(settings, folder / stack_folder.SETTINGS, folder, [stack_folder.claim(folder)])
        try:
            stack._start(broker, with_agents, "tracking_uri" not in groups.get("registry", {}), say)
        except BaseException:
            stack.stop()
            raise
        return stack

    def run(self, name: str, *command: str) -> Child:
        """Start `driftloop <command>` with this stack's settings as a child called `name`."""
        child = Child.start(
            name,
            python_command("driftloop.infra.cli.app", "--settings", str(self.settings_file), *command),
            log=self.folder / "logs" / f"{name}.log",
            env={"PYTHONUNBUFFERED": "1", "PYTHONPATH": os.pathsep.join(sys.path)},
        )
        self.children[name] = child
        self.closing.append(child.stop)
        return child

    def stop(self) -> None:
        """Stop all of it, the newest first."""
        while self.closing:
            self.closing.pop()()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def ended_children(self) -> list[Child]:
        """Processes that have ended since this was asked last."""
        ended = [child for child in self.children.values() if not child.alive]
        for child in ended:
            del self.children[child.name]
        return ended

    def _start(self, broker: str | None, with_agents: bool, own_registry: bool, say: Say) -> None:
        began = time.monotonic()
        registry = mlflow_server.launch(self.folder / "mlflow") if own_registry else None
        if registry is not None:
            self.closing.append(registry.stop)
            self.children["mlflow"] = registry.child
            self._use(registry={"tracking_uri": registry.uri})
        if broker is not None:
            started = brokers.start(broker, self.folder / "kafka")
            self.closing.append(started.stop)
            self._use(kafka={"bootstrap": started.bootstrap})
        admin.create_topics(self.settings.kafka)
        say(f"Kafka at {self.settings.kafka.bootstrap}" + (f" ({broker})" if broker else ""))
        page = self.run("dashboard", "dashboard")
        serving = self.run("serving", "serve")
        if with_agents:
            self.run("agents", "agents", "run")
        if registry is not None:
            registry.wait(READY_SECONDS)
        say(f"MLflow at {self.settings.registry.tracking_uri}" + ("" if registry else " (not started here)"))
        serving.wait_until(lambda: _answers(f"{self.settings.serving.url}/v2/health/live"), READY_SECONDS)
        say(f"Predictions at {self.settings.serving.url}")
        page.wait_until(lambda: _answers(f"{self.page}/healthz"), READY_SECONDS)
        for child in self.ended_children():  # then another process answered on its port
            raise ChildFailed(f"{child.name} ended with code {child.exit_code}:\n{child.tail()}")
        say(f"Live page at {self.page} (all up after {time.monotonic() - began:.0f} s)")

    @property
    def page(self) -> str:
        """Address of the live page."""
        return f"http://{self.settings.dashboard.host}:{self.settings.dashboard.port}"

    def _use(self, **groups: dict[str, Any]) -> None:
        known = self.settings.model_dump()
        merged = {name: {**known[name], **group} for name, group in groups.items()}
        self.settings = self.settings.model_copy(
            update={
                name: type(getattr(self.settings, name)).model_validate(group)
                for name, group in merged.items()
            }
        )
        self.settings_file.write_text(json.dumps(self.settings.model_dump(mode="json"), indent=1))


def _settings(folder: Path, groups: Mapping[str, Mapping[str, Any]]) -> Settings:
    """Settings whose folders lie in `folder`, and whose ports are those of the last start, unless given."""
    ports = stack_folder.ports(folder, groups)
    local: dict[str, Any] = {
        "serving": {**ports["serving"], "folder": folder / "serving"},
        "dashboard": ports["dashboard"],
        "store": {"folder": folder / "store"},
    }
    for name, group in groups.items():
        local[name] = {**local.get(name, {}), **group}
    return Settings.load(**local)


def _answers(url: str) -> bool:
    try:
        return httpx.get(url, timeout=1.0).is_success
    except httpx.TransportError:
        return False
