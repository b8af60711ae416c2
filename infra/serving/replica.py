"""One process that loads one version of a model and answers for it; every answer also goes to Kafka.

    python -m driftloop.infra.serving.replica --model flights --version 3 --port 9001 \
        --tracking-uri http://127.0.0.1:5000 --kafka '{"bootstrap": "127.0.0.1:9092"}'

It listens before it is ready, and is ready once the model is loaded and has answered a row. It exits with
3 if it can never serve this version, and with 0 after SIGTERM, when everything asked is answered.
"""

import argparse
import asyncio
import logging
import signal
import sys
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from functools import partial
from urllib.parse import unquote

import numpy as np
from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_LATEST
from pydantic import TypeAdapter, ValidationError

from driftloop.infra.serving import asgi, protocol
from driftloop.infra.serving.asgi import Answer, Refused, Request
from driftloop.infra.serving.blend import ANSWERS_AS_HEADER, BLEND_HEADER, CANARY_HEADER
from driftloop.infra.serving.blend import from_header as read_blend
from driftloop.infra.serving.loading import Loaded, load_from_registry
from driftloop.infra.serving.protocol import Rows, Scored
from driftloop.infra.serving.publications import Publications
from driftloop.infra.serving.scorers import Scorers
from driftloop.mlops_core.data.features import FeatureSpec, Floats, Kind
from driftloop.mlops_core.errors import Permanent, Temporary
from driftloop.schemas.records import Name, PredictionBatch
from driftloop.schemas.settings import KafkaSettings, PublisherSettings, TrainingSettings
from driftloop.schemas.summaries import CanaryScores

CANNOT_SERVE = 3
"""Exit code: this version can't be served, and starting again won't help."""
RETRY_SECONDS = 0.5
FLUSH_SECONDS = 4.0
CHECKED_ROWS = 200
"""Rows of a request whose scores are computed again while the version is a canary: skew shows in any rows."""
LOAD_PAGE = ("v2", "repository", "blend", "load")
"""Page at which the serving host has the versions of a blend loaded: a JSON list of names."""
PAGES = "POST /predict, /v2/models/MODEL/infer; GET /v2/models/MODEL, /v2/health/ready, /metrics"
LATENCY_BUCKETS = (0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5)

log = logging.getLogger(__name__)
_VERSIONS: TypeAdapter[list[str]] = TypeAdapter(list[Name])
_BLEND, _ANSWERS_AS = BLEND_HEADER.encode(), ANSWERS_AS_HEADER.encode()
_CANARY = CANARY_HEADER.encode()


class Replica:
    """Answers for one version of one model; `loaded` is None until it can.

    `load` loads a version of the model, as the function of this module does; it is called in threads.
    """

    def __init__(
        self,
        model: str,
        version: str,
        kafka: KafkaSettings,
        publisher: PublisherSettings,
        load: Callable[[str], Loaded],
    ) -> None:
        self.model = model
        self.version = version
        self.loaded: Loaded | None = None
        self._registry = CollectorRegistry()
        self._load = load
        self._others = Scorers(version, load, self._registry)
        self._publications = Publications(kafka, publisher, self._registry)
        self._requests = Counter(
            "driftloop_replica_requests", "Requests answered, by status", ["status"], registry=self._registry
        )
        self._rows = Counter("driftloop_replica_rows", "Rows scored", registry=self._registry)
        self._seconds = Histogram(
            "driftloop_replica_seconds", "Reading, scoring and answering", buckets=LATENCY_BUCKETS,
            registry=self._registry,
        )  # fmt: skip

    async def handle(self, request: Request) -> Answer:
        """Answer one request; scoring is done in place, since a thread's hop costs more than most rows do."""
        if request.method == "GET":
            return self._status(request)
        if request.path == LOAD_PAGE:
            return asgi.answer({"loaded": await self._others.prepare(_read_versions(request.body))})
        began = time.perf_counter()
        try:
            given = self._predict(request)
        except Refused as error:
            given = asgi.refusal(error)
        self._requests.labels(str(given.status)).inc()
        self._seconds.observe(time.perf_counter() - began)
        return given

    async def start(self) -> None:
        """Load beside the listening, asking again while the registry is away. Raises as `load` does."""
        while self.loaded is None:
            try:
                self.loaded = await asyncio.to_thread(self._load, self.version)
            except Temporary as error:
                log.warning("the registry is away, asking again: %s", error)
                await asyncio.sleep(RETRY_SECONDS)
        log.info("ready")

    def stop_loading(self) -> None:
        """Load no further versions of a blend."""
        self._others.close()

    def close(self) -> None:
        """Hand the last answers to Kafka."""
        self._publications.close(FLUSH_SECONDS)

    def _predict(self, request: Request) -> Answer:
        now = time.time_ns() // 1_000_000
        match request.method, request.path:
            case "POST", ("predict",):
                scored = self._score(protocol.read_predict(request.body, now), request)
                return asgi.answer(protocol.predict_answer(scored), headers=_count_headers(scored))
            case "POST", ("v2", "models", model, "infer"):
                return self._infer(model, request, now)
            case "POST", ("v2", "models", model, "versions", version, "infer") if version == self.version:
                return self._infer(model, request, now)
            case _:
                raise asgi.no_page(request, PAGES)

    def _infer(self, model: str, request: Request, now: int) -> Answer:
        rows, identity = protocol.read_infer(model, request.body, now)
        scored = self._score(rows, request)
        return asgi.answer(protocol.infer_answer(scored, identity), headers=_count_headers(scored))

    def _score(self, rows: Rows, request: Request) -> Scored:
        loaded = self._ready_model(rows.model)
        _check_columns(loaded.spec, rows)
        scores = loaded.score(rows.features, len(rows))
        if not np.isfinite(scores).all():
            row = int(np.flatnonzero(~np.isfinite(scores))[0])
            raise Refused(500, f"{self.model}:{self.version} gave no finite score for row {row}")
        if _CANARY in request.headers:
            self._publications.offer_canary(_canary_scores(rows, self.version, scores))
        blend = request.headers.get(_BLEND)
        if blend is not None:
            scores = self._others.blend(read_blend(blend), scores, rows.features)
        version = unquote(request.headers.get(_ANSWERS_AS, b"").decode("latin-1")) or self.version
        self._rows.inc(len(rows))
        listed: list[float] = scores.tolist()
        self._publications.offer(
            PredictionBatch.model_construct(  # every value was checked while reading
                model=rows.model,
                version=version,
                ids=rows.ids,
                entities=rows.entities,
                at=rows.at,
                scores=listed,
                features=rows.features,
            )
        )
        return Scored(rows.model, rows.ids, [version] * len(rows), listed)

    def _ready_model(self, model: str) -> Loaded:
        if model != self.model:
            raise Refused(404, f"model {model!r} is not served here; {self.model!r} is")
        if self.loaded is None:
            raise Refused(503, f"{self.model}:{self.version} is still loading")
        return self.loaded

    def _status(self, request: Request) -> Answer:
        match request.path:
            case ("v2", "health", "live"):
                return asgi.answer({"live": True})
            case ("v2", "health", "ready"):
                return asgi.answer({"ready": self.loaded is not None}, 200 if self.loaded else 503)
            case ("v2", "models", model, *where) if where in (["ready"], ["versions", self.version, "ready"]):
                self._ready_model(model)
                return asgi.answer({"name": model, "version": self.version, "ready": True})
            case ("v2", "models", model) | ("v2", "models", model, "versions", self.version):
                return asgi.answer(metadata(model, self.version, self._ready_model(model)))
            case ("metrics",):
                return Answer(200, generate_latest(self._registry), CONTENT_TYPE_LATEST.encode())
            case _:
                raise asgi.no_page(request, PAGES)


def _canary_scores(rows: Rows, version: str, scores: Floats) -> CanaryScores:
    """What the version's own model scores, for the first rows of a request."""
    features = {name: column[:CHECKED_ROWS] for name, column in rows.features.items()}
    return CanaryScores.model_construct(
        model=rows.model,
        version=version,
        at=rows.at[:CHECKED_ROWS],
        scores=scores[:CHECKED_ROWS].tolist(),
        features=features,
    )


def _read_versions(body: bytes) -> list[str]:
    try:
        return _VERSIONS.validate_json(body)
    except ValidationError as error:
        raise Refused(422, "the body is a JSON list of the names of versions") from error


def _count_headers(scored: Scored) -> tuple[tuple[bytes, bytes], ...]:
    """The header by which the router knows how many rows were scored, without reading the answer."""
    return ((protocol.ROWS_HEADER.encode(), str(len(scored.ids)).encode()),)


def metadata(model: str, version: str, loaded: Loaded) -> dict[str, object]:
    """Open Inference V2's description of a model: its tensors."""
    inputs = [
        {"name": one.name, "datatype": "FP64" if one.kind is Kind.NUMERIC else "BYTES", "shape": [-1]}
        for one in loaded.spec.features
    ]
    outputs = [{"name": "score", "datatype": "FP64", "shape": [-1]}]
    return {
        "name": model,
        "versions": [version],
        "platform": loaded.format,
        "inputs": inputs,
        "outputs": outputs,
    }


def _check_columns(spec: FeatureSpec, rows: Rows) -> None:
    """Refuse rows whose features the model would treat as missing."""
    if not any(feature.name in rows.features for feature in spec.features):
        raise Refused(
            422, f"features: none of the model's features was given; they are {', '.join(spec.names)}"
        )
    for feature in spec.features:
        column = rows.features.get(feature.name)
        if feature.kind is Kind.NUMERIC and column is not None and str in set(map(type, column)):
            row = next(row for row, value in enumerate(column) if type(value) is str)
            wrong = f"a number was expected, not {column[row]!r}"
            raise Refused(422, f"feature {feature.name!r}, row {row}: {wrong}")


async def _serve(asked: argparse.Namespace) -> None:
    """Listen, load, answer, drain. Raises what ended the loading, if that failed."""
    kafka = KafkaSettings.model_validate_json(asked.kafka)
    publisher = PublisherSettings.model_validate_json(asked.publisher)
    training = TrainingSettings.model_validate_json(asked.training)
    load = partial(load_from_registry, asked.tracking_uri, training, asked.model)
    replica = Replica(asked.model, asked.version, kafka, publisher, load)
    loading: list[asyncio.Task[None]] = []

    @asynccontextmanager
    async def life() -> AsyncIterator[None]:
        loading.append(asyncio.create_task(replica.start()))
        loading[0].add_done_callback(_end_if_failed)
        yield
        loading[0].cancel()
        replica.stop_loading()
        await asyncio.to_thread(replica.close)

    listener = asgi.listen(asked.host, asked.port)
    await asgi.serve(asgi.application(replica.handle, life), listener)
    if not loading[0].cancelled():
        loading[0].result()


def _end_if_failed(loading: asyncio.Task[None]) -> None:
    if not loading.cancelled() and loading.exception() is not None:
        signal.raise_signal(signal.SIGTERM)


def main(arguments: Sequence[str] | None = None) -> None:
    """The process. Exits as the module says."""
    parser = argparse.ArgumentParser(
        prog="driftloop.infra.serving.replica", description="Serves one version."
    )
    parser.add_argument("--model", required=True)
    parser.add_argument("--version", required=True)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--tracking-uri", required=True, help="http(s):// of MLflow, or file:// of a folder")
    parser.add_argument("--kafka", default="{}", help="KafkaSettings as JSON")
    parser.add_argument("--publisher", default="{}", help="PublisherSettings as JSON")
    parser.add_argument("--training", default="{}", help="TrainingSettings as JSON, for its trainers")
    asked = parser.parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    logging.getLogger("httpx").setLevel(logging.WARNING)
    try:
        asyncio.run(_serve(asked))
    except Permanent as error:
        log.error(error)  # last, so that whoever looks at the end of the log finds it
        sys.exit(CANNOT_SERVE)


if __name__ == "__main__":
    main()
