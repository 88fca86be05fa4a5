// What the verbs do, as buttons for an operator and as commands to type for everybody else. Nothing is done without a second question.

import { h } from "./draw.js";
import { Refused, post } from "./api.js";

/** How a rollout can be steered now. */
function rollouts({ rollout, refused, release }) {
  const list = [];
  if (rollout?.trial && rollout.trial.step > 0) {
    list.push({ verb: "promote", label: "Promote", says: `The hold of this step of ${rollout.to} ends now.` });
    list.push({ verb: "promote", flags: " --full", query: "full=true", label: "Promote fully", says: `${rollout.to} goes through all further steps without a hold.` });
  }
  if (rollout?.trial) {
    list.push(rollout.trial.paused
      ? { verb: "resume", label: "Resume", says: `The rollout of ${rollout.to} goes on.` }
      : { verb: "pause", label: "Pause", says: `The rollout of ${rollout.to} stays where it is; the guard goes on judging.` });
  }
  if (rollout?.from) {
    list.push({ verb: "abort", label: "Abort", danger: true, says: `All traffic goes back to ${rollout.from} at once, and ${rollout.to} is refused.` });
  }
  if (refused.some(({ version }) => version === release)) list.push({ verb: "retry", label: "Retry", says: `${release} is tried again.` });
  return list;
}

/** How its traffic can be stopped, or let go. */
function halts({ halt, name }) {
  if (halt?.kind === "hold") return [{ verb: "release", label: "Release", says: `The requests that wait for ${name} go on.` }];
  if (halt?.kind === "maintenance") {
    return [{ verb: "maintenance", flags: " off", query: "undo=true", label: "End maintenance", says: `${name} answers again.` }];
  }
  return [
    { verb: "hold", label: "Hold", danger: true, says: "New requests wait in a bounded queue, and go on by themselves after this time. Those under way are not touched.",
      field: { name: "for", label: "How long at most", value: "30s", flag: "--for" } },
    { verb: "maintenance", flags: " on", label: "Maintenance", danger: true, says: "New requests are answered 503, until somebody ends it. Those under way are not touched.",
      field: { name: "message", label: "What clients are told (may be empty)", value: "", flag: "--message" } },
  ];
}

const quoted = (word) => (/^[\w.@%+/:-]+$/.test(word) ? word : `'${word.replaceAll("'", "'\\''")}'`);

function command(service, action, value = "") {
  const node = action.node ? ` ${quoted(action.node)}` : "";
  const given = value ? ` ${action.field.flag} ${quoted(value)}` : "";
  return `sluice ${action.verb} ${quoted(service.name)}${node}${action.flags ?? ""}${given}`;
}

function path(service, action, value = "") {
  const [name, verb] = [encodeURIComponent(service.name), action.verb];
  const query = [action.query, value && `${action.field.name}=${encodeURIComponent(value)}`].filter(Boolean).join("&");
  const node = action.node ? `nodes/${encodeURIComponent(action.node)}/` : "";
  return `/v1/services/${name}/${node}${verb}${query && `?${query}`}`;
}

/** `who`: whether the visitor is an `operator`, what the API `has`, how a service is `newest`, and what is called when it is `done`. */
export function draw(service, who) {
  const steer = rollouts(service);
  const stop = halts(service).filter(({ verb }) => who.has(`/v1/services/{service}/${verb}`));
  if (who.operator) {
    const group = (key, name, list) => list.length > 0 && h("div", { key, class: "buttons", role: "group", "aria-label": `${name} ${service.name}` }, list.map((action) =>
      h("button", { key: action.label, type: "button", class: action.danger && key === "steer" ? "danger" : "", onclick: () => ask(service, action, who) }, action.label)));
    return h("div", { key: "actions", class: "actions" }, group("steer", "Steer", steer), group("stop", "Stop or let go the traffic of", stop));
  }
  const list = service.halt ? [...steer, ...stop] : steer;
  return list.length > 0 && h("div", { key: "commands", class: "commands" }, h("h4", {}, "To steer it, type"),
    h("ul", {}, list.map((action) => h("li", { key: action.label }, h("code", {}, command(service, action))))));
}

/** A button that takes a node out, or puts it back. */
export function drawNode(service, node, who) {
  if (!who.operator) return null;
  const out = node.reason === "taken out by an operator";
  if (!out && node.state === "draining" || !out && node.state === "drained") return null;
  const action = out
    ? { verb: "drain", node: node.address, flags: " --undo", query: "undo=true", label: "Put back", says: `${node.address} gets traffic again as soon as its probes pass.`, stream: true }
    : { verb: "drain", node: node.address, label: "Drain", danger: true, says: `${node.address} gets no new requests, and may be stopped when it holds no work.`, stream: true };
  return h("button", { type: "button", class: "small", "aria-label": `${action.label} ${node.address}`, onclick: () => ask(service, action, who) }, action.label);
}

const at = (id) => document.getElementById(id);

function ask(service, action, who) {
  const [dialog, yes, input, error] = [at("confirm"), at("confirm-yes"), at("confirm-input"), at("confirm-error")];
  const value = () => (action.field ? input.value.trim() : "");
  const show = () => (at("confirm-command").textContent = command(service, action, value()));
  at("confirm-title").textContent = `${action.label} ${action.node ?? service.name}?`;
  at("confirm-text").textContent = action.says;
  at("confirm-field").hidden = !action.field;
  at("confirm-label").textContent = action.field?.label ?? "";
  input.value = action.field?.value ?? "";
  input.oninput = show;
  input.onkeydown = (event) => event.key === "Enter" && !yes.disabled && yes.click();
  show();
  error.textContent = "";
  yes.textContent = action.label;
  yes.disabled = false;
  yes.classList.toggle("danger", action.danger === true);
  at("confirm-no").onclick = () => dialog.close();
  yes.onclick = async () => {
    yes.disabled = true;
    try {
      const answer = await post(path(service, action, value()), service.tag, action.stream);
      dialog.close();
      who.done(answer ?? service, action);
    } catch (fault) {
      error.textContent = `It was not done: ${fault.message}`;
      yes.disabled = false;
      // Something was decided since: it is asked again about what is true now.
      if (fault instanceof Refused && fault.status === 412) {
        service = await who.newest(service.name);
        yes.disabled = !service;
        error.textContent = service
          ? `It was not done, because something was decided meanwhile. Now: ${service.phase}${service.reason ? `, ${service.reason}` : ""}. Press again if you still want it.`
          : "It was not done: the service is gone.";
      }
    }
  };
  dialog.showModal();
}
