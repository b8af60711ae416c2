"""ModelLifecycleManager: rollback, archive and update of registered versions."""

from collections.abc import Sequence

from driftloop.mlops_core.errors import Conflict
from driftloop.mlops_core.ports import EventLog, ModelReader, ModelWriter, Registered
from driftloop.mlops_core.training.pipeline import challenger_request, parse_model_id
from driftloop.schemas import ids
from driftloop.schemas.events import DeployRequested, Event

ARCHIVED = "archived"


class VersionController:
    """Registered versions and their aliases (champion, previous, challenger)."""

    def __init__(self, reader: ModelReader) -> None:
        self._reader = reader

    def model_info(self, model_id: str) -> Registered:
        """One version. Raises NotFound where the registry has no such version."""
        return self._reader.version(*parse_model_id(model_id))

    def version_with_alias(self, model: str, alias: str) -> Registered | None:
        """The version with the alias; None where there is none."""
        versions = self._reader.versions(model)
        return next((version for version in versions if alias in version.aliases), None)


class ArtifactStore:
    """Archives versions in the registry; an archived version can still be read."""

    def __init__(self, writer: ModelWriter) -> None:
        self._writer = writer

    def archive(self, info: Registered) -> None:
        """Tag the version as archived; nothing is deleted."""
        self._writer.tag(info.model, info.version, "lifecycle", ARCHIVED)


class DependencyTracker:
    """Finds the aliases through which a version is used."""

    def dependents(self, info: Registered) -> Sequence[str]:
        """The aliases `champion` and `previous` of the version; empty where it has neither."""
        return [alias for alias in info.aliases if alias in ("champion", "previous")]


class ModelLifecycleManager:
    """Carries out a lifecycle action on a version."""

    def __init__(
        self,
        version_controller: VersionController,
        artifact_store: ArtifactStore,
        dependency_tracker: DependencyTracker,
        events: EventLog,
        rows: int,
    ) -> None:
        """`rows`: the newest labelled rows that `update` trains on."""
        self.version_controller = version_controller
        self.artifact_store = artifact_store
        self.dependency_tracker = dependency_tracker
        self._events = events
        self._rows = rows

    async def manage_lifecycle(self, model_id: str, action: str, at: int) -> Event | None:
        """Carry out `rollback`, `archive` or `update`; returns the published request (None for `archive`).

        `at`: the present time of the data (UTC, ms).

        Raises:
            Conflict: the action is impossible or unknown; the message says why and what is possible.
            NotFound: the registry has no such version.
        """
        info = self.version_controller.model_info(model_id)
        match action:
            case "rollback":
                return await self._publish(self._rollback(info, at))
            case "archive":
                self._archive(info)
                return None
            case "update":
                return await self._publish(challenger_request(info.model, self._rows, at))
            case _:
                raise Conflict(f"unknown action {action!r}; possible are rollback, archive, update")

    def _rollback(self, info: Registered, at: int) -> Event:
        previous = self.version_controller.version_with_alias(info.model, "previous")
        if previous is None:
            raise Conflict(f"{info.model} has no version with the alias 'previous' to roll back to")
        id_ = ids.derive("rollback", info.model, previous.version, at)
        return DeployRequested(id=id_, at=at, model=info.model, version=previous.version)

    def _archive(self, info: Registered) -> None:
        dependents = self.dependency_tracker.dependents(info)
        if dependents:
            raise Conflict(
                f"{info.model}:{info.version} is {' and '.join(dependents)} and can't be archived; promote "
                "another version first"
            )
        self.artifact_store.archive(info)

    async def _publish(self, event: Event) -> Event:
        await self._events.publish(event)
        return event
