"""Promises of the page as a person sees it: headless Chromium, the real server, a real broker.

Screenshots go to the folder that `DRIFTLOOP_SCREENSHOTS` names, else to pytest's temporary one.
"""

import os
import re
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Page, expect, sync_playwright

from driftloop.infra.brokers import Broker
from driftloop.schemas.events import Event, RolloutPromoted
from tests.integration.backlog_test import commit
from tests.support import drift_events
from tests.support.dashboard_server import Running, serving
from tests.support.event_sequence import Narrator, dead_letter

CHROMIUM = Path("/usr/bin/chromium")
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update"]
SIZES = ((390, 860), (1280, 950), (1600, 1000))
WIDE = SIZES[1]
MINUS = "\N{MINUS SIGN}"

pytestmark = pytest.mark.skipif(not CHROMIUM.exists(), reason=f"no browser at {CHROMIUM}; install chromium")


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        launched = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield launched
        launched.close()


@pytest.fixture(scope="module")
def running(embedded_broker: Broker) -> Iterator[Running]:
    with serving(embedded_broker.bootstrap) as served:
        yield served


@pytest.fixture(scope="module")
def narrator(running: Running) -> Narrator:
    told = Narrator()
    running.tell(told.whole_story())
    running.park(dead_letter(4))
    return told


@pytest.fixture
def screenshots(tmp_path: Path) -> Path:
    folder = Path(os.environ.get("DRIFTLOOP_SCREENSHOTS", tmp_path))
    folder.mkdir(parents=True, exist_ok=True)
    return folder


@contextmanager
def opened(
    browser: Browser,
    url: str,
    scheme: str = "light",
    size: tuple[int, int] = WIDE,
    *,
    complaining: bool = False,
) -> Iterator[Page]:
    """The page once it is drawn; what the browser complains about fails the test, unless it has to."""
    width, height = size
    context = browser.new_context(
        viewport={"width": width, "height": height}, color_scheme="dark" if scheme == "dark" else "light"
    )
    page = context.new_page()
    complaints: list[str] = []
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on("console", lambda said: complaints.append(said.text) if said.type == "error" else None)
    page.goto(url)
    page.wait_for_selector("body[data-ready]")
    yield page
    context.close()
    assert complaints == [] or complaining


@pytest.fixture
def page(browser: Browser, running: Running, narrator: Narrator) -> Iterator[Page]:
    with opened(browser, running.url) as drawn:
        expect(drawn.locator("#log .event").first).to_contain_text("wind_speed drifted away")
        yield drawn


def test_the_page_says_whether_the_agents_keep_up(embedded_broker: Broker, browser: Browser) -> None:
    with serving(embedded_broker.bootstrap) as served, opened(browser, served.url) as page:
        expect(page.locator("#live-agents")).to_have_text("")
        commit(served.kafka, "joining", 0)
        expect(page.locator("#live-agents")).to_have_text("agents keep up", timeout=30_000)


def test_no_model_yet_shows_how_to_publish_a_first_event(browser: Browser, embedded_broker: Broker) -> None:
    with serving(embedded_broker.bootstrap) as empty, opened(browser, empty.url) as page:
        expect(page.locator("#empty")).to_be_visible()
        expect(page.locator("#example")).to_contain_text(f'bootstrap="{embedded_broker.bootstrap}"')
        lines = page.locator("#example").inner_text()
        assert lines.startswith("from driftloop import ")
        exec(lines)  # noqa: S102  # our own page's lines: they publish to the test's broker


def test_drift_is_the_status_and_its_column_is_on_top(page: Page) -> None:
    expect(page.locator(".card").first).to_contain_text("Drift")
    expect(page.locator("#heat .rows button").first).to_have_text("wind_speed")
    expect(page.locator("#heat .rows").last.locator("> span").first).to_contain_text("drift")


def test_a_rollback_shows_where_it_stopped_and_why(page: Page) -> None:
    expect(page.locator("#rollout-title")).to_have_text("Rollout of v 3 beside v 2")
    expect(page.locator("#rollout-phase")).to_have_text("rolled back")
    expect(page.locator("#rollout .steps")).to_contain_text("10 % ✕")
    expect(page.locator("#rollout .said")).to_contain_text("lost 0.058 more per prediction")


def test_the_versions_say_what_became_of_them(page: Page) -> None:
    rows = page.locator("#versions tbody tr")
    expect(rows).to_have_count(4)
    expect(rows.nth(1)).to_contain_text("rolled back")
    expect(rows.nth(2)).to_contain_text("champion")


def test_selecting_an_event_shows_what_led_to_it(page: Page) -> None:
    page.locator("#log .event", has_text="v 3 rolled back").first.click()
    expect(page.locator(".chain")).to_contain_text("because of RetrainRequested")


def test_selecting_a_column_shows_its_detail(page: Page) -> None:
    page.locator("#heat .rows button", has_text="carrier").click()
    expect(page.locator("#detail-title")).to_have_text("carrier")
    expect(page.locator("#detail-bins canvas")).to_have_attribute("aria-label", re.compile("carrier"))


def test_every_drawing_is_named_and_can_be_read_as_a_table(page: Page) -> None:
    canvases = page.locator("canvas:visible")
    expect(canvases).to_have_count(8)
    for n in range(canvases.count()):
        assert canvases.nth(n).get_attribute("role") == "img"
        assert canvases.nth(n).get_attribute("aria-label")
    for name in ("heat", "compared", "error", "detail", "score"):
        page.locator(f"[data-table={name}]").click()
        expect(page.locator(f"#{name}-table tbody tr").first).to_be_visible()


def test_what_labels_will_say_stands_beside_what_they_said(page: Page) -> None:
    expect(page.locator("#cards")).to_contain_text(re.compile(r"expected \d\.\d %"))
    for told in ("v 2 expected, before labels", "95 % range", "untrusted: labels contradict it"):
        expect(page.locator("#error-legend")).to_contain_text(told)
    expect(page.locator("#error-hint")).to_contain_text("share of wrong classes")
    page.locator("[data-table=error]").click()
    for told in ("labels", "estimate", "untrusted estimate"):
        row = page.locator("#error-table tbody tr", has=page.get_by_role("cell", name=told, exact=True))
        expect(row.first).to_contain_text("v 2" if told != "labels" else "%")


@pytest.fixture(scope="module")
def drifting(embedded_broker: Broker) -> Iterator[Running]:
    """A page of a model of which everything drifts that can: columns, pairs, segments."""
    with serving(embedded_broker.bootstrap) as served:
        narrator = Narrator()
        served.tell(narrator.whole_story() + drift_events.everything(narrator))
        yield served


def test_pairs_that_parted_are_listed_and_leave_when_they_are_together_again(
    browser: Browser, embedded_broker: Broker
) -> None:
    with serving(embedded_broker.bootstrap) as running, opened(browser, running.url) as page:
        narrator, names = Narrator(), ("temperature", "pressure")
        parted = drift_events.parted(narrator, {names: (0.72, -0.18)})
        running.tell(narrator.first_version() + narrator.calm(2) + parted)
        row = page.locator("#pairs li").first
        expect(row).to_contain_text("temperature ~ pressure", timeout=15_000)
        expect(row).to_contain_text(f"0.72 → {MINUS}0.18 since 2026-03-0")
        expect(row.get_by_role("img")).to_have_attribute(
            "aria-label", f"correlation 0.72 in training, {MINUS}0.18 now"
        )
        running.tell(drift_events.rejoined(narrator, parted[-1], names))
        expect(page.locator("#episodes")).to_be_hidden()


def test_a_segment_is_chosen_by_keyboard_and_shows_its_columns(browser: Browser, drifting: Running) -> None:
    with opened(browser, drifting.url) as page:
        rows = page.locator("#segments tbody tr")
        expect(rows).to_have_count(3)
        expect(rows.nth(0)).to_contain_text("carrier=UAprior_delay")
        expect(rows.nth(2)).to_contain_text("resolved")
        page.get_by_role("button", name="carrier=UA", exact=True).focus()
        page.keyboard.press("Tab")
        page.keyboard.press("Enter")
        chosen = page.get_by_role("button", name="carrier=VX", exact=True)
        expect(chosen).to_have_attribute("aria-pressed", "true")
        expect(chosen).to_be_focused()
        expect(page.locator("#segment-columns")).to_contain_text("carrier=VX 1.5 % of the training rows")
        expect(page.locator("#segment canvas")).to_have_attribute(
            "aria-label", re.compile("distance of carrier=VX")
        )
        page.locator("[data-table=segment]").click()
        expect(page.locator("#segment-table tbody tr").first).to_be_visible()


def test_of_many_segments_few_are_listed_and_the_others_counted(
    browser: Browser, embedded_broker: Broker
) -> None:
    with serving(embedded_broker.bootstrap) as running:
        narrator = Narrator()
        told = narrator.first_version() + narrator.calm(2)
        for n in range(60):
            told += drift_events.within(narrator, f"device={n}", {"distance": 0.3 + n / 50})
        running.tell(told)
        with opened(browser, running.url) as page:
            expect(page.locator("#segments tbody tr")).to_have_count(6, timeout=15_000)
            page.get_by_role("button", name="and 54 more").click()
            expect(page.locator("#segments tbody tr")).to_have_count(24)
            expect(page.locator("#segments")).to_contain_text("and 36 more")


def test_a_canary_is_judged_by_requests_and_a_challenger_by_its_gain_and_proof(
    browser: Browser, embedded_broker: Broker
) -> None:
    with serving(embedded_broker.bootstrap) as running, opened(browser, running.url) as page:
        narrator = Narrator()
        running.tell(narrator.first_version() + narrator.calm(2))
        expect(page.locator("#rollout")).to_contain_text("v 1 is champion", timeout=15_000)
        expect(page.locator("#rollout")).not_to_contain_text("null")
        expect(page.locator("#compared-panel")).to_be_hidden()
        running.tell(narrator.retraining("2", "concept", error=0.05) + narrator.proof(gain=0.02))
        running.tell(narrator.proven_rollout(error=0.05, until=10))
        expect(page.locator("#headline")).to_contain_text("v2 is canary at 10 %")
        expect(page.locator("#rollout table")).to_contain_text(re.compile(r"Requests at 10 %\d+\d+ of 150"))
        expect(page.locator("#rollout .said")).to_contain_text("more requests")
        expect(page.locator("#rollout")).to_contain_text("judged by losses on every labelled row")
        expect(page.locator("#pool tbody tr").nth(1)).to_contain_text("requests: canary at 10 %")
        expect(page.locator("#proof canvas")).to_have_attribute(
            "aria-label", re.compile(r"Proof of v2 .* of 10 to 1")
        )


def test_another_challenger_is_drawn_when_its_row_is_chosen(page: Page) -> None:
    for version in ("v4", "v1"):
        page.get_by_role("button", name=version, exact=True).press("Enter")
        expect(page.locator("#gain-title")).to_have_text(f"Gain of {version} against the champion")
        expect(page.get_by_role("button", name=version, exact=True)).to_be_focused()
        expect(page.locator("#gain canvas")).to_have_attribute("aria-label", re.compile(f"Gain of {version}"))


def test_another_model_can_be_chosen_and_its_status_is_seen_before(
    browser: Browser, embedded_broker: Broker
) -> None:
    with serving(embedded_broker.bootstrap) as running, opened(browser, running.url) as page:
        flights, fraud = Narrator("flights"), Narrator("fraud", seed=8)
        running.tell(fraud.first_version() + fraud.calm(3))
        expect(page.locator("#model option")).to_have_text(["fraud · OK"], timeout=15_000)
        running.tell(flights.first_version() + flights.calm(3) + flights.drift({"seats": 0.6}, 0.07, 3))
        expect(page.locator("#model option")).to_have_text(["flights · Drift", "fraud · OK"])
        expect(page.locator("#model")).to_have_value("fraud")
        page.locator("#model").select_option("flights")
        expect(page.locator(".card").first).to_contain_text("1 of 14 columns")
        running.tell(flights.calm(1))
        expect(page.locator(".card").nth(3)).to_contain_text("7,000")
        expect(page).to_have_title("Drift · flights · driftloop")


def test_a_page_whose_server_comes_back_shows_the_chosen_model_again(
    browser: Browser, embedded_broker: Broker
) -> None:
    flights, fraud = Narrator("flights"), Narrator("fraud", seed=8)
    with ExitStack() as stack:
        with serving(embedded_broker.bootstrap) as running:
            running.tell(flights.first_version() + flights.calm(3) + fraud.first_version() + fraud.calm(5))
            page = stack.enter_context(opened(browser, running.url, complaining=True))
            page.locator("#model").select_option("fraud", timeout=15_000)
            expect(page.locator(".card").nth(3)).to_contain_text("5,000")
        expect(page.locator("#live-words")).to_have_text("Reconnecting to the page's server")
        port = int(running.url.rpartition(":")[2])
        with serving(embedded_broker.bootstrap, running.kafka.prefix, port=port) as again:
            again.tell(fraud.calm(1))
            expect(page.locator(".card").nth(3)).to_contain_text("6,000", timeout=15_000)
            expect(page.locator("#live-words")).to_have_text("Live")
            expect(page.locator("#model")).to_have_value("fraud")


def test_a_model_without_segments_or_pairs_shows_nothing_of_them(page: Page) -> None:
    for name in ("episodes", "segments-panel", "pairs-panel", "deviations-panel"):
        expect(page.locator(f"#{name}")).to_be_hidden()


def test_a_columns_state_is_a_shape_and_a_word_and_is_explained(browser: Browser, drifting: Running) -> None:
    with opened(browser, drifting.url) as page:
        numbers = page.locator("#heat .rows").last
        for told in ("●drift", "◐suspected", "✓resolved"):
            expect(numbers).to_contain_text(told)
            expect(page.locator("#heat-states")).to_contain_text(told)
        meaning = page.locator("#heat .state", has_text="suspected").get_attribute("title")
        assert "not (yet) confirmed" in (meaning or "")


def test_columns_that_are_not_as_in_training_are_named_with_since_when(
    browser: Browser, drifting: Running
) -> None:
    with opened(browser, drifting.url) as page:
        told = page.locator("#deviations .deviation")
        expect(told.nth(0)).to_have_text("missingseats since 2026-03-03 00:30")
        expect(told.nth(1)).to_have_text("other typeplane_age since 2026-03-03 00:40")
        expect(told.nth(2)).to_contain_text("new")


def test_paused_it_stands_still_and_resumed_it_catches_up(
    page: Page, running: Running, narrator: Narrator
) -> None:
    labels = page.locator(".card").nth(3).locator(".value")
    before = labels.text_content() or ""
    page.get_by_role("button", name="Pause").click()
    running.tell(narrator.calm(1))
    expect(page.locator("#live-words")).to_have_text("Paused")
    expect(page.locator("#live-age")).to_have_text(re.compile(r"newest message 0\.\d s ago"))
    expect(labels).to_have_text(before)
    page.get_by_role("button", name="Resume").click()
    expect(labels).not_to_have_text(before)


def test_the_theme_is_the_systems_until_a_person_chooses(
    browser: Browser, running: Running, narrator: Narrator
) -> None:
    background = "getComputedStyle(document.body).backgroundColor"
    with opened(browser, running.url, "dark") as page:
        dark = page.evaluate(background)
        page.get_by_role("button", name="Theme").click()
        assert page.evaluate(background) != dark


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing_serious(scheme: str, browser: Browser, drifting: Running) -> None:
    with opened(browser, drifting.url, scheme) as page:
        expect(page.locator("#log .event").first).to_be_visible()
        page.locator("#log .event").first.click()
        page.locator(".chain").wait_for()
        found = Axe().run(page).response["violations"]
        assert [one["id"] for one in found if one["impact"] in ("serious", "critical")] == []


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_nothing_is_wider_than_the_window(
    size: tuple[int, int], scheme: str, browser: Browser, drifting: Running, screenshots: Path
) -> None:
    with opened(browser, drifting.url, scheme, size) as page:
        expect(page.locator("#versions tbody tr").first).to_be_visible()
        expect(page.locator("#segments tbody tr").first).to_be_visible()
        page.screenshot(path=screenshots / f"{scheme}-{size[0]}.png", full_page=True)
        assert page.evaluate("document.documentElement.scrollWidth") <= size[0]
        assert page.evaluate(CLIPPED) == []


CLIPPED = """[...document.querySelectorAll('.card .value, h2, .title .hint, .title .legend, th')]
    .filter((one) => one.scrollWidth > one.clientWidth + 1).map((one) => one.textContent)"""


def test_what_happens_is_on_the_page_within_two_seconds_and_without_a_reload(
    browser: Browser, embedded_broker: Broker
) -> None:
    with serving(embedded_broker.bootstrap) as running, opened(browser, running.url) as page:
        narrator = Narrator("fraud")
        running.tell(narrator.first_version() + narrator.calm(3))
        expect(page.locator(".card").first).to_contain_text("OK", timeout=15_000)
        page.evaluate("window.sameDocument = true")
        for told, shown in _chapters(narrator):
            running.tell(told)
            published = time.monotonic()
            expect(page.locator("#cards")).to_contain_text(shown, timeout=5_000)
            assert time.monotonic() - published < 2
        assert page.evaluate("window.sameDocument")


def _chapters(narrator: Narrator) -> Iterator[tuple[list[Event], str]]:
    """What is told next, and what a figure on the page says then."""
    yield narrator.drift({"distance": 0.7}, error=0.12, windows=4), "Drift"
    yield narrator.retraining("2", "feature", error=0.05), "Registered"
    rolled = narrator.rollout(error=0.05)
    end = next(n for n, event in enumerate(rolled) if isinstance(event, RolloutPromoted))
    yield rolled[:5], "Canary 1 %"
    yield rolled[5:end], "Canary 100 %"
    yield rolled[end:], "Promoted"
    yield narrator.retraining("3", "manual", error=0.05) + narrator.rollout(error=0.2, until=5), "Rolled back"
