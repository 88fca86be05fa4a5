// The page: looks once a second while somebody looks at it, and draws what it saw.

import { Refused, get, keepToken, text, token } from "./api.js";
import { draw, h } from "./draw.js";
import * as log from "./log.js";
import * as series from "./series.js";
import { draw as drawService, trouble } from "./service.js";
import { count, duration, many, rate } from "./words.js";

const EVERY = 1000; // ms
const SHOWN = 200; // services
const OPEN = 3; // this many services are open at first
const MEASURED = 300; // services; of more, /metrics would be too much to read each second
const SOON = 21 * 86_400_000; // ms before the end of a certificate

const at = (id) => document.getElementById(id);
const open = new Map(); // service → what somebody chose
const opened = new Set(); // those that opened by themselves
let now = null; // the newest status
let received = 0; // when it came
let me = null; // who asks, and his role
let can = new Set(); // paths that the API has
let order = [];
let said = 0;
let looking = false;
let steered = null; // the service that was steered last, for a while
let timer = 0;

function say(message) {
  // One thing at a time; what comes in quick succession is in the log.
  if (performance.now() - said < 2000) return;
  said = performance.now();
  at("live").textContent = message;
}

async function meet() {
  me = await get("/v1/whoami");
  can = new Set(Object.keys((await get("/v1/openapi.json")).paths));
}

async function look() {
  if (looking || document.hidden) return;
  looking = true;
  clearTimeout(timer);
  const began = performance.now();
  let next = EVERY;
  try {
    if (!me) await meet();
    const before = now;
    now = await get("/v1/status");
    received = Date.now();
    const watched = new Set(order.slice(0, SHOWN).map(({ name }) => name));
    if (can.has("/metrics") && now.services.length <= MEASURED) series.noteMetrics(await text("/metrics"), now.now, watched);
    series.note(now, watched);
    if (can.has("/v1/events")) log.listen(say);
    else if (before) log.compare(before, now, say);
    present();
    // A big answer is asked for less often, so that most of the time is left for others.
    next = Math.max(EVERY, (performance.now() - began) * 5);
  } catch (error) {
    lost(error);
  }
  looking = false;
  if (!document.hidden) timer = setTimeout(look, next);
}

function lost(error) {
  const gone = at("gone");
  me = null;
  log.stop();
  const refused = error instanceof Refused;
  const message = refused && (error.status === 401 || error.status === 403)
    ? `The proxy does not let you in: ${error.message}.`
    : refused ? `The proxy answers with an error: ${error.message}.`
      : "The proxy cannot be reached. It stopped, or the way to it is cut.";
  const when = now ? ` What is below is as it was at ${new Date(received).toLocaleTimeString("en-GB")}.` : "";
  if (gone.dataset.message !== message) {
    gone.dataset.message = message;
    gone.textContent = message + when;
  }
  gone.hidden = false;
  document.body.classList.add("lost");
  drawVisitor();
  if (refused && error.status === 401 && !at("login").open && !at("login").dataset.closed) login();
}

function present() {
  const gone = at("gone");
  if (!gone.hidden) {
    gone.hidden = true;
    delete gone.dataset.message;
    document.body.classList.remove("lost");
    say("The proxy is back.");
  }
  const all = series.proxy(now);
  const shown = [`${now.sluice}, pid ${now.pid}`, `up ${duration(now.now - now.started)}`, `generation ${count(now.generation)}`,
    many(now.load.connections, "connection"), rate(all.rate), `${rate(all.errors)} answered 5xx`];
  if (!now.ready) shown.push("not ready");
  draw(at("proxy"), [shown.join(" · ")]);
  drawVisitor();
  draw(at("troubles"), troubles());
  draw(at("certificates"), certificates());
  draw(at("log"), [log.draw()]);
  drawServices();
}

function drawVisitor() {
  const who = me ? [h("span", { key: "who" }, `${me.name} (${me.role})`)] : [];
  const button = token()
    ? h("button", { key: "out", type: "button", onclick: forget }, "Forget token")
    : me?.role === "operator" ? null : h("button", { key: "in", type: "button", onclick: login }, "Enter token");
  draw(at("visitor"), [who, button]);
}

function problem(one, key) {
  const place = one.line > 0 ? `${one.path}:${one.line}:${one.column}` : one.path;
  const caret = " ".repeat(Math.max(0, one.column - 1)) + "^".repeat(Math.max(1, one.width));
  return h("li", { key }, h("p", {}, h("b", {}, place), `: ${one.message}`),
    one.text && h("pre", { tabindex: "0", "aria-label": `Line ${one.line}` }, `${one.text}\n${caret}`),
    one.hint && h("p", { class: "quiet" }, one.hint));
}

function troubles() {
  const list = [];
  const { config, certificates } = now;
  if (config.problems.length > 0) {
    const title = config.stale ? "The configuration is invalid; what ran before goes on" : "The configuration has warnings";
    list.push(h("div", { key: "config", class: `problem ${config.stale ? "bad" : "busy"}` }, h("h2", {}, title),
      h("ul", {}, config.problems.slice(0, 20).map(problem)),
      config.problems.length > 20 && h("p", {}, `and ${count(config.problems.length - 20)} more: sluice check`)));
  }
  if (now.journal) list.push(h("p", { key: "journal", class: "problem bad" }, `The journal is not on disk: ${now.journal}`));
  for (const listener of now.listeners.filter(({ error }) => error)) {
    list.push(h("p", { key: `listener ${listener.name}`, class: "problem bad" }, `Listener ${listener.name} (${listener.address}): ${listener.error}`));
  }
  if (certificates.problems.length > 0) {
    list.push(h("div", { key: "files", class: "problem bad" }, h("h2", {}, "Certificates that cannot be used"), h("ul", {}, certificates.problems.map(problem))));
  }
  return list;
}

function certificates() {
  const soon = now.certificates.list.filter((one) => one.not_after - now.now < SOON).sort((a, b) => a.not_after - b.not_after);
  if (soon.length === 0) return [];
  return [h("h2", { key: "title" }, "Certificates that end soon"), h("ul", { key: "list" }, soon.map((one) => {
    const rest = one.not_after - now.now;
    return h("li", { key: one.file, class: "warn" }, h("b", {}, one.names.join(", ")), rest > 0 ? ` ends in ${duration(rest)}: ` : ` ended ${duration(-rest)} ago: `, one.file);
  }))];
}

/** Those that need a look come first. While somebody is at the list, nothing moves under his hands. */
function sort() {
  const filter = at("filter").value.trim().toLowerCase();
  const found = filter ? now.services.filter(({ name }) => name.toLowerCase().includes(filter)) : [...now.services];
  const held = at("services").matches(":focus-within, :hover");
  const place = held ? new Map(order.map(({ name }, index) => [name, index])) : new Map();
  const levels = new Map(found.map((service) => [service.name, trouble(service)]));
  found.sort((a, b) => {
    const [first, second] = [place.get(a.name), place.get(b.name)];
    if (first !== undefined && second !== undefined) return first - second;
    return levels.get(b.name) - levels.get(a.name) || (a.name < b.name ? -1 : 1);
  });
  order = found;
}

const ui = {
  isOpen({ name }) {
    return open.get(name) ?? (now.services.length <= OPEN || order.length <= OPEN || opened.has(name));
  },
  toggle(name) {
    return (event) => {
      open.set(name, event.currentTarget.getAttribute("aria-expanded") !== "true");
      drawServices();
    };
  },
  who: {
    get operator() {
      return me?.role === "operator";
    },
    has: (path) => can.has(path),
    newest: (name) => get(`/v1/services/${encodeURIComponent(name)}`).catch(() => null),
    done(service, { label }) {
      say(`${label}: done.`);
      steered = { name: service.name, until: performance.now() + 5000 };
      // What came of it is shown at once.
      now.services = now.services.map((one) => (one.name === service.name ? service : one));
      drawServices();
      look();
    },
  },
};

/** A button goes with what it was for: whoever pressed it by keyboard goes on from its service. */
function keepFocus() {
  if (!steered) return;
  if (performance.now() > steered.until) steered = null;
  else if (document.activeElement === document.body) document.getElementById(`service-${encodeURIComponent(steered.name)}`)?.querySelector("button").focus();
}

/** What needs a look opens by itself, and stays open when it has ended: somebody may be reading. */
function openFirst() {
  for (const service of order.slice(0, OPEN)) if (trouble(service) >= 45) opened.add(service.name);
  for (const name of opened) if (opened.size > 2 * OPEN) opened.delete(name);
}

function drawServices() {
  sort();
  openFirst();
  const all = now.services.length;
  const found = order.length;
  at("count").textContent = found > SHOWN
    ? `The first ${count(SHOWN)} of ${many(found, "service")}; filter to see others.`
    : found < all ? `${count(found)} of ${many(all, "service")}` : many(all, "service");
  draw(at("services"), order.slice(0, SHOWN).map((service) => drawService(service, now.now, ui)));
  keepFocus();
}

function login() {
  const dialog = at("login");
  const input = at("token");
  input.value = "";
  at("login-error").textContent = "";
  at("login-no").onclick = () => dialog.close();
  dialog.onclose = () => (dialog.dataset.closed = "true");
  const use = async () => {
    keepToken(input.value.trim());
    try {
      await meet();
      dialog.close();
      look();
    } catch (error) {
      if (error instanceof Refused) keepToken(null);
      at("login-error").textContent = error.message;
    }
  };
  at("login-yes").onclick = use;
  input.onkeydown = (event) => {
    if (event.key === "Enter") use();
  };
  dialog.showModal();
}

function forget() {
  keepToken(null);
  // Nothing of what the token showed stays on the screen.
  location.reload();
}

document.addEventListener("visibilitychange", () => {
  clearTimeout(timer);
  if (document.hidden) log.stop();
  else look();
});
let waiting = 0;
at("filter").addEventListener("input", () => {
  clearTimeout(waiting);
  waiting = setTimeout(() => now && drawServices(), 100);
});
look();
