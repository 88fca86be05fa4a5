// What happened: as the proxy tells it, or else as differences between two looks show it.

import { h } from "./draw.js";
import { events } from "./api.js";
import { percent, time } from "./words.js";

const KEPT = 200;
const list = []; // newest first
let serial = 0;
let newest = 0; // number of the last event that the proxy told
let listening = null;

function add(at, kind, service, message) {
  list.unshift({ key: (serial += 1), at, kind, service, message });
  if (list.length > KEPT) list.pop();
}

/** Follows the proxy's events until `stop`; takes up where it was. `say` is told what matters to all. */
export function listen(say) {
  if (listening) return;
  const control = (listening = new AbortController());
  let live = false;
  events(newest, control.signal, (event) => {
    if (event.kind === "gap" && newest === 0) return;
    if (typeof event.id === "number") newest = Math.max(newest, event.id);
    add(event.at ?? Date.now(), event.kind, event.service, event.message ?? "events were lost");
    if (live && event.kind !== "node") say(`${event.service ?? "Sluice"}: ${event.message}`);
  }).catch(() => {}).finally(() => {
    if (listening === control) listening = null;
  });
  // What was kept comes at once, and is read out to nobody.
  setTimeout(() => (live = true), 1000);
}

export function stop() {
  listening?.abort();
  listening = null;
}

/** Compares two looks. */
export function compare(before, now, say) {
  const old = new Map(before.services.map((service) => [service.name, service]));
  const tell = (kind, service, message, aloud = true) => {
    add(now.now, kind, service, message);
    if (aloud) say(service ? `${service}: ${message}` : message);
  };
  for (const service of now.services) {
    const was = old.get(service.name);
    old.delete(service.name);
    if (!was) {
      tell("configured", service.name, "is new");
      continue;
    }
    changes(was, service, (...what) => tell(...what.slice(0, 1), service.name, ...what.slice(1)));
  }
  for (const name of old.keys()) tell("configured", name, "is gone");
  if (!before.config.stale && now.config.stale) tell("invalid", null, "the configuration is invalid; what ran goes on");
  if (before.config.loaded !== now.config.loaded) tell("configured", null, "another configuration runs");
}

function changes(was, now, tell) {
  const [trialWas, trial] = [was.rollout?.trial, now.rollout?.trial];
  if (!was.rollout && now.rollout) tell("began", `${now.rollout.strategy} rollout of ${now.rollout.to} began`);
  if (trial && trial.step > 0 && (trial.step !== trialWas?.step || trial.share !== trialWas.share)) {
    tell("step", `${now.rollout.to} gets ${percent(trial.share)}, step ${trial.step} of ${trial.steps.length}`);
  }
  if (trial && Boolean(trial.paused) !== Boolean(trialWas?.paused)) tell("pause", trial.paused ? "paused" : "goes on");
  if (trial?.evidence && trialWas?.evidence && trial.evidence.verdict !== trialWas.evidence.verdict) {
    tell("verdict", `the guard says ${trial.evidence.verdict}: ${trial.evidence.reason}`);
  }
  if (was.phase !== now.phase) tell("phase", `${now.phase}${now.reason ? `: ${now.reason}` : ""}`);
  const nodes = new Map(was.nodes.map((node) => [`${node.version} ${node.address}`, node]));
  for (const node of now.nodes) {
    const before = nodes.get(`${node.version} ${node.address}`);
    if (before?.state !== node.state) tell("node", `${node.address} (${node.version}) is ${node.state}: ${node.reason}`, false);
  }
}

export function draw() {
  if (list.length === 0) return h("li", { key: "none", class: "quiet" }, "Nothing has happened yet.");
  return list.map(({ key, at, kind, service, message }) => h("li", { key, class: kind },
    h("time", { datetime: new Date(at).toISOString() }, time(at)), " ", h("span", { class: "kind" }, kind), " ",
    service && h("b", {}, service), " ", h("span", {}, message)));
}
