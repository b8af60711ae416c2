// Building and replacing elements; text is always text, never markup.

export const find = (id) => document.getElementById(id);

/** An element with attributes (null ones left out) and children; text and numbers become text nodes. */
export function make(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value !== null && value !== undefined && value !== false) element.setAttribute(name, value === true ? "" : value);
  }
  element.append(...children.filter((child) => child !== null && child !== undefined));
  return element;
}

export const pill = (word, tone) => make("span", { class: `pill ${tone}` }, word);

/** A table: `head` are titles, `rows` lists of cells; a cell is text, a node, or {text, class}. */
export function table(head, rows, numeric = []) {
  const title = (text, index) => make("th", { scope: "col", class: numeric.includes(index) ? "number" : null }, text);
  const cell = (value, index) => {
    const tag = index === 0 ? "th" : "td";
    const name = [numeric.includes(index) ? "number" : "", value?.class ?? ""].join(" ").trim();
    return make(tag, { scope: index === 0 ? "row" : null, class: name || null }, value?.text ?? value);
  };
  return make("table", {},
    make("thead", {}, make("tr", {}, ...head.map(title))),
    make("tbody", {}, ...rows.map((row) => make("tr", {}, ...row.map(cell)))));
}

const drawn = new WeakMap();

/**
 * Replace an element's content, unless what it shows is the same as last time (keeps selection); what has a
 * `data-key` and the focus has it again afterwards.
 */
export function show(element, shown, build) {
  const key = JSON.stringify(shown);
  if (drawn.get(element) === key) return;
  drawn.set(element, key);
  const focused = element.contains(document.activeElement) ? document.activeElement.dataset.key : undefined;
  element.replaceChildren(...[build(shown)].flat());
  if (focused !== undefined) element.querySelector(`[data-key="${CSS.escape(focused)}"]`)?.focus();
}

/** A colour of the style sheet. */
export const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();

/** A canvas of the size of its box, sharp on dense screens; returns its 2D context in CSS pixels. */
export function prepared(canvas, width, height) {
  const scale = window.devicePixelRatio || 1;
  canvas.width = Math.round(width * scale);
  canvas.height = Math.round(height * scale);
  canvas.style.width = `${width}px`;
  canvas.style.height = `${height}px`;
  const context = canvas.getContext("2d");
  context.setTransform(scale, 0, 0, scale, 0, 0);
  context.clearRect(0, 0, width, height);
  return context;
}
