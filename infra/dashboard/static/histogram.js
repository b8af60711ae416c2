// Reference against the newest window: a share for each bin, missing values apart.

import { colour, make, prepared } from "./dom.js";
import { fixed, percent, short } from "./format.js";

const LEFT = 40, BOTTOM = 20, TOP = 6, GAP = 10;

/** Names of the bins, the one for missing values last. */
function names(reference) {
  const { edges, categories, shares } = reference;
  if (categories.length) return [...categories, "missing"].slice(0, shares.length);
  const between = shares.slice(0, -1).map((_, n) =>
    n === 0 ? `< ${short(edges[0] ?? 0)}` : n >= edges.length ? `≥ ${short(edges.at(-1))}` : `${short(edges[n - 1])} – ${short(edges[n])}`);
  return [...between, "missing"];
}

export class Histogram {
  constructor(host) {
    this.host = host;
    this.canvas = make("canvas", { role: "img" });
    host.append(this.canvas);
  }

  draw(column, reference, current, when = "the newest window") {
    const { clientWidth: width, clientHeight: height } = this.host;
    if (!width || !reference || !current) return;
    const context = prepared(this.canvas, width, height);
    const bins = reference.shares.length;
    const most = 1.08 * Math.max(...reference.shares, ...current.shares, 0.001);
    const slot = (width - LEFT - GAP - 6) / bins;
    const left = (n) => LEFT + n * slot + (n === bins - 1 ? GAP : 0);
    const y = (share) => TOP + (1 - share / most) * (height - TOP - BOTTOM);
    context.font = '11px Inter, "Segoe UI", Roboto, Arial, sans-serif';
    this.grid(context, most, y, width);
    context.fillStyle = colour("--reference");
    reference.shares.forEach((share, n) => context.fillRect(left(n) + 0.5, y(share), Math.max(slot - 1, 1), y(0) - y(share)));
    this.outline(context, current.shares, left, slot, y);
    this.labels(context, reference, left, slot, height);
    this.canvas.setAttribute("aria-label",
      `${column}: shares of ${bins} bins, reference of v ${reference.version} against ${when}; severity ${fixed(current.severity, 2)} (${current.channel})`);
  }

  grid(context, most, y, width) {
    const step = [0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5].find((one) => most / one <= 3.5) ?? 0.5;
    context.textAlign = "right";
    context.textBaseline = "middle";
    for (let share = 0; share <= most; share += step) {
      const at = Math.round(y(share)) + 0.5;
      context.fillStyle = colour("--line");
      context.fillRect(LEFT, at - 0.5, width - LEFT - 6, 1);
      context.fillStyle = colour("--muted");
      context.fillText(`${+(100 * share).toFixed(1)} %`, LEFT - 6, at);
    }
  }

  outline(context, shares, left, slot, y) {
    const last = shares.length - 1;
    context.strokeStyle = colour("--accent");
    context.lineWidth = 1.8;
    context.beginPath();
    shares.forEach((share, n) => {
      if (n === 0 || n === last) context.moveTo(left(n), y(share));
      context.lineTo(left(n), y(share));
      context.lineTo(left(n) + slot, y(share));
    });
    context.stroke();
  }

  labels(context, reference, left, slot, height) {
    const { edges, categories, shares } = reference;
    const bottom = height - BOTTOM + 6;
    context.fillStyle = colour("--muted");
    context.textBaseline = "top";
    context.textAlign = "center";
    if (categories.length) {
      categories.slice(0, shares.length - 1).forEach((name, n) => {
        const fits = Math.max(1, Math.floor(slot / 6.5));
        context.fillText(name.length > fits ? `${name.slice(0, Math.max(1, fits - 1))}…` : name, left(n) + slot / 2, bottom);
      });
    } else {
      for (const part of [0.125, 0.375, 0.625, 0.875]) {
        const n = Math.round(part * (edges.length - 1));
        if (edges.length) context.fillText(short(edges[n]), left(n + 1), bottom);
      }
    }
    context.textAlign = "right";
    context.fillText("null", left(shares.length - 1) + slot + 3, bottom);
  }

  rows(reference, current) {
    if (!reference || !current) return [];
    return names(reference).map((name, n) => [name, percent(reference.shares[n]), percent(current.shares[n])]);
  }
}
