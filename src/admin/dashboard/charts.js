// Small charts of lines. They are for eyes; the newest numbers stand beside them as text.

import { h } from "./draw.js";
import { duration } from "./words.js";

const [WIDTH, HEIGHT] = [240, 56];
const [LEAST, MOST] = [20_000, 120_000]; // ms that a chart spans: what is known of, within these

/** `lines`: [{name, kind, points: [{at, value}]}], `kind` is the number of its colour. */
export function chart(title, now, lines, words) {
  const known = lines.flatMap(({ points }) => points).filter(({ value }) => value !== null && value !== undefined);
  const most = known.length > 0 ? Math.max(...known.map(({ value }) => value)) : null;
  const span = Math.min(MOST, Math.max(LEAST, ...known.map(({ at }) => now - at)));
  const top = most > 0 ? most * 1.1 : 1;
  const newest = lines.map(({ name, points }) => `${name} ${words(points.at(-1)?.value)}`).join(", ");
  return h("figure", { key: title },
    h("figcaption", {}, h("span", {}, title), h("span", { class: "quiet" }, `max ${words(most)} in ${duration(span)}`)),
    h("svg", { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, preserveAspectRatio: "none", role: "img", "aria-label": `${title}, last ${duration(span)}: ${newest}` },
      h("path", { class: "axis", d: `M0 ${HEIGHT - 0.5}H${WIDTH}` }),
      lines.map(({ name, kind, points }) => h("path", { key: name, class: `line v${kind}`, d: path(points, now, span, top) }))));
}

function path(points, now, span, top) {
  let drawn = "";
  let on = false;
  for (const { at, value } of points) {
    const x = WIDTH - ((now - at) / span) * WIDTH;
    if (value === null || value === undefined || x < 0) {
      on = false;
      continue;
    }
    const y = HEIGHT - 1 - (value / top) * (HEIGHT - 3);
    // A run begins with a dot, because it may be all there is of it.
    drawn += `${on ? "L" : "M"}${x.toFixed(1)} ${y.toFixed(1)}${on ? "" : "h1"}`;
    on = true;
  }
  return drawn || "M0 0";
}
