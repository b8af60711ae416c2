// Lines over time with uPlot: per-version error with traffic and drift marks, and one column's severity.

import { colour } from "./dom.js";
import { count, day, fixed, iso, loss, minute, percent } from "./format.js";

const STEPS = [1, 5, 10, 30, 60, 300, 600, 1800, 3600, 7200, 10800, 21600, 43200, 86400, 172800, 604800, 1209600, 2592000, 7776000];
/** Labels that a drawn error rate stands on at least: a standard error of about 0.03. */
export const POOL = 200;
export const FONT = '11px Inter, "Segoe UI", Roboto, Arial, sans-serif';

/** Ticks of a time axis: ISO, 24 hours, UTC; `below` is the date where the day changes. */
export function timeTicks([from, to], width) {
  const step = 1000 * (STEPS.find((seconds) => (to - from) / 1000 / seconds <= width / 78) ?? STEPS.at(-1));
  const ticks = [];
  let last = "";
  for (let ms = Math.ceil(from / step) * step; ms <= to; ms += step) {
    const date = day(ms);
    const text = step >= 86400000 ? date.slice(5) : iso(ms).slice(11, step < 60000 ? 19 : 16);
    const below = step >= 86400000 ? date.slice(0, 4) : date;
    ticks.push({ ms, text, below: below === last ? "" : below });
    last = below;
  }
  return ticks;
}

function timeAxis() {
  let ticks = [];
  return {
    stroke: colour("--muted"), font: FONT, size: 40, gap: 4,
    grid: { stroke: colour("--line"), width: 1 }, ticks: { show: false },
    splits: (u) => {
      ticks = timeTicks([u.scales.x.min * 1000, u.scales.x.max * 1000], u.bbox.width / devicePixelRatio);
      return ticks.map(({ ms }) => ms / 1000);
    },
    values: () => ticks.map(({ text, below }) => (below ? `${text}\n${below}` : text)),
  };
}

export const valueAxis = (format) => ({
  stroke: colour("--muted"), font: FONT, size: 52, gap: 6, space: 32,
  grid: { stroke: colour("--line"), width: 1 }, ticks: { show: false },
  values: (u, splits) => splits.map(format),
});

/** An axis of labelled rows. */
export const labelAxis = () => ({
  stroke: colour("--muted"), font: FONT, size: 30, gap: 4, space: 70,
  grid: { stroke: colour("--line"), width: 1 }, ticks: { show: false },
  values: (u, splits) => splits.map((value) => (Number.isInteger(value) ? count(value) : "")),
});

/** A uPlot that is built anew when its shape changes and only gets data otherwise. */
export class Plot {
  constructor(host) {
    this.host = host;
  }

  draw(shape, data, options, label) {
    const { clientWidth: width, clientHeight: height } = this.host;
    if (!width || !height) return;
    const key = JSON.stringify([shape, width, height, colour("--bg")]);
    if (this.plot && key === this.key) {
      this.plot.setData(data);
    } else {
      this.plot?.destroy();
      this.key = key;
      this.plot = new uPlot({ width, height, legend: { show: false }, ...options() }, data, this.host);
    }
    const canvas = this.plot.root.querySelector("canvas");
    canvas.setAttribute("role", "img");
    canvas.setAttribute("aria-label", label);
  }
}

/** One version's line: each point is pooled with those before it until it stands on `POOL` labels. */
export function pooled(points, version, measure) {
  return points.map((point, n) => {
    if (!(version in point.versions)) return null;
    let [rows, sum] = [0, 0];
    for (let back = n; back >= 0 && rows < POOL; back -= 1) {
      const seen = points[back].versions[version];
      if (seen) [rows, sum] = [rows + seen.rows, sum + seen.rows * seen[measure]];
    }
    return rows < POOL / 4 ? null : sum / rows;
  });
}

export class ErrorChart {
  constructor(host, readout) {
    this.readout = readout;
    this.plot = new Plot(host);
  }

  draw(model, { points, estimates, range, hues }) {
    this.model = model;
    this.range = range;
    this.hues = hues;
    this.measure = model.figures.measure;
    const versions = [...hues.keys()].filter((version) => points.some((point) => version in point.versions));
    const realised = [points.map((point) => point.until / 1000),
      ...versions.map((version) => pooled(points, version, this.measure))];
    const expected = [estimates.map((one) => one.until / 1000),
      ...[true, false].map((trust) => estimates.map((one) => (one.trusted === trust ? one[this.measure] : null))),
      ...[0, 1].map((end) => estimates.map((one) => one[`${this.measure}_range`]?.[end] ?? null))];
    // A gap in the estimates is one; a time at which only labels came is none, and the other way about.
    const data = estimates.length ? uPlot.join([realised, expected], [realised.map(() => 1), [0, 1, 1, 1, 1]]) : realised;
    const format = this.format();
    const now = versions.map((version) => [version, [...points].reverse().find((point) => version in point.versions)])
      .map(([version, point]) => `v ${version} ${format(point.versions[version][this.measure])}`);
    const champion = estimates.length ? model.figures.champion : null;
    this.plot.draw([versions, this.measure, champion], data, () => this.options(versions, champion),
      `${points.length} windows of labels, ${model.marks.length} drift marks. Last seen: ${now.join(", ")}`);
  }

  format() {
    return this.measure === "error" ? percent : loss;
  }

  options(versions, champion) {
    const format = this.format();
    const hue = colour(`--v${this.hues.get(champion) ?? "x"}`);
    const dashed = (dash, width) => ({ stroke: hue, width, dash, cap: "round", points: { show: false } });
    const edge = { stroke: "transparent", width: 0, points: { show: false } };
    const among = versions.length + 3;
    const lines = versions.map((version) => ({
      label: `v ${version}`, stroke: colour(`--v${this.hues.get(version)}`), width: 1.6,
      spanGaps: true, points: { show: false }, value: (u, value) => (value === null ? "–" : format(value)),
    }));
    return {
      padding: [24, 16, 0, 0],
      cursor: { y: false, points: { size: 6 }, drag: { x: false, y: false } },
      scales: { x: { range: () => this.range.map((ms) => ms / 1000) }, y: { range: (u, low, high) => padded(low, high) } },
      axes: [timeAxis(), valueAxis(this.measure === "error" ? (value) => `${+(100 * value).toFixed(1)} %` : (value) => `${+value.toPrecision(3)}`)],
      series: [{}, ...lines, ...(champion === null ? [] : [dashed([7, 5], 1.6), dashed([0.5, 6], 3), edge, edge])],
      bands: champion === null ? [] : [{ series: [among + 1, among], fill: `${hue}1f` }],
      hooks: {
        drawClear: [(u) => this.traffic(u)],
        draw: [(u) => drawMarks(u, this.model.marks)],
        setCursor: [(u) => this.tell(u, champion === null ? versions : [...versions, `${champion} expected`, `${champion} expected, untrusted`], format)],
      },
    };
  }

  /** A strip above the plot: who had how much traffic; the champion's name where its reign begins. */
  traffic(u) {
    const { ctx, bbox } = u;
    const ratio = devicePixelRatio;
    const strip = 14 * ratio;
    const top = bbox.top - strip - 5 * ratio;
    const changes = this.model.traffic;
    const lastName = { at: -Infinity };
    ctx.save();
    ctx.font = `${11 * ratio}px Inter, "Segoe UI", Roboto, Arial, sans-serif`;
    ctx.textBaseline = "middle";
    ctx.textAlign = "left";
    changes.forEach((change, index) => {
      const from = Math.max(change.at, this.range[0]);
      const to = Math.min(changes[index + 1]?.at ?? this.range[1], this.range[1]);
      if (to <= from) return;
      const [left, right] = [from, to].map((ms) => u.valToPos(ms / 1000, "x", true));
      let y = top + strip;
      for (const [version, share] of Object.entries(change.shares)) {
        const height = (strip * share) / 100;
        ctx.globalAlpha = 0.32;
        ctx.fillStyle = colour(`--v${this.hues.get(version) ?? "x"}`);
        ctx.fillRect(left, y - height, right - left, height);
        y -= height;
      }
      const [[first, share]] = Object.entries(change.shares);
      if (share === 100 && first !== lastName.version && right - left > 30 * ratio) {
        ctx.globalAlpha = 1;
        ctx.fillStyle = colour("--text");
        ctx.fillText(`v ${first}`, left + 6 * ratio, top + strip / 2);
        lastName.version = first;
      }
    });
    ctx.restore();
  }

  tell(u, versions, format) {
    const index = u.cursor.idx;
    if (index === null || index === undefined || u.cursor.left < 0) {
      this.readout.textContent = "";
      return;
    }
    const values = versions.map((version, n) => [version, u.data[n + 1][index]]).filter(([, value]) => value !== null && value !== undefined);
    this.readout.textContent = `${minute(u.data[0][index] * 1000)} · ${values.map(([version, value]) => `v ${version} ${format(value)}`).join(" · ")}`;
  }
}

export class SeverityChart {
  constructor(host) {
    this.plot = new Plot(host);
  }

  draw(model, windows, range, column, threshold) {
    this.model = model;
    this.range = range;
    const index = model.columns.indexOf(column);
    const data = [windows.map((one) => one.until / 1000), windows.map((one) => one.severity[index] ?? null)];
    this.plot.draw([column, threshold], data, () => ({
      padding: [8, 16, 0, 0],
      cursor: { show: false },
      scales: { x: { range: () => this.range.map((ms) => ms / 1000) }, y: { range: (u, low, high) => [0, Math.max(high ?? 0, threshold) * 1.15] } },
      axes: [timeAxis(), valueAxis((value) => `${+value.toFixed(2)}`)],
      series: [{}, { stroke: colour("--warn"), fill: `${colour("--warn")}22`, width: 1.6, points: { show: false } }],
      hooks: {
        draw: [(u) => {
          drawMarks(u, this.model.marks);
          drawLevel(u, threshold);
        }],
      },
    }), `Severity of ${column} over ${windows.length} windows, now ${fixed(model.current[column]?.severity, 2)}, threshold ${threshold}`);
  }
}

function padded(low, high) {
  if (low === null || high === null || low === undefined || high === undefined) return [0, 1];
  const room = Math.max((high - low) * 0.12, high * 0.04, 1e-6);
  return [Math.max(0, low - room), high + room];
}

function drawMarks(u, marks) {
  stroked(u, [4, 4], (ctx) => {
    for (const { at } of marks) {
      if (at / 1000 < u.scales.x.min || at / 1000 > u.scales.x.max) continue;
      const x = Math.round(u.valToPos(at / 1000, "x", true));
      ctx.moveTo(x, u.bbox.top);
      ctx.lineTo(x, u.bbox.top + u.bbox.height);
    }
  });
}

function drawLevel(u, value) {
  stroked(u, [], (ctx) => {
    const y = Math.round(u.valToPos(value, "y", true));
    ctx.moveTo(u.bbox.left, y);
    ctx.lineTo(u.bbox.left + u.bbox.width, y);
  });
}

export function stroked(u, dash, path, line = "--bad") {
  const { ctx } = u;
  ctx.save();
  ctx.strokeStyle = colour(line);
  ctx.lineWidth = 1.3 * devicePixelRatio;
  ctx.setLineDash(dash.map((length) => length * devicePixelRatio));
  ctx.beginPath();
  path(ctx);
  ctx.stroke();
  ctx.restore();
}

/** The legend of the error chart. */
export function errorLegend({ hues, points, estimates }, { champion }) {
  const seen = [...hues].filter(([version]) => points.some((point) => version in point.versions));
  const keys = seen.map(([version, hue]) => [`key line v${hue}`, version === champion ? `v ${version} champion` : `v ${version}`]);
  if (!estimates.length) return keys;
  const hue = `v${hues.get(champion) ?? "x"}`;
  return [...keys, [`key dashed ${hue}`, `v ${champion} expected, before labels`], [`key band ${hue}`, "95 % range"],
    ...(estimates.some((one) => !one.trusted) ? [[`key dotted ${hue}`, "untrusted: labels contradict it"]] : [])];
}
