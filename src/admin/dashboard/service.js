// One service: a line that tells how it is, and below it all that is known.

import { h, table } from "./draw.js";
import { chart } from "./charts.js";
import { draw as drawActions, drawNode } from "./steer.js";
import * as history from "./history.js";
import * as series from "./series.js";
import { count, duration, latency, many, part, percent, rate, time } from "./words.js";

/** How much a service needs to be looked at; 0: not at all. */
export function trouble(service) {
  const trial = service.rollout?.trial;
  if (service.all_down) return 100;
  if (service.phase === "failed") return 90;
  if (trial?.evidence?.verdict === "fail") return 85;
  if (service.halt) return 80;
  if (service.nodes.some((node) => node.state === "ejected")) return 70;
  if (trial) return 50;
  if (service.rollout) return 45;
  if (service.phase !== "settled") return 40;
  if (service.waiting > 0) return 30;
  return service.refused.length > 0 ? 20 : 0;
}

function tone(service) {
  const level = trouble(service);
  return level >= 70 ? "bad" : level >= 20 ? "busy" : "good";
}

/** The colours of versions: the newer one of a rollout has another than the older one. */
function kinds(service) {
  const to = service.rollout?.to ?? service.release;
  const others = service.versions.map(({ version }) => version).filter((version) => version !== to);
  return new Map([[to, 1], ...others.map((version, at) => [version, [0, 2, 3][at % 3]])]);
}

function phase(service) {
  if (service.all_down) return "all nodes down";
  if (service.halt) return service.halt.kind;
  const trial = service.rollout?.trial;
  if (!trial) return service.phase;
  return `${trial.paused ? "paused" : "on trial"}, ${percent(trial.share)}`;
}

function shares(service, colours) {
  const parts = service.versions.filter(({ share }) => share > 0);
  const said = parts.map(({ version, share }) => `${version} ${percent(share)}`).join(", ");
  return h("div", { class: "shares", role: "img", "aria-label": said ? `Shares: ${said}` : "No version serves" },
    parts.map(({ version, share }) => h("span", { key: version, class: `v${colours.get(version)}`, css: { "--share": `${share}%` } }, h("i", {}, h("b", {}, version), ` ${percent(share)}`))),
    parts.length === 0 && h("span", { class: "none" }, "no version serves"));
}

/** All of it. `ui`: `isOpen` and `toggle` of a service, and `who` looks. */
export function draw(service, now, ui) {
  const open = ui.isOpen(service);
  const colours = kinds(service);
  const { rate: requests, errors } = series.total(service.name);
  const id = `service-${encodeURIComponent(service.name)}`;
  return h("article", { key: service.name, class: tone(service), "aria-labelledby": id },
    h("h3", { id }, h("button", { type: "button", class: "toggle", "aria-expanded": String(open), onclick: ui.toggle(service.name) },
      h("span", { class: "name" }, service.name), " ", h("span", { class: "pill" }, phase(service)))),
    h("p", { class: "numbers" },
      h("span", {}, rate(requests)), h("span", { class: errors > 0 ? "warn" : "" }, `${part(errors)} errors`),
      h("span", {}, many(service.nodes.length, "node")), service.waiting > 0 && h("span", { class: "warn" }, `${count(service.waiting)} waiting`)),
    shares(service, colours),
    open && h("div", { class: "inside" }, inside(service, now, colours, ui)));
}

function inside(service, now, colours, ui) {
  return [
    service.reason && h("p", { key: "reason" }, service.reason),
    service.halt && halt(service.halt, now),
    service.rollout && rollout(service.rollout, now),
    drawActions(service, ui.who),
    charts(service, now, colours),
    versions(service, colours),
    nodes(service, now, ui.who),
    service.refused.length > 0 && h("div", { key: "refused" }, h("h4", {}, "Refused versions"),
      h("ul", {}, service.refused.map((one) => h("li", { key: `${one.version} ${one.at}` }, h("b", {}, one.version), `, ${duration(now - one.at)} ago: ${one.reason}`)))),
    history.draw(service, now),
    h("p", { key: "source", class: "quiet" }, `${service.source}, change ${service.change}`),
  ];
}

function halt(halt, now) {
  const end = halt.until ? `, ends in ${duration(halt.until - now)}` : "";
  return h("p", { key: "halt", class: "warn" }, `${halt.kind} for ${duration(now - halt.since)} by ${halt.by}${end}${halt.message ? `; clients are told: ${halt.message}` : ""}`);
}

function rollout(rollout, now) {
  const { trial } = rollout;
  const facts = [`${rollout.ready} of ${rollout.wanted} new nodes serve`, `began ${duration(now - rollout.started)} ago`];
  if (rollout.deadline && !trial) facts.push(`${duration(rollout.deadline - now)} left`);
  return h("div", { key: "rollout", class: "rollout" },
    h("h4", {}, `${rollout.strategy}: ${rollout.from ?? "nothing"} → ${rollout.to}`),
    h("p", { class: "quiet" }, facts.join(" · ")),
    trial && steps(trial, now),
    trial && evidence(trial.evidence, rollout));
}

function left(trial, hold, now) {
  if (trial.paused) return `paused ${duration(now - trial.paused)} ago`;
  if (trial.promoted) return "promoted";
  if (hold === null || hold === undefined) return "until it is promoted";
  const rest = trial.since + hold - now;
  return rest > 0 ? `${duration(rest)} left` : "hold is over; the guard decides";
}

function steps(trial, now) {
  return h("ol", { class: "steps", "aria-label": "Steps" }, trial.steps.map((step, at) => {
    const where = at + 1 < trial.step ? "done" : at + 1 === trial.step ? "now" : "next";
    const hold = step.hold_ms;
    const gone = where === "done" ? 100 : where === "now" && hold ? Math.min(100, ((now - trial.since) / hold) * 100) : 0;
    const said = where === "now" ? left(trial, hold, now) : where === "done" ? "done" : hold ? `for ${duration(hold)}` : "until promoted";
    return h("li", { key: at, class: where, "aria-current": where === "now" ? "step" : null, css: { "--gone": `${gone}%` } },
      h("b", {}, percent(step.share)), " ", h("span", {}, said));
  }));
}

function evidence(evidence, rollout) {
  if (!evidence) return h("p", { class: "quiet" }, "The guard is off, or has seen nothing yet.");
  const row = (name, sample) => ({ key: name, cells: [
    name, count(sample.requests), failures(sample), part(sample.rate), `${part(sample.interval[0])} to ${part(sample.interval[1])}`,
    latency(sample.p50), latency(sample.p95), latency(sample.p99)] });
  const kind = { pass: "good", fail: "bad" }[evidence.verdict] ?? "busy";
  return h("div", { class: "evidence" },
    h("p", {}, "Guard: ", h("strong", { class: `pill ${kind}` }, evidence.verdict), " ", evidence.reason),
    table("The guard's evidence", ["Version", "Requests", "Failures", "Rate", "True rate is in", "p50", "p95", "p99"],
      [row(rollout.to, evidence.new), row(rollout.from ?? "old", evidence.old)]),
    evidence.judges.length > 0 && h("ul", { class: "judges", "aria-label": "Outside judges" }, evidence.judges.map((one) =>
      h("li", { key: one.judge }, one.judge, ": ", h("b", {}, one.verdict), one.reason && `, ${one.reason}`))));
}

function failures(sample) {
  const kinds = Object.entries(sample.kinds).filter(([, count]) => count > 0).map(([kind, number]) => `${kind} ${count(number)}`);
  return kinds.length > 0 ? `${count(sample.failures)} (${kinds.join(", ")})` : count(sample.failures);
}

function charts(service, now, colours) {
  const lines = (value) => service.versions.map(({ version }) => ({
    name: version, kind: colours.get(version),
    points: (series.of(service.name, version)?.points ?? []).map((point) => ({ at: point.at, value: value(point) })) }));
  return h("div", { key: "charts", class: "charts" },
    chart("Requests", now, lines((point) => point.rate), rate),
    chart("Errors", now, lines((point) => point.errors), part),
    chart("Latency, p95", now, lines((point) => point.p95), latency));
}

function versions(service, colours) {
  return h("div", { key: "versions" }, h("h4", {}, "Versions"), table(`Versions of ${service.name}`,
    ["Version", "Share", "Nodes", "Requests", "Errors", "p50", "p95"],
    service.versions.map((one) => {
      const known = series.of(service.name, one.version);
      return { key: one.version, cells: [
        h("span", { class: `key v${colours.get(one.version)}` }, one.version), percent(one.share), `${one.serving} of ${one.nodes} serve`,
        `${rate(known?.rate)} (${count(one.requests)}${copies(one)})`,
        `${part(known?.errors)} (${count(one.failures)}${one.shielded > 0 ? `, ${count(one.shielded)} shielded` : ""})`,
        latency(known?.latency?.p50), latency(known?.latency?.p95)] };
    })));
}

function copies({ shadowed, shadow_differed }) {
  if (!shadowed) return "";
  return ` and ${count(shadowed)} copies${shadow_differed > 0 ? `, ${count(shadow_differed)} answered otherwise` : ""}`;
}

const NODES = 100;

function nodes(service, now, who) {
  const order = { ejected: 0, draining: 1, joining: 2, warming: 3 };
  const sorted = [...service.nodes].sort((a, b) => (order[a.state] ?? 9) - (order[b.state] ?? 9));
  const more = sorted.length - NODES;
  return h("div", { key: "nodes" }, h("h4", {}, "Nodes"), table(`Nodes of ${service.name}`,
    ["Node", "State", "Why", "Last probe", "In flight"],
    sorted.slice(0, NODES).map((node) => ({ key: `${node.version} ${node.address}`, kind: node.state, cells: [
      h("span", {}, h("span", { class: "address" }, node.address), " ", h("span", { class: "quiet" }, node.version)),
      h("span", {}, h("span", { class: `state ${node.state}` }, node.state), ` ${duration(now - node.since)} `, drawNode(service, node, who)),
      h("span", {}, node.reason, node.until && ` (until ${time(node.until)})`, node.holders.length > 0 && holders(node)),
      probe(node.probe, now), `${count(node.in_flight)} (${count(node.requests)}, ${count(node.failures)} failed)`] }))),
  more > 0 && h("p", {}, `and ${many(more, "node")} more: sluice status ${service.name}`));
}

function holders(node) {
  return h("ul", { class: "holders", "aria-label": `What holds ${node.address} open` }, node.holders.map((work, at) =>
    h("li", { key: at }, `${work.kind} ${work.method} ${work.path} from ${work.client}, ${duration(work.age_ms)}`)));
}

function probe(probe, now) {
  if (!probe) return "none yet";
  const result = probe.error ?? (probe.status ? String(probe.status) : "connected");
  return h("span", { class: probe.passed ? "" : "warn" },
    `${probe.passed ? "passed" : "failed"}, ${duration(now - probe.at)} ago: ${probe.target} → ${result} in ${probe.took_ms} ms`,
    probe.body && h("code", { class: "body" }, probe.body));
}
