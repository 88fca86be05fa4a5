// Numbers and times, as people read them.

/** Milliseconds, in at most two units. */
export function duration(ms) {
  const seconds = Math.max(0, Math.round(ms / 1000));
  const parts = [[Math.floor(seconds / 86400), "d"], [Math.floor(seconds / 3600) % 24, "h"], [Math.floor(seconds / 60) % 60, "m"], [seconds % 60, "s"]];
  const first = parts.findIndex(([count]) => count > 0);
  if (first < 0) return "0s";
  return parts.slice(first, first + 2).filter(([count]) => count > 0).map(([count, unit]) => count + unit).join(" ");
}

export function percent(value) {
  if (value === null || value === undefined) return "–";
  const digits = value !== 0 && Math.abs(value) < 10 ? (Math.abs(value) < 1 ? 2 : 1) : 0;
  return `${Number(value.toFixed(digits))}%`;
}

/** A part of one. */
export function part(value) {
  return value === null || value === undefined ? "–" : percent(value * 100);
}

export function count(value) {
  return Math.round(value).toLocaleString("en-GB");
}

export function rate(value) {
  return value === null || value === undefined ? "–" : `${value < 10 ? Number(value.toFixed(1)) : count(value)}/s`;
}

export function latency(ms) {
  if (ms === null || ms === undefined) return "–";
  if (ms >= 1000) return `${Number((ms / 1000).toFixed(2))} s`;
  return `${Number(ms.toFixed(ms < 10 ? 2 : 0))} ms`;
}

export function time(ms) {
  return new Date(ms).toLocaleTimeString("en-GB");
}

export function many(number, one, more = `${one}s`) {
  return `${count(number)} ${number === 1 ? one : more}`;
}
