// How a service's last rollouts ended. Asked for when a service is open, and again when something of it has ended.

import { get } from "./api.js";
import { h, table } from "./draw.js";
import { duration, percent } from "./words.js";

const SHOWN = 5; // rollouts
const KEPT = 100; // services
const known = new Map(); // service → {mark, list}
let asking = false;

function list({ name, change, phase, refused }) {
  const mark = `${change} ${phase} ${refused.length}`;
  const kept = known.get(name);
  if (kept?.mark !== mark && !asking) {
    asking = true;
    const keep = (entries) => {
      known.delete(name);
      known.set(name, { mark, list: entries });
      if (known.size > KEPT) known.delete(known.keys().next().value);
    };
    get(`/v1/services/${encodeURIComponent(name)}/history`)
      .then((entries) => keep(entries.slice(0, SHOWN)))
      // The next thing that ends is another occasion.
      .catch(() => keep(kept?.list ?? []))
      .finally(() => (asking = false));
  }
  return kept?.list ?? [];
}

/** A table, if there was a rollout. */
export function draw(service, now) {
  const entries = list(service);
  return entries.length > 0 && h("div", { key: "history" }, h("h4", {}, "Last rollouts"), table(`Last rollouts of ${service.name}`,
    ["Rollout", "Result", "Ended", "Shares", "Steered", "Why"],
    entries.map((one) => ({ key: `${one.change} ${one.finished}`, cells: [
      `${one.from ?? "nothing"} → ${one.to}`, one.outcome, `${duration(now - one.finished)} ago`,
      one.steps.map(({ share }) => percent(share)).join(", ") || one.strategy,
      one.steered.map(({ steering, by }) => `${steering} by ${by}`).join(", ") || "by nobody", one.reason] }))));
}
