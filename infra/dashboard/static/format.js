// Numbers and times as people read them here: UTC, ISO dates, 24 hours.

const whole = new Intl.NumberFormat("en", { maximumFractionDigits: 0 });

export const iso = (ms) => new Date(ms).toISOString();
export const day = (ms) => iso(ms).slice(0, 10);
export const clock = (ms) => iso(ms).slice(11, 19);
export const minute = (ms) => iso(ms).slice(0, 16).replace("T", " ");
export const brief = (ms) => minute(ms).slice(5);
export const stamp = (ms) => iso(ms).slice(0, 19).replace("T", " ");

export const count = (n) => (n === null || n === undefined ? "–" : whole.format(n));
export const fixed = (x, digits = 3) => (x === null || x === undefined ? "–" : x.toFixed(digits));
/** A loss in whatever unit the label has: four digits that count. */
export const loss = (x) => (x === null || x === undefined ? "–" : String(+x.toPrecision(4)));
export const percent = (x) => (x === null || x === undefined ? "–" : `${(100 * x).toFixed(1)} %`);
export const signed = (x) => (x === null || x === undefined ? "–" : (x < 0 ? "−" : "+") + Math.abs(x).toFixed(3));

/** A rate in the unit that gives it at least one digit before the point. */
export function rate(perSecond) {
  if (perSecond === null || perSecond === undefined) return ["–", ""];
  const [value, unit] = perSecond >= 1 ? [perSecond, "rows/s"]
    : perSecond * 60 >= 1 ? [perSecond * 60, "rows/min"] : [perSecond * 3600, "rows/h"];
  return [value >= 100 ? whole.format(value) : value.toFixed(1), unit];
}

/** "4 min", "2 d 4 h": two units at most. */
export function duration(ms) {
  const seconds = Math.max(0, Math.round(ms / 1000));
  const units = [[86400, "d"], [3600, "h"], [60, "min"], [1, "s"]];
  const first = units.findIndex(([size]) => seconds >= size);
  if (first < 0) return "0 s";
  const [size, name] = units[first];
  const rest = first + 1 < units.length ? Math.floor((seconds % size) / units[first + 1][0]) : 0;
  return `${Math.floor(seconds / size)} ${name}` + (rest ? ` ${rest} ${units[first + 1][1]}` : "");
}

/** A number with as few digits as tell it from its neighbours. */
export function short(x) {
  const size = Math.abs(x);
  return size >= 1000 ? whole.format(x) : size >= 10 ? x.toFixed(0) : size >= 1 ? x.toFixed(1) : x.toFixed(2);
}

/** A difference of losses: signed, two digits that count, at least three after the point. */
export function gain(x) {
  if (x === null || x === undefined) return "–";
  const digits = x === 0 ? 3 : Math.min(8, Math.max(3, 1 - Math.floor(Math.log10(Math.abs(x)))));
  return (x < 0 ? "−" : "+") + Math.abs(x).toFixed(Math.abs(x) >= 10 ? 1 : digits);
}

/** Odds against one; the server sends no more than a million. */
export const odds = (x) => (x === null || x === undefined ? "–" : x >= 1e6 ? "over 1,000,000" : x < 10 ? x.toFixed(1) : whole.format(x));

/** How a version is called in a sentence: v8, but blue. */
export const named = (version) => (/^\d/.test(version) ? `v${version}` : version);

export const milliseconds = (x) => (x === null || x === undefined ? "–" : `${+x.toPrecision(3)} ms`);
