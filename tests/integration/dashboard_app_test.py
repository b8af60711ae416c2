"""Promises of the page's server, over HTTP and a real broker."""

import json
import os
import re
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from driftloop.infra.brokers import Broker
from driftloop.infra.brokers.embedded import EmbeddedBroker
from driftloop.infra.processes.child import Child, free_port, listening, python_command
from driftloop.schemas import topics
from driftloop.schemas.events import RolloutRolledBack
from driftloop.streams import admin
from driftloop.streams.producer.publisher import Publisher
from tests.support.dashboard_server import Running, eventually, serving
from tests.support.event_sequence import Narrator, dead_letter
from tests.support.selection_events import Requested


@pytest.fixture
def page(embedded_broker: Broker) -> Iterator[Running]:
    with serving(embedded_broker.bootstrap) as running:
        yield running


def caught_up(page: Running, events: int) -> dict[str, Any]:
    return eventually(
        lambda: told if (told := page.snapshot())["sequence"] >= events else {},
        f"{events} events on the board",
    )


def deltas(page: Running, after: str = "", last: str = "") -> Iterator[dict[str, str]]:
    """Server-sent events as they come, as dictionaries of their fields."""
    headers = {"last-event-id": last} if last else {}
    stream = httpx.stream(
        "GET", f"{page.url}/api/v1/stream", params={"after": after}, headers=headers, timeout=10
    )
    with stream as answer:
        fields: dict[str, str] = {}
        for line in answer.iter_lines():
            if not line and "data" in fields:
                yield fields
            if not line:
                fields = {}
            else:
                name, _, value = line.partition(": ")
                fields[name] = value


def test_what_is_published_is_in_the_snapshot(page: Running) -> None:
    story = Narrator().whole_story()
    page.tell(story)
    model = caught_up(page, len(story))["models"]["flights"]
    assert model["parts"]["status"]["word"] == "Drift"
    assert [row["state"] for row in model["parts"]["versions"]] == [
        "registered",
        "rolled back",
        "champion",
        "previous",
    ]


def test_a_stream_brings_what_came_after_the_snapshot(page: Running) -> None:
    narrator = Narrator()
    page.tell(told := narrator.first_version() + narrator.calm(2))
    stream = deltas(page, after=caught_up(page, len(told))["id"])
    page.tell(narrator.calm(1))
    windows: list[Any] = []
    while not windows:
        flights = json.loads(next(stream)["data"])["models"].get("flights", {})
        windows += flights.get("added", {}).get("windows", [])
    assert [window["until"] for window in windows] == [narrator.at]


def test_a_browser_that_comes_back_gets_what_it_missed(page: Running) -> None:
    narrator = Narrator()
    page.tell(told := narrator.calm(1))
    seen = caught_up(page, len(told))["id"]
    page.tell(narrator.calm(2))
    caught_up(page, 6)
    delta = json.loads(next(deltas(page, after="0-0", last=seen))["data"])
    assert len(delta["models"]["flights"]["added"]["windows"]) == 2


def test_thousands_of_counts_of_requests_hide_no_evidence_from_a_page_that_starts_later(
    page: Running, embedded_broker: Broker
) -> None:
    narrator = Narrator()
    told = narrator.first_version() + narrator.calm(2) + narrator.retraining("2", "concept", error=0.058)
    told += narrator.calm(5)
    since = narrator.clock
    counts = Requested("flights", ("2", "1"), 10, since).answered(6_000, rate=2)
    page.tell([*told, *counts])
    with serving(embedded_broker.bootstrap, page.kafka.prefix, created=False) as later:
        snapshot = caught_up(later, len(told) + 1_000)
    added = snapshot["models"]["flights"]["added"]
    assert (len(added["windows"]), len(added["looks"])) == (7, 5)
    assert snapshot["sequence"] < len(told) + len(counts) / 2


def test_a_browser_of_an_earlier_run_is_told_to_reset(page: Running) -> None:
    assert next(deltas(page, last="0123abcd-17"))["event"] == "reset"


def test_what_cannot_be_read_is_counted_and_stops_nothing(page: Running) -> None:
    page.raw(topics.DRIFT, b"{not json")
    page.park(dead_letter(4, "unknown model"))
    page.tell(Narrator().calm(1))
    reasons = caught_up(page, 4)["letters"]["reasons"]
    assert reasons == {"unreadable here": 1, "unknown model": 1}


def test_the_chain_behind_an_event_can_be_asked_for(page: Running) -> None:
    page.tell(story := Narrator().whole_story())
    caught_up(page, len(story))
    rolled_back = next(event for event in story if isinstance(event, RolloutRolledBack))
    answer = page.ask(f"/api/v1/events/{rolled_back.id}").json()
    assert answer["chain"][0]["type"] == "RolloutRolledBack"
    assert answer["complete"]


def test_an_event_that_is_not_kept_is_404_and_named(page: Running) -> None:
    answer = page.ask("/api/v1/events/nobody")
    assert answer.status_code == 404
    assert "nobody" in answer.json()["error"]


def test_prometheus_sees_drift_errors_estimates_weights_and_retrainings(page: Running) -> None:
    page.tell(story := Narrator().whole_story())
    caught_up(page, len(story))
    told = page.ask("/metrics").text
    assert 'driftloop_rollout_weight{model="flights",version="2"} 100.0' in told
    assert 'driftloop_retrainings_total{model="flights",outcome="completed"} 3.0' in told
    assert 'driftloop_labelled_total{model="flights"} 146000.0' in told
    assert re.search(r'driftloop_drift_severity\{column="wind_speed",model="flights"\} 0\.[34]', told)
    assert 'driftloop_error_rate{model="flights",version="2"} 0.0' in told
    assert 'driftloop_estimated_loss{model="flights",version="2"} 0.0' in told
    assert 'driftloop_estimate_trusted{model="flights",version="2"} 1.0' in told


def test_every_answer_forbids_foreign_code_and_guessed_types(page: Running) -> None:
    for path in ("/", "/static/app.js", "/static/vendor/uPlot.iife.js", "/api/v1/snapshot", "/metrics"):
        answer = page.ask(path)
        assert answer.status_code == 200, path
        assert answer.headers["content-security-policy"].startswith("default-src 'self'"), path
        assert answer.headers["x-content-type-options"] == "nosniff", path


def test_topics_that_come_later_are_taken_up(embedded_broker: Broker) -> None:
    with serving(embedded_broker.bootstrap, created=False) as page:
        eventually(lambda: page.ask("/healthz").status_code == 200, "the page is healthy")
        admin.create_topics(page.kafka)
        page.tell(story := Narrator().calm(2))
        caught_up(page, len(story))


def test_a_second_page_reads_the_same_from_the_beginning(page: Running) -> None:
    page.tell(story := Narrator().whole_story())
    first = caught_up(page, len(story))
    with serving(page.kafka.bootstrap, page.kafka.prefix) as other:
        second = caught_up(other, len(story))
        assert second["models"]["flights"] == first["models"]["flights"]


def test_the_page_outlives_its_broker_and_goes_on_with_the_next(tmp_path: Path) -> None:
    narrator = Narrator()
    with EmbeddedBroker.start(tmp_path / "first") as first, serving(first.bootstrap) as page:
        page.tell(told := narrator.calm(20))
        caught_up(page, len(told))
        first.kill()
        with EmbeddedBroker.start(tmp_path / "second", port=int(first.bootstrap.split(":")[1])):
            admin.create_topics(page.kafka)
            with Publisher(page.kafka) as fresh:  # the old one's idempotence ended with the old broker
                fresh.deliver(fresh.event_record(event) for event in narrator.calm(1))
            caught_up(page, len(told) + 2)


def test_an_unreachable_cluster_makes_the_page_unhealthy_with_the_address() -> None:
    with serving("127.0.0.1:1", created=False) as page:
        answer = eventually(
            lambda: told if "127.0.0.1:1" in (told := page.ask("/healthz")).json()["error"] else None,
            "unhealthy",
        )
        assert answer is not None
        assert answer.status_code == 503


@pytest.mark.parametrize("signalled", [signal.SIGINT, signal.SIGTERM])
def test_a_page_that_somebody_looks_at_ends_at_once_and_quietly(
    signalled: signal.Signals, embedded_broker: Broker, tmp_path: Path
) -> None:
    port, log = free_port(), tmp_path / "page.log"
    told = {"kafka": {"bootstrap": embedded_broker.bootstrap}, "dashboard": {"port": port}}
    (tmp_path / "settings.json").write_text(json.dumps(told))
    command = python_command(
        "driftloop.infra.cli.app", "--settings", str(tmp_path / "settings.json"), "dashboard"
    )
    page = Child.start("page", command, log=log)
    try:
        eventually(lambda: listening(port), "the page listens")
        address = f"http://127.0.0.1:{port}/api/v1"
        known = httpx.get(f"{address}/snapshot").json()["id"]
        with httpx.stream("GET", f"{address}/stream", params={"after": known}) as looking:
            lines = looking.iter_lines()
            assert next(lines) == "retry: 1000"
            os.kill(page.pid, signalled)
            for _ in lines:
                pass  # to its proper end: a connection that is cut raises
        eventually(lambda: not page.alive, "the page has ended", seconds=8)
    finally:
        page.stop()
    assert log.read_text() == ""
