// Panels made of words and tables.

import { find, make, pill, show, table } from "./dom.js";
import { clock, count, day, duration, fixed, gain, loss, milliseconds, named, odds, percent, rate, signed, stamp } from "./format.js";

/** Who serves, who leads, and how far that is from a proof, in one sentence. */
export function headline({ pool }) {
  find("headline").hidden = !pool;
  show(find("headline"), pool?.headline, (said) => said ?? "");
}

/** The six figures on top. */
export function cards(model, newest) {
  const { status, pipeline, figures } = model;
  const error = figures.measure === "error";
  const value = error ? percent : loss;
  const [number, unit] = rate(figures.rows_per_second);
  const since = figures.champion_since === null ? "served before this page looked" : `since ${stamp(figures.champion_since).slice(0, 16)}`;
  const shown = [
    ["Status", status.word, "", status.tone, status.detail + (status.since && newest - status.since > 0 ? `, for ${duration(newest - status.since)}` : "")],
    [error ? "Error rate (prequential)" : "Squared error", value(figures.value), "", worse(figures),
      [...awaited(figures, value), figures.value === null ? "no labels yet" : figures.reference === null ? "its first labels are too long ago" : `reference ${value(figures.reference)}${error ? `, loss ${fixed(figures.loss)}` : ""}`].join("; ")],
    ["Throughput", number, unit, "plain", "of the data's own time"],
    ["Labels", count(figures.labelled), "", "plain", figures.at === null ? "none has met its prediction" : `newest ${stamp(figures.at).slice(0, 16)}`],
    ["Champion", figures.champion === null ? "–" : `v ${figures.champion}`, "", "plain", since],
    ["Retraining", pipeline.word, "", pipeline.tone, pipeline.detail],
  ];
  show(find("cards"), shown, (all) => all.map(([name, what, small, tone, under]) =>
    make("dl", { class: "card" }, make("dt", {}, name),
      make("dd", { class: `value ${tone}`, title: String(what) }, what, small ? make("small", {}, ` ${small}`) : null),
      make("dd", { class: "under", title: under }, under))));
}

/** What labels will say of the newest predictions, and whether to believe it. */
function awaited({ measure, expected }, value) {
  if (!expected || expected[measure] === null) return [];
  return [`expected ${value(expected[measure])}${expected.trusted ? "" : ", untrusted"}`];
}

/** An error a quarter above its reference (and two points) is said in another tone. */
function worse({ value, reference }) {
  return value !== null && reference !== null && value > 1.25 * reference && value > reference + 0.02 ? "bad" : "plain";
}

export function rollout(model) {
  const now = model.rollout;
  show(find("rollout-phase"), now && [now.label, now.tone], (said) => (said ? pill(...said) : []));
  show(find("rollout-title"), now && [now.version, now.stable], (said) =>
    !said ? "Rollout" : `Rollout of v ${said[0]}${said[1] ? ` beside v ${said[1]}` : ""}`);
  show(find("rollout"), now && [now, model.running, model.figures.rollout_outcomes, model.figures.measure], (said) =>
    said ? rolled(...said) : make("p", { class: "nothing" }, "No version has been rolled out yet."));
}

function rolled(now, running, outcomes, measure) {
  const ended = now.tone !== "info";
  const { reached } = now;
  const state = (share) => now.phase === "promoted" || share < reached ? "done"
    : share === reached ? (now.tone === "bad" ? "broken" : "now") : "";
  const words = { done: "passed", now: "now", broken: "stopped here", "": "to come" };
  const signs = { done: " ✓", now: "", broken: " ✕", "": "" };
  const steps = make("ol", { class: "steps", "aria-label": "Shares of traffic" },
    ...now.steps.map((share) => make("li", { class: state(share), title: words[state(share)], "aria-current": state(share) === "now" ? "step" : null }, `${share} %${signs[state(share)]}`)));
  const fill = make("div", { class: ended ? now.tone : null });
  fill.style.width = `${now.phase === "promoted" ? 100 : reached}%`;
  return [steps, make("div", { class: "bar", "aria-hidden": "true" }, fill), now.stable ? checks(now, running, outcomes, measure) : null,
    spoken(now), judgedBy(now, running), minuteOf(running)].filter((one) => one !== null);
}

function checks(now, running, outcomes, measure) {
  const [stable, canary] = [outcomes[now.stable], outcomes[now.version]];
  const verdict = now.verdict ?? {};
  const byLabels = verdict.canary_loss !== undefined && verdict.canary_loss !== null;
  const rows = [
    ...asked(now, running),
    ...(measure === "error" ? [["Error rate", percent(stable?.error), percent(canary?.error)]] : []),
    ["Squared error", loss(verdict.stable_loss ?? stable?.loss), loss(verdict.canary_loss ?? canary?.loss)],
    ...(byLabels ? [["Labels at the last look", count(verdict.stable_rows), count(verdict.canary_rows)]] : []),
  ];
  if (byLabels && verdict.low !== undefined && verdict.low !== null) {
    rows.push(["Difference, at least / at most", signed(verdict.low), signed(verdict.high)]);
  }
  return table(["Check", `v ${now.stable}`, `v ${now.version}`], rows, [1, 2]);
}

/** What was counted of the requests of the step, canary beside stable. */
function asked(now, { requests, needed, agreement }) {
  const [stable, canary] = [requests[now.stable], requests[now.version]];
  const rows = [];
  if (canary || stable) {
    const so = canary?.predictions ?? 0;
    const step = `Requests at ${now.reached} %`;
    rows.push([step, count(stable?.predictions ?? 0), so < needed ? `${count(so)} of ${count(needed)}` : count(so)],
      ["Calls that failed", percent(stable?.failed), percent(canary?.failed)],
      ["Latency, p95", milliseconds(stable?.p95), milliseconds(canary?.p95)]);
  }
  if (agreement) rows.push(["Scores as recomputed", "–", `${count(agreement.rows - agreement.disagreeing)} of ${count(agreement.rows)}`]);
  return rows;
}

/** Which evidence judges how well the canary predicts. */
function judgedBy(now, { pair }) {
  if (!now.stable) return null;
  if (now.evidence === "canary") return make("p", { class: "by" }, make("b", {}, "Predictions are judged by the labels of its own requests. "), now.because);
  const against = pair ? `Now: gain ${gain(pair[0])} (${gain(pair[1])} to ${gain(pair[2])}), ${odds(pair[3])} to 1.` : now.because;
  return make("p", { class: "by" }, make("b", {}, `Predictions are judged by losses on every labelled row. `), against);
}

/** What the versions answered in the newest minute that a serving host counted. */
function minuteOf({ now }) {
  if (!now || !Object.keys(now.versions).length) return null;
  const told = Object.entries(now.versions).map(([version, one]) =>
    `${named(version)} ${fixed(one.predictions / now.seconds, 1)}/s, ${percent(one.failed)} failed${one.p95 === null ? "" : `, p95 ${milliseconds(one.p95)}`}`);
  return make("p", { class: "by" }, make("b", {}, "Requests, newest minute: "), told.join("; "));
}

function spoken(now) {
  const tones = { pass: "good", fail: "bad", hold: "warn", error: "bad" };
  const outcome = now.verdict?.outcome;
  return make("p", { class: "said" }, outcome ? pill(outcome, tones[outcome]) : null, outcome ? " " : null, now.sentence);
}

export function versions(model) {
  show(find("versions"), model.versions, (rows) => !rows.length ? make("p", { class: "nothing" }, "No version was registered yet.")
    : table(["Version", "State", "Trigger", "Rows", "Trained in", "Metrics", "Gate"], rows.map((row) => [
      `v ${row.version}`, pill(row.state, row.tone), row.trigger, count(row.rows),
      row.seconds === null ? "–" : duration(1000 * row.seconds),
      { text: Object.entries(row.metrics).slice(0, 2).map(([name, value]) => `${name} ${fixed(value)}`).join(", ") || "–", class: "wraps" },
      { text: row.gate || "–", class: "long" },
    ]), [3, 4]));
}

export function alerts(model) {
  show(find("alerts"), model.alerts, (all) => !all.length ? make("li", { class: "nothing" }, "None.")
    : [...all].reverse().map((alert) => make("li", {}, make("time", { datetime: new Date(alert.at).toISOString() }, stamp(alert.at)),
      pill(alert.text.split(":")[0], alert.tone), make("span", {}, alert.text.replace(/^\w+: /, "")))));
}

export function letters({ reasons, newest }) {
  const total = Object.values(reasons).reduce((sum, one) => sum + one, 0);
  find("letters-hint").textContent = total ? Object.entries(reasons).map(([reason, n]) => `${count(n)} ${reason}`).join(", ") : "";
  show(find("letters"), newest.slice(0, 20), (rows) => !rows.length ? make("p", { class: "nothing" }, "None: everything could be read.")
    : table(["When", "Reason", "Where", "Detail"], rows.map((row) => [
      row.at === null ? "–" : stamp(row.at), row.reason, row.where, { text: row.detail, class: "long" }])));
}

/** The log grows at its top; what was there stays, so that a reader's place and a screen reader's are kept. */
export class Log {
  constructor(list) {
    this.list = list;
  }

  draw(name, entries) {
    if (name !== this.name || entries !== this.entries) {
      this.list.replaceChildren();
      this.list.setAttribute("aria-live", "off");
      [this.name, this.entries, this.last] = [name, entries, null];
    }
    const known = this.last === null ? -1 : entries.findIndex((entry) => entry.id === this.last);
    for (const entry of entries.slice(known + 1)) {
      if (this.list.firstElementChild?.dataset.day === day(entry.at)) this.list.firstElementChild.remove();
      this.list.prepend(make("li", { class: "day", "data-day": day(entry.at) }, day(entry.at)), this.row(entry));
    }
    while (this.list.children.length > 240) this.list.lastElementChild.remove();
    this.last = entries.at(-1)?.id ?? null;
    this.list.setAttribute("aria-live", "polite");
  }

  row(entry) {
    const button = make("button", { type: "button", class: "event", "aria-expanded": "false" },
      make("time", { datetime: new Date(entry.at).toISOString(), title: stamp(entry.at) }, clock(entry.at)),
      pill(entry.badge, entry.tone), make("span", { class: "text" }, entry.text));
    const item = make("li", {}, button);
    button.addEventListener("click", () => toggled(item, button, entry));
    return item;
  }
}

async function toggled(item, button, entry) {
  const open = item.querySelector(".chain");
  button.setAttribute("aria-expanded", String(!open));
  if (open) {
    open.remove();
    return;
  }
  const answer = await fetch(`api/v1/events/${encodeURIComponent(entry.id)}`).then((one) => one.json(), () => ({ error: "the server did not answer" }));
  const causes = answer.error ? [make("li", {}, answer.error)] : answer.chain.slice(1).map((cause) =>
    make("li", {}, make("span", { class: "hint" }, `because of ${cause.type}, ${stamp(cause.at)}`), cause.text));
  if (!causes.length) causes.push(make("li", {}, "Nothing led to it: a person or a client began here."));
  if (answer.chain && !answer.complete) causes.push(make("li", { class: "hint" }, "What came before is no longer kept here; `driftloop lineage` reads it from Kafka."));
  item.append(make("ol", { class: "chain" }, ...causes));
}
