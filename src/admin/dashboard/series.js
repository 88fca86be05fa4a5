// What happens in time: differences between looks.

const POINTS = 120;
const WINDOW = 10_000; // ms that a latency is told of
let looked = 0; // when the last status was made
const seen = new Map(); // service → Map(version → {at, requests, failures, rate, errors, points, marks, latency})

/** Notes a status. Only services that are `watched` keep their past: thousands are not looked at. */
export function note(status, watched) {
  const names = new Set();
  for (const service of status.services) {
    names.add(service.name);
    let versions = seen.get(service.name);
    const known = versions !== undefined;
    if (!known) seen.set(service.name, (versions = new Map()));
    for (const now of service.versions) {
      let then = versions.get(now.version);
      if (!then) {
        // What a new version of a known service has counted, it has counted since the last look.
        then = { at: known ? looked : status.now, requests: known ? 0 : now.requests, failures: known ? 0 : now.failures, rate: null, errors: null, points: [], marks: [], latency: null };
        versions.set(now.version, then);
        if (!known) continue;
      }
      const seconds = (status.now - then.at) / 1000;
      if (seconds < 0.2) continue;
      const requests = Math.max(0, now.requests - then.requests);
      const failures = Math.max(0, now.failures - then.failures);
      then.rate = requests / seconds;
      then.errors = requests + failures > 0 ? Math.min(1, failures / Math.max(requests, failures)) : null;
      Object.assign(then, { at: status.now, requests: now.requests, failures: now.failures });
      if (watched.has(service.name)) {
        then.points.push({ at: status.now, rate: then.rate, errors: then.errors, p95: then.latency?.p95 ?? null });
        if (then.points.length > POINTS) then.points.shift();
      } else if (then.points.length > 0) {
        then.points = [];
        then.marks = [];
        then.latency = null;
      }
    }
    for (const version of versions.keys()) {
      if (!service.versions.some((now) => now.version === version)) versions.delete(version);
    }
  }
  for (const name of seen.keys()) if (!names.has(name)) seen.delete(name);
  looked = status.now;
}

let before = null; // the proxy's load, and what it came to

/** What the whole proxy does: `rate` and `errors` a second, after two looks. */
export function proxy({ now, load }) {
  if (before && now - before.now >= 200) {
    const more = (name) => (Math.max(0, load[name] - before.load[name]) * 1000) / (now - before.now);
    before = { now, load, rate: more("requests"), errors: more("errors") };
  }
  before ??= { now, load, rate: null, errors: null };
  return before;
}

export function of(service, version) {
  return seen.get(service)?.get(version);
}

/** Requests a second, and the part of them that failed, over all versions. */
export function total(service) {
  let rate = null;
  let failed = 0;
  for (const one of seen.get(service)?.values() ?? []) {
    if (one.rate === null) continue;
    rate = (rate ?? 0) + one.rate;
    failed += one.rate * (one.errors ?? 0);
  }
  return { rate, errors: rate ? failed / rate : null };
}

const LINE = /^sluice_node_response_seconds_bucket\{(.*)\} (\S+)/;
const LABEL = /(\w+)="((?:[^"\\]|\\.)*)"/g;

/** Takes the latencies out of what `/metrics` tells. */
export function noteMetrics(text, now, watched) {
  const found = new Map(); // service → version → [[edge in ms, count]]
  for (const line of text.split("\n")) {
    const match = LINE.exec(line);
    if (!match) continue;
    const labels = {};
    for (const [, name, value] of match[1].matchAll(LABEL)) {
      labels[name] = value.replace(/\\(.)/g, (_, sign) => (sign === "n" ? "\n" : sign));
    }
    if (!watched.has(labels.service)) continue;
    const versions = found.get(labels.service) ?? new Map();
    found.set(labels.service, versions);
    const buckets = versions.get(labels.version) ?? [];
    versions.set(labels.version, buckets);
    buckets.push([labels.le === "+Inf" ? Infinity : Number(labels.le) * 1000, Number(match[2])]);
  }
  for (const [service, versions] of found) {
    for (const [version, buckets] of versions) {
      const one = of(service, version);
      if (!one) continue;
      one.marks.push({ at: now, buckets: buckets.sort((a, b) => a[0] - b[0]) });
      while (one.marks.length > 2 && one.marks[1].at <= now - WINDOW) one.marks.shift();
      one.latency = between(one.marks[0].buckets, buckets);
    }
  }
}

function between(then, now) {
  const counts = now.map(([edge, count], at) => [edge, Math.max(0, count - (then[at]?.[1] ?? 0))]);
  const all = counts.at(-1)?.[1] ?? 0;
  if (all === 0) return null;
  const quantile = (part) => {
    const wanted = all * part;
    let [low, below] = [0, 0];
    for (const [edge, count] of counts) {
      if (count >= wanted) return edge === Infinity ? low : low + ((edge - low) * (wanted - below)) / Math.max(1, count - below);
      [low, below] = [edge, count];
    }
    return low;
  };
  return { p50: quantile(0.5), p95: quantile(0.95) };
}
