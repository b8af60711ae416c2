"""The least that can answer for a model: `python -m benchmarks.speed.bare_replica FOLDER MODEL VERSION PORT`.

Raw ASGI under the same server as our replicas; trusts its one client, checks nothing, counts nothing, and
publishes nothing.
"""

import sys
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import uvicorn

from driftloop.infra.adapters.folder_reader import FolderReader
from driftloop.mlops_core.data.features import Kind


def application(folder: Path, model: str, version: str) -> Any:
    """Answers one row of `/predict`."""
    import xgboost

    fitted = FolderReader(folder).fitted(model, version)
    booster = xgboost.Booster({"nthread": 1})
    booster.load_model(bytearray(fitted.payload))
    codes = [
        {name: float(code) for code, name in enumerate(feature.categories)}
        if feature.kind is Kind.CATEGORICAL
        else None
        for feature in fitted.features.features
    ]
    names, nan = fitted.features.names, float("nan")

    async def app(_scope: Any, receive: Any, send: Any) -> None:
        body = (await receive())["body"]
        row = orjson.loads(body)["rows"][0]
        given = map(row["features"].get, names)
        values = [
            nan if v is None else v if c is None else c.get(v, nan) for v, c in zip(given, codes, strict=True)
        ]
        score = float(booster.inplace_predict(np.array([values], dtype=np.float32))[0])
        answer = orjson.dumps({"predictions": [{"id": row["id"], "version": version, "score": score}]})
        headers = [(b"content-type", b"application/json"), (b"content-length", str(len(answer)).encode())]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": answer})

    return app


if __name__ == "__main__":
    sys.modules.setdefault("sklearn", None)  # type: ignore[arg-type]  # as in our replicas: xgboost looks for it
    place, name, number, port = sys.argv[1:]
    app = application(Path(place), name, number)
    uvicorn.run(app, port=int(port), lifespan="off", access_log=False, log_level="warning", ws="none")
