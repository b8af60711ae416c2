"""One training in a process of its own: `python -m driftloop.infra.processes.training`.

It reads a folder's name from its input. The folder has `job.json`, and gets `result.json`. A crash, a memory
that ran out or a time limit ends that process and nobody else. It exits with 0 once the result is written,
with 75 (try again later) where the registry or the store doesn't answer, and anything else is a crash.
"""

import asyncio
import contextlib
import json
import os
import signal
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from pydantic import Field, TypeAdapter

from driftloop.infra.adapters.mlflow.reader import MLflowReader
from driftloop.infra.processes import child
from driftloop.infra.wiring import trainers
from driftloop.mlops_core.data.examples import Examples
from driftloop.mlops_core.errors import InvalidData, Permanent, Temporary, Unavailable
from driftloop.mlops_core.ports import Candidate, ExampleStore, ModelReader, Registered
from driftloop.schemas import ids
from driftloop.schemas.configs import ModelConfig
from driftloop.schemas.events import (
    Event,
    GateEvidence,
    ModelRegistered,
    Part,
    RetrainRequested,
    TrainingCompleted,
    TrainingFailed,
    TrainingRefused,
)
from driftloop.schemas.settings import DriftSettings, Settings, TrainingSettings

if TYPE_CHECKING:
    from driftloop.mlops_core.training import fit

SKIP_SKLEARN = "--skip-sklearn"
TRY_LATER = 75
"""Exit code if the registry or the store didn't answer (sysexits.h: EX_TEMPFAIL)."""
STDERR_FILE = "stderr"
"""File in the job's folder with the stderr of its process."""
LINES = 12
"""Last lines of stderr in the error of a crashed process."""

Ended = Annotated[
    TrainingCompleted | ModelRegistered | TrainingRefused | TrainingFailed, Field(discriminator="type")
]
Process = asyncio.subprocess.Process
_RESULT: TypeAdapter[list[Ended]] = TypeAdapter(list[Ended])


class Job(Part):
    """Input of a training process."""

    request: RetrainRequested
    store: Path
    """The offline store's folder; absolute."""
    tracking_uri: str
    training: TrainingSettings = TrainingSettings()
    drift: DriftSettings = DriftSettings()
    """What the profile contains: a season, segments."""


class ProcessRunner:
    """`ports.Training`: each training is a process that ends with this one at the latest."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._spare: Process | None = None
        """Has imported everything and waits for its job, if the settings want one."""

    async def run(self, request: RetrainRequested) -> Sequence[Event]:
        """The events that it ends with: completed and registered, refused, or failed.

        Raises:
            Unavailable: the registry or the store doesn't answer; the same request may be run again.
        """
        job = Job(
            request=request,
            store=self._settings.store.folder.absolute(),
            tracking_uri=self._settings.registry.tracking_uri,
            training=self._settings.training,
            drift=self._settings.drift,
        )
        spare, self._spare = self._spare, None
        process = spare if spare is not None and spare.returncode is None else await self._start_process()
        try:
            with tempfile.TemporaryDirectory(prefix="driftloop-training-") as folder:
                return await run(job, Path(folder), process)
        finally:
            if self._settings.training.warm:
                with contextlib.suppress(OSError):  # only the next training would have been quicker
                    self._spare = await self._start_process("--warm")

    async def _start_process(self, *options: str) -> Process:
        """A process to train in; with `--warm`, it imports everything while it waits."""
        skip = [] if self._settings.training.trainers else [SKIP_SKLEARN]
        return await _spawn(*options, *skip)


async def run(job: Job, folder: Path, process: Process) -> Sequence[Event]:
    """Carry out `job` in `process`, using `folder`; the process is gone afterwards, whatever happens.

    Raises:
        Unavailable: as `ProcessRunner.run`.
    """
    (folder / "job.json").write_text(job.model_dump_json())
    job.store.mkdir(parents=True, exist_ok=True)
    said = folder / STDERR_FILE
    said.touch()
    timeout = job.training.timeout
    async with _kill_at_end(process):
        assert process.stdin is not None
        process.stdin.write(f"{folder}\n".encode())
        try:
            code = await asyncio.wait_for(process.wait(), timeout)
        except TimeoutError:
            return [TrainingFailed.following(job.request, error=f"not done after {timeout:g} s: ended")]
    if code == 0:
        return _RESULT.validate_json((folder / "result.json").read_bytes())
    if code == TRY_LATER:
        raise Unavailable(f"training {job.request.model}: {_tail(said, 1)}")
    return [TrainingFailed.following(job.request, error=f"{_exit(code)}\n{_tail(said, LINES)}".strip())]


def train(job: Job) -> list[Event]:
    """Carry out `job` here; windows that the registry has a version for are not fitted again."""
    from driftloop.infra.adapters.mlflow.registry import MLflowRegistry
    from driftloop.infra.adapters.parquet.store import ParquetStore
    from driftloop.mlops_core.training import fit

    registry, reader = MLflowRegistry(job.tracking_uri), MLflowReader(job.tracking_uri)
    request, ended, refused = job.request, list[Event](), list[str]()
    known = {
        name: registry.answering(request.model, fit.registration_key(request, name))
        for name in fit.window_names(request)
    }
    evidence, fits = None, 0
    for version in known.values():
        if version is not None:  # a crash came between two versions, or after the last of them
            ended += completion_events(job, registry.nominate(version))
    missing = [name for name, version in known.items() if version is None]
    try:
        training = _Training(job, reader, ParquetStore(job.store))
        for name, rows in training.windows(missing):
            began = time.monotonic()
            try:
                outcome = training.challenge(name, rows)
            except InvalidData as error:
                refused.append(f"{name}: {error}" if len(known) > 1 else str(error))
                continue
            if isinstance(outcome, GateEvidence):
                evidence, fits = outcome, fits + 1
                refused.append(outcome.sentence)
                continue
            tags = {**outcome.tags, "seconds": f"{time.monotonic() - began:.3f}"}
            ended += completion_events(job, registry.register(replace(outcome, tags=tags)))
    except Permanent as error:
        refused.append(str(error))
    if ended:
        return ended
    reason = "; ".join(refused)
    return [TrainingRefused.following(request, reason=reason, gate=evidence, fits=fits)]


def completion_events(job: Job, version: Registered) -> list[Event]:
    """What a registered version says of its training: the same events however often it is asked."""
    tags = version.tags
    ended = TrainingCompleted.following(
        job.request,
        id=ids.derive(job.request.id, "TrainingCompleted", version.version),
        version=version.version,
        run_id=version.run_id,
        rows=int(tags["rows"]),
        seconds=float(tags["seconds"]),
        metrics=json.loads(tags["metrics"]),
        gate=GateEvidence.model_validate_json(tags["gate"]),
        fits=2 if job.training.refit else 1,
    )
    named = {"version": version.version, "run_id": version.run_id, "rollout": job.request.rollout}
    return [ended, ModelRegistered.following(ended, **named, gate=ended.gate)]


class _Training:
    """What all windows of a training have in common, read once."""

    def __init__(self, job: Job, reader: ModelReader, store: ExampleStore) -> None:
        model = job.request.model
        serving = reader.champion(model)
        self._champion = None if serving is None else _champion(reader, model, serving, job.training)
        self._model = _model_config(
            job.request, _previous_config(reader, model, serving, job.training.algorithm)
        )
        self._trainer = trainers.trainer(job.training, self._model.algorithm or job.training.algorithm)
        self._examples = store.newest(model, job.request.rows)
        self._job = job

    def windows(self, wanted: Sequence[str]) -> Iterator[tuple[str, Examples]]:
        """Windows and their rows, of those that are wanted."""
        from driftloop.mlops_core.training import fit

        for name, rows in fit.training_windows(self._job.request, self._examples).items():
            if name in wanted:
                yield name, rows

    def challenge(self, name: str, rows: Examples) -> Candidate | GateEvidence:
        """The version of one window, or why the gate refused it. Raises InvalidData."""
        from driftloop.mlops_core.training import fit

        job = self._job
        return fit.train_challenger(
            job.request, self._model, rows, self._champion, self._trainer, job.training, job.drift, name
        )


def _champion(reader: ModelReader, model: str, version: str, settings: TrainingSettings) -> "fit.Champion":
    """The version that serves, and until when it learned; None where its tags do not say."""
    from driftloop.mlops_core.training import fit

    until = reader.version(model, version).tags.get(fit.LEARNED_UNTIL)
    scorer = trainers.scorer_loader(settings, settings.threads)(reader.fitted(model, version))
    return fit.Champion(version, scorer, None if until is None else int(until))


def _model_config(request: RetrainRequested, before: ModelConfig) -> ModelConfig:
    """What the request says; where it is silent, what was fitted before."""
    fields = ("task", "algorithm", "hyperparameters")
    requested = {name: getattr(request, name) for name in fields if getattr(request, name) is not None}
    inherited = before.model_dump()
    if requested.get("algorithm", before.algorithm) != before.algorithm:
        del inherited["hyperparameters"]  # another trainer does not know them
    return ModelConfig.model_validate({**inherited, **requested})


def _previous_config(reader: ModelReader, model: str, champion: str | None, algorithm: str) -> ModelConfig:
    """What the champion, or the newest version, was fitted with; for a first version `algorithm`."""
    versions = reader.versions(model)
    before = next((one for one in versions if one.version == champion), versions[-1] if versions else None)
    if before is None or "task" not in before.tags:
        return ModelConfig(name=model, algorithm=algorithm)
    fields = {name: before.tags[name] for name in ("task", "algorithm") if name in before.tags}
    hyperparameters = json.loads(before.tags.get("hyperparameters", "{}"))
    return ModelConfig.model_validate({"name": model, "hyperparameters": hyperparameters, **fields})


async def _spawn(*options: str) -> Process:
    """A training process that waits for its folder."""
    paths = os.pathsep.join(str(Path(path).absolute()) for path in sys.path)
    return await asyncio.create_subprocess_exec(
        *child.end_with_parent(),
        *child.python_command("driftloop.infra.processes.training", *options),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.DEVNULL,
        stderr=None,
        env={**os.environ, "PYTHONPATH": paths},
        start_new_session=True,
    )


@contextlib.asynccontextmanager
async def _kill_at_end(process: Process) -> AsyncIterator[None]:
    """The process, and whatever it started, is gone when the block is left, however it is left."""
    try:
        yield
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        await process.wait()


def _exit(code: int) -> str:
    if code >= 0:
        return f"the training process ended with exit code {code}"
    name = signal.Signals(-code).name
    hint = " (out of memory?)" if -code == signal.SIGKILL else ""
    return f"the training process was ended by {name}{hint}"


def _tail(file: Path, lines: int) -> str:
    return "\n".join(file.read_text(errors="replace").splitlines()[-lines:])


def main(options: Sequence[str]) -> int:
    """The process; returns its exit code. `--warm`: import everything at once."""
    if SKIP_SKLEARN in options:
        trainers.skip_sklearn()
    if "--warm" in options:
        _import_everything()
    told = sys.stdin.readline().strip()
    if not told:
        return 0  # whoever started it has ended, and there is nothing to do
    folder = Path(told)
    with (folder / STDERR_FILE).open("wb") as said:
        os.dup2(said.fileno(), sys.stderr.fileno())
    job = Job.model_validate_json((folder / "job.json").read_bytes())
    os.chdir(job.store)
    try:
        events = train(job)
    except Temporary as error:
        sys.stderr.write(f"{error}\n")
        return TRY_LATER
    unfinished = folder / "result.unfinished"
    unfinished.write_bytes(_RESULT.dump_json(events))  # type: ignore[arg-type]  # all of them are `Ended`
    unfinished.replace(folder / "result.json")
    return 0


def _import_everything() -> None:
    """What a training imports on its way: 6 s of CPU that are better spent while nobody waits."""
    for module in (
        "pyarrow.parquet",
        "driftloop.mlops_core.training.fit",
        "driftloop.mlops_core.training.xgboost_trainer",
        "mlflow.xgboost",
    ):
        import_module(module)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
