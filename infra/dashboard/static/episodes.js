// What drifts beside single columns: pairs of features, segments, columns that are not as in training.

import { find, make, pill, show, table } from "./dom.js";
import { brief, count, fixed, iso, minute, percent } from "./format.js";

const FEW = 6;

/** What a column can be: a shape, a word, a tone, and what it means (docs/drift-states.md). */
export const STATES = {
  drifted: ["●", "drift", "bad", "an episode is open"],
  suspected: ["◐", "suspected", "warn", "alarmed or far off, but not (yet) confirmed"],
  resolved: ["✓", "resolved", "good", "the episode has just closed"],
};

/** A state as shape and word; nothing for what is stable. */
export function stated(state) {
  if (!(state in STATES)) return null;
  const [shape, word, tone, meaning] = STATES[state];
  return make("span", { class: `state ${tone}`, title: meaning }, make("i", { "aria-hidden": "true" }, shape), make("span", {}, word));
}

const KINDS = {
  missing: ["missing", "bad", "doesn't come any more, though the model learned from it"],
  retyped: ["other type", "bad", "text where numbers were, or numbers where text was"],
  extra: ["new", "info", "comes, but the model never saw it in training"],
};

/** Columns that are missing, of another type or new; gone once all is as in training again. */
export function deviations(model) {
  const found = model.deviations;
  find("deviations-panel").hidden = found.length === 0;
  show(find("deviations"), [found, model.figures.champion], ([versions, champion]) => versions.flatMap((version) => [
    ...Object.keys(KINDS).map((what) => deviating(what, version, champion)),
    version.more ? make("p", { class: "hint" }, `and ${count(version.more)} more columns`) : null,
  ]).filter((one) => one !== null));
}

function deviating(what, version, champion) {
  const [word, tone, meaning] = KINDS[what];
  const columns = version.columns.filter((one) => one.what === what);
  if (!columns.length) return null;
  const of = version.version === champion ? "" : ` in v ${version.version}`;
  return make("dl", { class: "deviation", title: meaning }, make("dt", {}, pill(word + of, tone)),
    make("dd", {}, ...columns.map(({ column, since }) =>
      make("span", {}, make("b", {}, column), make("small", {}, ` since ${minute(since)}`)))));
}

/** Open pairs, worst first: both correlations on a scale from -1 to 1. */
export function pairs(model) {
  const { rows, more } = model.pairs;
  find("pairs-panel").hidden = rows.length === 0;
  show(find("pairs"), [rows, more, model.figures.champion], () => [
    ...rows.map((row) => make("li", {},
      make("p", { class: "names" }, make("b", {}, row.columns[0]), " ~ ", make("b", {}, row.columns[1]),
        row.version === model.figures.champion ? null : make("small", {}, ` v ${row.version}`)),
      make("span", { class: "bad", title: "distance of the correlations as Fisher's z; an episode opens from 0.25 on" }, fixed(row.severity, 2)),
      scale(row),
      make("p", { class: "hint" }, make("span", {}, `${correlation(row.reference)} → ${correlation(row.current)}`),
        ` since ${minute(row.changed_at)}`))),
    more ? make("li", { class: "hint" }, `and ${count(more)} more pairs`) : "",
  ]);
}

const correlation = (value) => `${value < 0 ? "−" : ""}${Math.abs(value).toFixed(2)}`;

function scale({ reference, current }) {
  const at = (value) => `${50 * (1 + Math.max(-1, Math.min(1, value)))}%`;
  const [then, now, between] = ["then", "now", "between"].map((name) => make("i", { class: name }));
  [then.style.left, now.style.left] = [at(reference), at(current)];
  [between.style.left, between.style.width] = [at(Math.min(reference, current)), `${50 * Math.abs(reference - current)}%`];
  return make("div", { class: "scale", role: "img", "aria-label": `correlation ${correlation(reference)} in training, ${correlation(current)} now` },
    make("i", { class: "zero" }), between, then, now);
}

/** Segments, those that drift first, and what is known of the selected one. */
export class Segments {
  constructor(bins, changed) {
    this.bins = bins;
    this.changed = changed;
    this.all = false;
  }

  draw(model, tabled) {
    const { rows, more } = model.segments;
    find("segments-panel").hidden = rows.length === 0;
    if (!rows.length) return;
    const chosen = rows.find((row) => key(row) === this.chosen) ?? rows[0];
    const column = chosen.columns.find((one) => one.name === this.column) ?? chosen.columns[0];
    this.list(rows, more, chosen, model.figures.champion);
    this.detail(chosen, column);
    const measured = column.current !== null;
    find("segment-seen").hidden = !measured;
    find("segment-unseen").hidden = measured;
    find("segment-toggle").hidden = !measured;
    if (measured && !tabled("segment", () => table(["Bin", "Reference", "When detected"], this.bins.rows(column.reference, column.current), [1, 2]))) {
      this.bins.draw(`${column.name} of ${chosen.name}`, column.reference, column.current, "the rows at the detection");
    }
  }

  list(rows, more, chosen, champion) {
    const shown = this.all ? rows : rows.slice(0, FEW);
    const hidden = rows.length - shown.length + more;
    show(find("segments"), [shown, hidden, this.all, key(chosen), champion], () => [
      table(["Segment", "Worst column", "Severity", "State", "Since"], shown.map((row) => [
        this.button(row.name + (row.version === champion ? "" : ` · v ${row.version}`), key(row), row === chosen, () => { [this.chosen, this.column] = [key(row), null]; }),
        { text: row.columns[0]?.name ?? "–", class: "name" }, row.until === null ? fixed(row.severity, 2) : "–",
        stated(row.state), moment(row.until ?? row.since)]), [2]),
      hidden ? this.rest(rows, hidden, more) : ""]);
  }

  /** How many are not listed, and a way to those that the page has. */
  rest(rows, hidden, more) {
    if (this.all || rows.length <= FEW) return make("p", { class: "hint more" }, `and ${count(hidden)} more, less far off`);
    const button = make("button", { type: "button", class: "quiet", "data-key": "more" }, `and ${count(hidden)} more`);
    button.addEventListener("click", () => { this.all = true; this.changed(); });
    return make("p", { class: "more" }, button);
  }

  detail(segment, column) {
    show(find("segment-columns"), [segment, column.name], () => [
      make("p", { class: "names" }, make("b", {}, segment.name),
        make("span", { class: "hint" }, ` ${[segment.share === null ? null : `${percent(segment.share)} of the training rows`,
          segment.until === null ? null : `over since ${minute(segment.until)}`].filter(Boolean).join(", ")}`)),
      table(["Column", "Severity", "State"], segment.columns.map((one) => [
        this.button(one.name, `column ${one.name}`, one === column, () => { this.column = one.name; }),
        one.since === null ? "–" : fixed(one.severity, 2), stated(one.state)]), [1]),
      make("p", { class: "hint more" }, segment.more ? `and ${count(segment.more)} more columns; ${told(column)}` : told(column))]);
  }

  button(text, name, pressed, choose) {
    const button = make("button", { type: "button", class: "choice", "aria-pressed": String(pressed), "data-key": name, title: text }, text);
    button.addEventListener("click", () => { choose(); this.changed(); });
    return button;
  }
}

const moment = (ms) => make("time", { datetime: iso(ms), title: minute(ms) }, brief(ms));

/** What changed in a segment's column, and about when. */
function told({ name, state, current, since }) {
  const when = since === null ? "" : `since ${minute(since)}`;
  return state === "resolved" ? `${name}: ${when ? `${when}, now ` : ""}back` : `${name}: ${current ? `${current.channel}, ` : ""}${when}`;
}

const key = (row) => JSON.stringify([row.version, row.name]);
