// The verbs that steer: buttons for an operator, commands to type for everybody else. Nothing is done without a second question.

import { h } from "./draw.js";
import { Refused, post } from "./api.js";

/** What can be done with a service now. */
function actions(service) {
  const { rollout } = service;
  const list = [];
  if (rollout?.trial && rollout.trial.step > 0) {
    list.push({ verb: "promote", label: "Promote", says: `The hold of this step of ${rollout.to} ends now.` });
    list.push({ verb: "promote", flags: " --full", query: "?full=true", label: "Promote fully", says: `${rollout.to} goes through all further steps without a hold.` });
  }
  if (rollout?.trial) {
    list.push(rollout.trial.paused
      ? { verb: "resume", label: "Resume", says: `The rollout of ${rollout.to} goes on.` }
      : { verb: "pause", label: "Pause", says: `The rollout of ${rollout.to} stays where it is; the guard goes on judging.` });
  }
  if (rollout?.from) {
    list.push({ verb: "abort", label: "Abort", danger: true, says: `All traffic goes back to ${rollout.from} at once, and ${rollout.to} is refused.` });
  }
  if (service.refused.some(({ version }) => version === service.release)) {
    list.push({ verb: "retry", label: "Retry", says: `${service.release} is tried again.` });
  }
  return list;
}

function quoted(name) {
  return /^[\w.@%+/:-]+$/.test(name) ? name : `'${name.replaceAll("'", "'\\''")}'`;
}

/** `operator`: whether the proxy would carry it out. `done`: what is called with the answer. */
export function draw(service, operator, done) {
  const list = actions(service);
  if (list.length === 0) return null;
  const command = (action) => `sluice ${action.verb} ${quoted(service.name)}${action.flags ?? ""}`;
  if (!operator) {
    return h("div", { key: "actions", class: "commands" }, h("h4", {}, "To steer it, type"),
      h("ul", {}, list.map((action) => h("li", { key: action.label }, h("code", {}, command(action))))));
  }
  return h("div", { key: "actions", class: "buttons", role: "group", "aria-label": `Steer ${service.name}` }, list.map((action) =>
    h("button", { key: action.label, type: "button", class: action.danger ? "danger" : "", onclick: () => ask(service, action, command(action), done) }, action.label)));
}

const at = (id) => document.getElementById(id);

function ask(service, action, command, done) {
  const dialog = at("confirm");
  const yes = at("confirm-yes");
  at("confirm-title").textContent = `${action.label} ${service.name}?`;
  at("confirm-text").textContent = action.says;
  at("confirm-command").textContent = command;
  at("confirm-error").textContent = "";
  yes.textContent = action.label;
  yes.disabled = false;
  yes.classList.toggle("danger", action.danger === true);
  at("confirm-no").onclick = () => dialog.close();
  yes.onclick = async () => {
    yes.disabled = true;
    try {
      const path = `/v1/services/${encodeURIComponent(service.name)}/${action.verb}${action.query ?? ""}`;
      const answer = await post(path, service.tag);
      dialog.close();
      done(action, answer);
    } catch (error) {
      // Somebody else was quicker: what was asked about is no more, so it must be asked again.
      const stale = error instanceof Refused && error.status === 412;
      at("confirm-error").textContent = stale
        ? "Something was decided about this service since you opened this. Close it, look, and decide again."
        : `It was not done: ${error.message}`;
      yes.disabled = stale;
    }
  };
  dialog.showModal();
}
