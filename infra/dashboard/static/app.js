// The page: one store, one selected model, everything drawn from it.

import { ErrorChart, POOL, SeverityChart, errorLegend } from "./charts.js";
import { Compared } from "./compared.js";
import { find, make, show, table } from "./dom.js";
import { STATES, Segments, deviations, pairs, stated } from "./episodes.js";
import { duration, fixed, loss, minute, percent } from "./format.js";
import { Heatmap, ranked } from "./heatmap.js";
import { Histogram } from "./histogram.js";
import { Log, alerts, cards, headline, letters, rollout, versions } from "./panels.js";
import { Store } from "./store.js";

const HUES = 8;
const chosen = { column: null, paused: false, tables: new Set() };
const store = new Store(() => schedule());
const heatmap = new Heatmap(find("heat"), (column) => { chosen.column = column; schedule(true); });
const errors = new ErrorChart(find("error"), find("error-readout"));
const severity = new SeverityChart(find("detail-series"));
const bins = new Histogram(find("detail-bins"));
const score = new Histogram(find("score"));
const segments = new Segments(new Histogram(find("segment")), () => schedule(true));
const compared = new Compared(() => schedule(true));
const log = new Log(find("log"));

let due = false;

/** Draw with the next frame; not while paused (unless a person asked) nor while nobody looks. */
function schedule(asked = false) {
  live();
  if (due || document.hidden || (chosen.paused && !asked)) return;
  due = true;
  requestAnimationFrame(() => { due = false; draw(); });
}

function draw() {
  if (!store.about) return;
  const names = Object.keys(store.models).sort();
  find("empty").hidden = names.length > 0;
  find("board").hidden = names.length === 0;
  find("model-label").hidden = names.length === 0;
  if (!names.length) empty(); else board(names);
  document.body.dataset.ready = "true";
}

function board(names) {
  show(find("model"), names.map((name) => [name, store.models[name].status.word]), (all) =>
    all.map(([name, word]) => make("option", { value: name, selected: name === store.model }, `${name} · ${word}`)));
  find("more-models").textContent = store.moreModels ? `and ${store.moreModels} more models, for which the page has no room` : "";
  find("model").value = store.model;
  const model = store.models[store.model];
  if (!model?.figures) return; // news of it are on their way
  const view = seen(model);
  document.title = `${model.status.word} · ${store.model} · driftloop`;
  headline(model);
  cards(model, view.range[1]);
  deviations(model);
  besides(model);
  rollout(model);
  versions(model);
  alerts(model);
  letters(store.letters);
  log.draw(store.model, model.log);
  compared.draw(model, view, tabled);
  heat(model, view);
  errorRate(model, view);
  detail(model, view);
  scores(model);
}

/** Pairs and segments beside each other; one without the other has all the room, and none takes any. */
function besides(model) {
  const [parted, segmented] = [model.pairs.rows.length > 0, model.segments.rows.length > 0];
  find("episodes").hidden = !parted && !segmented;
  find("pairs-panel").classList.toggle("alone", !segmented);
  find("segments-panel").classList.toggle("alone", !parted);
  pairs(model);
  segments.draw(model, tabled);
}

/** What falls into the selected window of time, which ends with the newest event. */
function seen(model) {
  const all = [...model.windows, ...model.points];
  const newest = Math.max(...all.map((one) => one.until), ...model.log.slice(-1).map((one) => one.at), 0);
  const span = 1000 * Number(find("span").value);
  const oldest = all.length ? Math.min(...all.map((one) => one.since)) : newest - 3600000;
  const range = [span ? Math.max(newest - span, Math.min(oldest, newest - 60000)) : oldest, Math.max(newest, oldest + 1000)];
  const within = (one) => one.until >= range[0];
  return {
    range,
    windows: model.windows.filter((one) => within(one) && reigned(model, one)).sort((a, b) => a.until - b.until),
    points: model.points.filter(within).sort((a, b) => a.until - b.until),
    estimates: model.estimates.filter((one) => within(one) && one.version === model.figures.champion).sort((a, b) => a.until - b.until),
    looks: model.looks.filter((one) => one.at >= range[0]),
    hues: hues(model),
  };
}

/** A colour for each version, the same everywhere: its turn's, unless another of the compared ones has that. */
function hues(model) {
  const seen = [...model.points.flatMap((one) => Object.keys(one.versions)), ...model.looks.flatMap((one) => Object.keys(one.weights)),
    ...model.versions.map((one) => one.version)];
  const turns = new Map([...new Set(seen)].sort((a, b) => a.localeCompare(b, "en", { numeric: true })).map((version, n) => [version, n % HUES]));
  const taken = new Set();
  for (const { version } of [...(model.pool?.versions ?? [])].sort((a, b) => a.version.localeCompare(b.version, "en", { numeric: true }))) {
    const free = [...Array(HUES).keys()].map((n) => (turns.get(version) + n) % HUES).find((hue) => !taken.has(hue));
    if (free !== undefined) turns.set(version, free);
    taken.add(turns.get(version));
  }
  return turns;
}

/** Whether a window is of the version that was champion then: a canary has a reference of its own. */
function reigned(model, window) {
  const crown = model.crowns.findLast((one) => one.at < window.until);
  return !crown || Object.keys(crown.shares)[0] === window.version;
}

function heat(model, view) {
  const threshold = store.about.thresholds.open;
  find("heat-hint").textContent = `severity in reference standard deviations, worst first; an episode opens at ${threshold}`;
  const half = threshold / 2;
  show(find("heat-legend"), [half, threshold, model.columns.length], ([low, high, n]) => [
    make("span", { class: "key h0" }, `under ${fixed(low)} (closes)`), make("span", { class: "key h2" }, `${fixed(low)} to ${high}`),
    make("span", { class: "key h3" }, `from ${high} (opens)`), make("span", { class: "key h4" }, `from ${2 * high}`),
    make("span", {}, n > 24 ? `24 of ${n} columns` : `${n} columns`)]);
  show(find("heat-states"), Object.keys(STATES), (all) => all.map((state) =>
    make("span", {}, stated(state), make("small", {}, STATES[state][3]))));
  if (!tabled("heat", () => table(["Column", "Severity", "Channel", "Share of the drift", "State"], heatmap.rows(model, view.windows), [1, 3]))) {
    const column = chosen.column ?? ranked(model)[0];
    heatmap.draw(model, view.windows, view.range, column, threshold);
  }
}

function errorRate(model, view) {
  const error = model.figures.measure === "error";
  find("error-title").textContent = error ? "Error rate by version" : "Squared error by version";
  find("error-hint").textContent = `${error ? "share of wrong classes" : "mean of (label − score)²"}, ${POOL} labels a point; strip above: traffic`;
  show(find("error-legend"), errorLegend(view, model.figures), (keys) => [
    ...keys.map(([name, text]) => make("span", { class: name }, text)),
    make("span", { class: "key mark" }, "drift detected")]);
  const shown = [...view.points].reverse().slice(0, 100).flatMap((point) => Object.entries(point.versions).map(([version, one]) =>
    [minute(point.until), `v ${version}`, String(one.rows), error ? percent(one.error) : "–", loss(one.loss), "labels"]));
  const weighted = [...view.points].reverse().slice(0, 100).flatMap((point) => Object.entries(point.weighted).map(([version, one]) =>
    [minute(point.until), `v ${version}`, "–", error ? percent(one.error) : "–", loss(one.loss), `labels, weighted to all predictions (${percent(one.covered)} covered)`]));
  const expected = [...view.estimates].reverse().slice(0, 100).filter((one) => one.loss !== null).map((one) =>
    [minute(one.until), `v ${one.version}`, String(one.rows), error ? percent(one.error) : "–", loss(one.loss), one.trusted ? "estimate" : "untrusted estimate"]);
  const newest = [...shown, ...weighted, ...expected].sort(([one], [other]) => other.localeCompare(one));
  if (!tabled("error", () => table(["Until", "Version", "Rows", "Error rate", "Squared error", "From"], newest, [2, 3, 4]))) {
    errors.draw(model, view);
  }
}

function detail(model, view) {
  if (!model.columns.includes(chosen.column)) chosen.column = null;
  const column = chosen.column ?? ranked(model)[0];
  if (!column) return;
  const [reference, current] = [model.references[column], model.current[column]];
  find("detail-title").textContent = column;
  find("detail-hint").textContent = current ? `severity ${fixed(current.severity, 2)}, ${current.channel}${current.state in STATES ? `, ${STATES[current.state][1]}` : ""}${current.drifted && current.contribution ? `: ${percent(current.contribution)} of the drift` : ""}` : "not in the newest window";
  if (!tabled("detail", () => table(["Bin", "Reference", "Newest window"], bins.rows(reference, current), [1, 2]))) {
    severity.draw(model, view.windows, view.range, column, store.about.thresholds.open);
    bins.draw(column, reference, current);
  }
}

function scores(model) {
  const [reference, current] = [model.references.score, model.current.score];
  if (!tabled("score", () => table(["Bin", "Reference", "Newest window"], score.rows(reference, current), [1, 2]))) {
    score.draw("score", reference, current);
  }
}

/** Show the table instead of the drawing where a person asked for it; returns whether it does. */
function tabled(name, build) {
  const wanted = chosen.tables.has(name);
  find(name).hidden = wanted;
  find(`${name}-table`).hidden = !wanted;
  if (wanted) {
    const host = find(`${name}-table`);
    const place = host.scrollTop;
    host.replaceChildren(build());
    host.scrollTop = place;
  }
  return wanted;
}

function empty() {
  const { kafka, rows } = store.about;
  find("bootstrap").textContent = kafka.bootstrap + (kafka.prefix ? ` (prefix ${kafka.prefix})` : "");
  find("window-rows").textContent = String(rows);
  const prefix = kafka.prefix ? `, prefix="${kafka.prefix}"` : "";
  find("example").textContent = [
    "from driftloop import KafkaSettings, Label, Prediction, Publisher",
    "",
    `with Publisher(KafkaSettings(bootstrap="${kafka.bootstrap}"${prefix})) as publisher:`,
    '    publisher.publish(Prediction(model="flights", version="1", id="f-1", at=1772409600000,',
    '                                 score=0.31, features={"distance": 1040, "carrier": "UA"}))',
    '    publisher.publish(Label(model="flights", id="f-1", at=1772420400000, label=0))',
  ].join("\n");
  const lost = Object.values(store.letters.reasons).reduce((sum, one) => sum + one, 0);
  find("empty-letters").hidden = lost === 0;
  find("empty-letters").textContent = `${lost} messages could not be handled: ${Object.keys(store.letters.reasons).join(", ")}. Newest: ${store.letters.newest[0]?.detail ?? ""}`;
}

/** The line that says how fresh all this is. */
function live() {
  const { alive, connected, lag } = store;
  const [word, tone] = !connected ? ["Reconnecting to the page's server", "bad"]
    : alive.trouble ? [`Kafka does not answer (${alive.trouble})`, "bad"]
    : chosen.paused ? ["Paused", "warn"]
    : !alive.caught_up ? ["Catching up", "warn"]
    : alive.agents?.tone === "warn" ? ["Live, agents are behind", "warn"] : ["Live", "good"];
  find("live").className = tone;
  if (find("live-words").textContent !== word) find("live-words").textContent = word;
  find("live-age").textContent = lag === null ? "nothing read yet" : `newest message ${lag < 10 ? `${lag.toFixed(1)} s` : duration(1000 * lag)} ago`;
  const pace = alive.agents ?? { sentence: "", tone: "plain" };
  find("live-agents").className = pace.tone;
  if (find("live-agents").textContent !== pace.sentence) find("live-agents").textContent = pace.sentence;
}

function themed(theme) {
  if (theme === "auto") delete document.documentElement.dataset.theme;
  else document.documentElement.dataset.theme = theme;
  find("theme").textContent = `Theme: ${theme}`;
}

/** The browser may forbid storage; the theme is then that of the system at each visit. */
function remembered(value) {
  try {
    if (value !== undefined) localStorage.setItem("theme", value);
    return localStorage.getItem("theme") ?? "auto";
  } catch {
    return value ?? "auto";
  }
}

let theme = remembered();
themed(theme);
find("theme").addEventListener("click", () => {
  theme = { auto: "light", light: "dark", dark: "auto" }[theme];
  remembered(theme);
  themed(theme);
  schedule(true);
});
find("pause").addEventListener("click", () => {
  chosen.paused = !chosen.paused;
  find("pause").textContent = chosen.paused ? "Resume" : "Pause";
  find("pause").setAttribute("aria-pressed", String(chosen.paused));
  schedule();
});
find("model").addEventListener("change", (event) => { chosen.column = null; store.choose(event.target.value).then(() => schedule(true)); });
find("span").addEventListener("change", () => schedule(true));
for (const button of document.querySelectorAll("[data-table]")) {
  button.setAttribute("aria-pressed", "false");
  button.addEventListener("click", () => {
    const name = button.dataset.table;
    if (!chosen.tables.delete(name)) chosen.tables.add(name);
    button.setAttribute("aria-pressed", String(chosen.tables.has(name)));
    button.textContent = chosen.tables.has(name) ? "Show as drawing" : "Show as table";
    schedule(true);
  });
}
document.addEventListener("visibilitychange", () => schedule());
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => schedule(true));
new ResizeObserver(() => schedule(true)).observe(document.body);
setInterval(live, 1000);
store.start();
