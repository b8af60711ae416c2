"""MLflow's REST interface, for versions, aliases and artifacts; raises `mlops_core.errors`.

Importing mlflow costs 2-5 s of CPU and 100 MB; reading a version or moving an alias needs none of it.
"""

from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import quote

import httpx

from driftloop.mlops_core.errors import Conflict, NotFound, Unavailable

API = "/api/2.0/mlflow"
ARTIFACTS = "/api/2.0/mlflow-artifacts/artifacts"
PROXIED = "mlflow-artifacts:/"
"""How an artifact's address begins if the server itself hands it out."""
SECONDS = 5.0
"""For an answer; the slowest of them takes 0.1 s."""
PAGE = 200
_ABSENT = {"RESOURCE_DOES_NOT_EXIST", "NOT_FOUND"}

Fields = Mapping[str, Any]
"""A JSON object of MLflow's."""


class Refused(Conflict):
    """MLflow rejected a request; `code` is its error code."""

    def __init__(self, sentence: str, code: str) -> None:
        super().__init__(sentence)
        self.code = code


class MLflowRest:
    """A server by its address. Safe to use from several threads."""

    def __init__(self, uri: str) -> None:
        self.uri = uri.rstrip("/")
        self._client = httpx.Client(base_url=self.uri, timeout=SECONDS)

    def get(self, page: str, **query: str) -> Fields:
        """The answer of a GET, as JSON.

        Raises:
            Unavailable: no answer, or the server is in trouble.
            NotFound: what was asked for isn't there.
            Refused: the question isn't one.
        """
        answer: Fields = self._send("GET", f"{API}/{page}", params=query).json()
        return answer

    def change(self, method: str, page: str, **fields: object) -> Fields:
        """The answer of a request that changes something. Raises as `get`."""
        answer: Fields = self._send(method, f"{API}/{page}", json=fields).json()
        return answer

    def artifact(self, address: str, path: str) -> bytes:
        """A file at `path` under an artifact address of the server's own. Raises as `get`."""
        if not address.startswith(PROXIED):
            raise Conflict(
                f"{address} isn't handed out by MLflow at {self.uri}; start it with --artifacts-destination"
            )
        place = quote(f"{address.removeprefix(PROXIED).strip('/')}/{path}")
        return self._send("GET", f"{ARTIFACTS}/{place}").content

    def pages(self, page: str, items: str, **query: str) -> Iterator[Fields]:
        """All `items` of a search, page by page. Raises as `get`."""
        token = ""
        while True:
            answer = self.get(page, **query, max_results=str(PAGE), page_token=token)
            yield from answer.get(items, ())
            token = answer.get("next_page_token", "")
            if not token:
                return

    def close(self) -> None:
        """Close its connections."""
        self._client.close()

    def _send(self, method: str, path: str, **what: Any) -> httpx.Response:
        try:
            answer = self._client.request(method, path, **what)
        except httpx.UnsupportedProtocol as error:
            raise Conflict(f"{self.uri!r} is not the address of an MLflow server: {error}") from error
        except httpx.TransportError as error:
            why = str(error) or type(error).__name__
            raise Unavailable(f"MLflow at {self.uri} doesn't answer: {why}") from error
        if not answer.is_success:
            raise self._error(answer)
        return answer

    def _error(self, answer: httpx.Response) -> Exception:
        code, says = _reason(answer)
        who = f"MLflow at {self.uri}"
        if answer.status_code >= 500 or answer.status_code == 429:
            return Unavailable(f"{who} answered {answer.status_code}: {says}")
        if code in _ABSENT:
            return NotFound(f"{who}: {says}")
        return Refused(f"{who} refused {answer.request.url.path} ({answer.status_code} {code}): {says}", code)


def _reason(answer: httpx.Response) -> tuple[str, str]:
    """MLflow's error code and message; empty code if the server is not MLflow."""
    try:
        fields = answer.json()
        return str(fields["error_code"]), str(fields["message"])
    except (ValueError, KeyError, TypeError):
        return "", answer.text[:200].strip() or "no reason given"
