// Severity per column over time, worst column first: a canvas between names and numbers.

import { colour, make, prepared } from "./dom.js";
import { fixed, minute, percent } from "./format.js";
import { timeTicks } from "./charts.js";
import { stated } from "./episodes.js";

const ROWS = 24;
const AXIS = 30;

const rgb = (hex) => [1, 3, 5].map((at) => parseInt(hex.slice(at, at + 2), 16));

/** severity / threshold -> colour: neutral up to a half, then amber, orange at 1, red at 3. */
function scale() {
  const stops = [[0, "--heat-0"], [0.5, "--heat-1"], [0.75, "--heat-2"], [1, "--heat-3"], [2, "--heat-4"]]
    .map(([at, name]) => [at, rgb(colour(name))]);
  return (ratio) => {
    const upper = stops.findIndex(([at]) => at >= ratio);
    if (upper <= 0) return `rgb(${(upper < 0 ? stops.at(-1) : stops[0])[1].join()})`;
    const [[low, from], [high, to]] = [stops[upper - 1], stops[upper]];
    const part = (ratio - low) / (high - low);
    return `rgb(${from.map((value, index) => Math.round(value + part * (to[index] - value))).join()})`;
  };
}

/** Columns of the model, worst first by what they are now. */
export function ranked(model) {
  return [...model.columns].sort((a, b) => (model.current[b]?.severity ?? 0) - (model.current[a]?.severity ?? 0));
}

export class Heatmap {
  constructor(host, choose) {
    this.host = host;
    this.choose = choose;
    this.names = make("div", { class: "rows" });
    this.numbers = make("div", { class: "rows" });
    this.canvas = make("canvas", { role: "img" });
    this.middle = make("div", {}, this.canvas);
    host.append(make("div", { class: "heatmap" }, this.names, this.middle, this.numbers));
    this.canvas.addEventListener("click", (event) => {
      const index = Math.floor(event.offsetY / this.height);
      if (this.shown?.[index]) choose(this.shown[index]);
    });
  }

  draw(model, windows, range, selected, threshold) {
    const all = ranked(model);
    this.shown = all.slice(0, ROWS);
    this.height = Math.max(13, Math.min(34, Math.floor((this.host.clientHeight - AXIS) / Math.max(this.shown.length, 1))));
    this.label(model, selected);
    const width = this.middle.clientWidth;
    const context = prepared(this.canvas, width, this.height * this.shown.length + AXIS);
    const x = (ms) => ((ms - range[0]) / Math.max(range[1] - range[0], 1)) * width;
    const paint = scale();
    const indices = this.shown.map((name) => model.columns.indexOf(name));
    const usual = median(windows.map((one) => one.until - one.since));
    windows.forEach((one, n) => {
      const before = n > 0 ? windows[n - 1].until : one.since;
      const left = x(Math.max(one.until - before > 5 * usual ? one.since : before, range[0]));
      const right = Math.max(x(one.until), left + 1);
      indices.forEach((index, row) => {
        const severity = one.severity[index];
        if (severity === null || severity === undefined) return;
        context.fillStyle = paint(severity / threshold);
        context.fillRect(left, row * this.height, right - left + 0.6, this.height - 1);
      });
    });
    this.axis(context, range, x, width);
    const worst = this.shown.slice(0, 3).map((name) => `${name} ${fixed(model.current[name]?.severity, 2)}`);
    this.canvas.setAttribute("aria-label",
      `Severity of ${all.length} columns over ${windows.length} windows. Worst now: ${worst.join(", ")}`);
  }

  label(model, selected) {
    const key = JSON.stringify([this.shown, selected, this.height]);
    if (key !== this.key) {
      this.key = key;
      const focused = document.activeElement?.dataset?.column;
      this.names.replaceChildren(...this.shown.map((name) => {
        const button = make("button", { type: "button", "aria-pressed": String(name === selected), "data-column": name, title: name }, name);
        button.style.height = `${this.height}px`;
        button.addEventListener("click", () => this.choose(name));
        return button;
      }));
      if (focused) this.names.querySelector(`[data-column="${CSS.escape(focused)}"]`)?.focus();
    }
    this.numbers.replaceChildren(...this.shown.map((name) => {
      const now = model.current[name];
      const value = make("span", { class: now?.drifted ? "bad" : null }, stated(now?.state), fixed(now?.severity, 2));
      if (now?.drifted && now.contribution) value.title = `${percent(now.contribution)} of the drift of all features`;
      value.style.height = `${this.height}px`;
      return value;
    }));
  }

  axis(context, range, x, width) {
    context.fillStyle = colour("--muted");
    context.font = '11px Inter, "Segoe UI", Roboto, Arial, sans-serif';
    context.textBaseline = "top";
    const top = this.height * this.shown.length + 3;
    for (const { ms, text, below } of timeTicks(range, width)) {
      const at = x(ms);
      if (at < 0 || at > width) continue;
      context.textAlign = at < 34 ? "left" : at > width - 34 ? "right" : "center";
      context.fillText(text, at, top);
      if (below) context.fillText(below, at, top + 13);
    }
  }

  rows(model, windows) {
    return ranked(model).map((name) => {
      const index = model.columns.indexOf(name);
      const since = [...windows].reverse().findIndex((one) => !one.drifted.includes(index));
      const opened = model.current[name]?.drifted ? windows.at(since < 0 ? 0 : -since) : null;
      return [name, fixed(model.current[name]?.severity, 3), model.current[name]?.channel ?? "–", percent(model.current[name]?.contribution),
        opened ? `drift since ${minute(opened.until)}` : word(model.current[name])];
    });
  }
}

function word(now) {
  const state = now?.state ?? "stable";
  return state === "stable" ? "ok" : state;
}

function median(values) {
  return [...values].sort((a, b) => a - b)[Math.floor(values.length / 2)] ?? 0;
}
