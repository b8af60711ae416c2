// Versions of the pool on the same labelled rows: weights, and one challenger's gain and proof.

import { Plot, labelAxis, stroked, valueAxis } from "./charts.js";
import { colour, find, make, show, table } from "./dom.js";
import { count, gain, loss, minute, named, odds, percent } from "./format.js";

const [GAIN, LOW, HIGH, PROOF] = [0, 1, 2, 3];
/** Odds between which the proof is drawn, as powers of ten. */
const LEAST = -1;
const MOST = 6;
const POWERS = ["1", "10", "100", "1,000", "10,000", "100,000", "1,000,000"];

const percents = (x) => (x > 0 && x < 0.005 ? "under 1 %" : `${Math.round(100 * x)} %`);
const interval = (pair) => (pair ? `${gain(pair[GAIN])} (${gain(pair[LOW])} to ${gain(pair[HIGH])})` : "–");
const inTurn = (a, b) => a.localeCompare(b, "en", { numeric: true });

/** The panel; a row of its table chooses the challenger that is drawn. */
export class Compared {
  constructor(changed) {
    this.changed = changed;
    this.weights = new WeightsChart(find("weights"));
    this.gain = new GainChart(find("gain"));
    this.proof = new ProofChart(find("proof"));
  }

  draw(model, view, tabled) {
    const looks = ascending(view.looks);
    const { pool } = model;
    find("compared-panel").hidden = !pool || !looks.some((one) => Object.keys(one.weights).length > 1);
    if (find("compared-panel").hidden) return;
    const challenger = this.challenger(pool, looks);
    find("compared-hint").textContent = `${pool.loss} on the same labelled rows, ${count(pool.labelled)} labels so far, newest ${minute(pool.at)}`;
    show(find("compared-sentence"), pool.sentence, (said) => said);
    this.list(pool, challenger, view.hues);
    if (!tabled("compared", () => history(looks))) this.charts(looks, pool, challenger, view.hues);
  }

  /** The one that was chosen; else the strongest beside the champion; else the champion, from when it was none. */
  challenger(pool, looks) {
    const known = pool.versions.map((one) => one.version).filter((one) => looks.some((look) => one in look.pairs));
    const compared = pool.versions.filter((one) => one.pair).map((one) => one.version);
    return [this.chosen, ...compared, ...known].find((one) => known.includes(one)) ?? null;
  }

  charts(looks, pool, challenger, hues) {
    this.weights.draw(looks, hues);
    const versions = this.weights.versions;
    const now = looks.at(-1).weights;
    show(find("weights-legend"), [versions, now, versions.map((one) => hues.get(one)), crowned(looks).length], () => [
      ...[...versions].reverse().filter((version) => version in now).map((version) => make("span", { class: `key v${hues.get(version) ?? "x"}` }, `${named(version)} ${percents(now[version])}`)),
      crowned(looks).length ? make("span", { class: "key crown" }, "new champion") : ""]);
    const own = looks.filter((one) => challenger in one.pairs);
    const hue = `v${hues.get(challenger) ?? "x"}`;
    for (const name of ["gain", "proof"]) find(name).parentElement.hidden = own.length === 0;
    if (!own.length) return;
    find("gain-title").textContent = `Gain of ${named(challenger)} against the champion`;
    find("proof-title").textContent = `Proof that ${named(challenger)} is better: odds to 1`;
    show(find("gain-legend"), [challenger, hue], () => [make("span", { class: `key line ${hue}` }, `champion's loss − ${named(challenger)}'s`),
      make("span", { class: `key band ${hue}` }, "always-valid interval")]);
    show(find("proof-legend"), [challenger, hue, pool.proof], () => [make("span", { class: `key line ${hue}` }, "odds, now and lately"),
      make("span", { class: "key bound" }, `proven at ${count(pool.proof)} to 1`)]);
    this.gain.draw(own, challenger, hue);
    this.proof.draw(own, challenger, hue, pool.proof);
  }

  list(pool, challenger, hues) {
    show(find("pool"), [pool.versions, pool.champion, challenger, pool.versions.map((one) => hues.get(one.version))], ([rows]) =>
      table(["Version", "Weight", "Mean loss", "Labels", "Gain (at least to at most)", "Proof", "Waits for"], rows.map((row) => [
        this.button(row, row.version === challenger, hues), percent(row.weight), loss(row.loss), count(row.rows), interval(row.pair),
        row.pair ? `${odds(row.pair[PROOF])} to 1` : "–",
        { text: row.waits_for, class: `long ${row.tone}` }]), [1, 2, 3, 4, 5]));
  }

  button(row, pressed, hues) {
    const key = make("span", { class: `key v${hues.get(row.version) ?? "x"}` }, named(row.version));
    if (!row.pair) return key;
    const button = make("button", { type: "button", class: "choice", "aria-pressed": String(pressed), "data-key": `pool ${row.version}`, title: "draw its gain and its proof" }, key);
    button.addEventListener("click", () => { this.chosen = row.version; this.changed(); });
    return button;
  }
}

/** Looks from the last time on that the count of labels began anew. */
function ascending(looks) {
  const last = looks.findLastIndex((one, n) => n > 0 && one.labelled <= looks[n - 1].labelled);
  return last < 0 ? looks : looks.slice(last);
}

function history(looks) {
  const rows = [...looks].reverse().slice(0, 100).flatMap((look) => Object.keys(look.weights).sort(inTurn).map((version) => {
    const pair = look.pairs[version];
    return [minute(look.at), count(look.labelled), named(version), percent(look.weights[version]), version === look.champion ? "champion" : interval(pair),
      pair ? `${odds(pair[PROOF])} to 1` : "–"];
  }));
  return table(["Until", "Labels", "Version", "Weight", "Gain", "Proof"], rows, [1, 3, 4, 5]);
}

const ofLabels = (looks) => ({
  cursor: { show: false },
  padding: [8, 26, 0, 0],
  x: { time: false, range: () => (looks().length > 1 ? [looks()[0].labelled, looks().at(-1).labelled] : [looks()[0].labelled - 50, looks()[0].labelled + 50]) },
});

/** The first looks after another version became champion. */
const crowned = (looks) => looks.filter((one, n) => n > 0 && one.champion !== looks[n - 1].champion);

/** Dotted lines where another version became champion. */
function crowns(u, looks) {
  stroked(u, [1.5, 3], (ctx) => {
    for (const { labelled } of crowned(looks)) {
      const x = Math.round(u.valToPos(labelled, "x", true));
      ctx.moveTo(x, u.bbox.top);
      ctx.lineTo(x, u.bbox.top + u.bbox.height);
    }
  }, "--muted");
}

function level(u, value, dash, line) {
  const y = Math.round(u.valToPos(value, "y", true));
  if (y < u.bbox.top || y > u.bbox.top + u.bbox.height) return;
  stroked(u, dash, (ctx) => { ctx.moveTo(u.bbox.left, y); ctx.lineTo(u.bbox.left + u.bbox.width, y); }, line);
}

/** Stacked weights: one colour a version, all together 1. */
class WeightsChart {
  constructor(host) {
    this.plot = new Plot(host);
  }

  draw(looks, hues) {
    this.looks = looks;
    this.versions = [...new Set(looks.flatMap((one) => Object.keys(one.weights)))].sort(inTurn);
    const below = looks.map(() => 0);
    const sums = this.versions.map((version) => looks.map((one, n) => (below[n] += one.weights[version] ?? 0)));
    const { x, ...options } = ofLabels(() => this.looks);
    const ink = this.versions.map((version) => colour(`--v${hues.get(version) ?? "x"}`));
    const now = Object.entries(looks.at(-1).weights).map(([version, weight]) => `${named(version)} ${percents(weight)}`);
    this.plot.draw([this.versions, ink, looks.length < 3], [looks.map((one) => one.labelled), ...sums], () => ({
      ...options,
      scales: { x, y: { range: () => [0, 1] } },
      axes: [labelAxis(), { ...valueAxis(percents), splits: () => [0, 0.25, 0.5, 0.75, 1] }],
      series: [{}, ...ink.map((stroke, n) => ({ stroke, width: 1, fill: n ? undefined : `${stroke}88`, points: { show: looks.length < 3 } }))],
      bands: ink.slice(1).map((stroke, n) => ({ series: [n + 2, n + 1], fill: `${stroke}88` })),
      hooks: { draw: [(u) => crowns(u, this.looks)] },
    }), `Weights over ${looks.length} looks, now ${now.join(", ")}`);
  }
}

/** One challenger's mean gain with its interval and the zero line. */
class GainChart {
  constructor(host) {
    this.plot = new Plot(host);
  }

  draw(looks, version, hue) {
    this.looks = looks;
    const figures = [GAIN, LOW, HIGH].map((which) => looks.map((one) => one.pairs[version][which]));
    const last = looks.at(-1).pairs[version];
    const { x, ...options } = ofLabels(() => this.looks);
    const ink = colour(`--${hue}`);
    const edge = { stroke: "transparent", width: 0, points: { show: false } };
    this.plot.draw([version, hue, looks.length < 3], [looks.map((one) => one.labelled), ...figures], () => ({
      ...options,
      scales: { x, y: { range: () => this.range(version) } },
      axes: [labelAxis(), { ...valueAxis(String), size: 60, values: (u, splits) => stepped(splits) }],
      series: [{}, { stroke: ink, width: 1.8, points: { show: looks.length < 3 } }, edge, edge],
      bands: [{ series: [3, 2], fill: `${ink}2a` }],
      hooks: { draw: [(u) => { level(u, 0, [], "--muted"); crowns(u, this.looks); }] },
    }), `Gain of ${named(version)} over ${looks.length} looks, now ${interval(last)}`);
  }

  /** The gains and the newest interval; the first ones are wide and would flatten all others. */
  range(version) {
    const pairs = this.looks.map((one) => one.pairs[version]);
    const ends = pairs.slice(-Math.ceil(pairs.length / 2)).flatMap((one) => [one[LOW], one[HIGH]]);
    const all = [0, ...pairs.map((one) => one[GAIN]), ...ends];
    const [low, high] = [Math.min(...all), Math.max(...all)];
    const room = 0.08 * (high - low) || 1e-6;
    return [low - room, high + room];
  }
}

/** Ticks with as many digits as tell them apart. */
function stepped(splits) {
  const step = splits.length > 1 ? Math.abs(splits[1] - splits[0]) : 1;
  const digits = [0, 1, 2, 3, 4, 5, 6, 7].find((n) => Math.abs(step * 10 ** n - Math.round(step * 10 ** n)) < 1e-6 * step * 10 ** n) ?? 8;
  return splits.map((value) => (Math.abs(value) < step / 1e6 ? "0" : `${value < 0 ? "−" : "+"}${Math.abs(value).toFixed(digits)}`));
}

/** Odds that the challenger is better, on a logarithmic axis, with the odds that are enough. */
class ProofChart {
  constructor(host) {
    this.plot = new Plot(host);
  }

  draw(looks, version, hue, enough) {
    this.looks = looks;
    const drawn = looks.map((one) => Math.max(LEAST, Math.min(MOST, Math.log10(Math.max(one.pairs[version][PROOF], 1e-9)))));
    const { x, ...options } = ofLabels(() => this.looks);
    const ink = colour(`--${hue}`);
    const bound = Math.log10(enough);
    const top = Math.ceil(Math.max(bound + 0.6, ...drawn));
    const floor = Math.min(...drawn) < -0.05 ? LEAST : 0;
    const powers = Array.from({ length: top - floor + 1 }, (_, n) => floor + n);
    this.plot.draw([version, hue, enough, top, floor, looks.length < 3], [looks.map((one) => one.labelled), drawn], () => ({
      ...options,
      scales: { x, y: { range: () => [floor - 0.05, top + 0.1] } },
      axes: [labelAxis(), { ...valueAxis(String), size: 66, splits: () => powers, values: (u, splits) => splits.map((power) => (power < 0 ? "0.1" : POWERS[power] ?? "")) }],
      series: [{}, { stroke: ink, width: 1.8, points: { show: looks.length < 3 } }],
      hooks: { draw: [(u) => { level(u, bound, [7, 5], "--good"); crowns(u, this.looks); }] },
    }), `Proof of ${named(version)} over ${looks.length} looks, now ${odds(looks.at(-1).pairs[version][PROOF])} to 1 of ${count(enough)} to 1`);
  }
}
