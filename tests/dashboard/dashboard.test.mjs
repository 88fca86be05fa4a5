// The dashboard of a real proxy in a real browser, through a canary, a rollback and trouble.

import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import http from "node:http";
import { after, before, test } from "node:test";
import { accessible, fits, launch, shot, visit } from "./browser.mjs";
import { Site, eventually, toyNode } from "./site.mjs";

const site = new Site();
const nodes = {};
let browser;
let url;

let broken = false;

/** A test that goes on where the last one ended. */
function stage(name, run) {
  test(name, async (context) => {
    if (broken) {
      context.skip("one before it failed");
      return;
    }
    broken = true;
    await run();
    broken = false;
  });
}

/** Whose token is its name, with its hash as the configuration has it. */
function token(name, role) {
  const hash = createHash("sha256").update(`sluice_${name}`).digest("hex");
  return `[[admin.token]]\nname = "${name}"\nhash = "sha256:${hash}"\nrole = "${role}"\n`;
}

function config(release, more = "") {
  const versions = Object.entries(nodes).map(([name, list]) => `${name} = [${list.map(({ address }) => `"${address}"`).join(", ")}]`);
  return `[[listener]]\nname = "http"\nbind = "127.0.0.1:0"\n[admin]\nhttp = "127.0.0.1:0"\n
${token("look", "read")}${token("ops", "operator")}
[service.shop]\nmatch = "*"\nrelease = "${release}"\nhealth = { path = "/healthz", interval = "100ms", rise = 1 }\n
[service.shop.drain]\nstreams = "1m"\n
[service.shop.rollout]\nstrategy = "canary"\nkeep = "0s"\n
steps = [{ share = "10%", hold = "manual" }, { share = "50%", hold = "10m" }]\n
[service.shop.versions]\n${versions.join("\n")}\n
[service.blog]\nmatch = "blog.test"\nnodes = ["${nodes.v1[0].address}"]\n${more}`;
}

before(async () => {
  for (const version of ["v1", "v2", "v3"]) nodes[version] = [await toyNode(version), await toyNode(version)];
  site.write(config("v1"));
  await site.start();
  site.load(8);
  url = await site.forward();
  browser = await launch();
});

after(async () => {
  await browser?.close();
  await site.end();
  for (const list of Object.values(nodes)) for (const node of list) node.stop();
});

const shop = (page) => page.locator("article", { has: page.getByRole("button", { name: /shop/ }) });
const shares = (page) => shop(page).locator(".shares").getAttribute("aria-label");

/** What the console says, but for a 412, which the browser tells there and the guard may cause at any time. */
function wrongs(page, expected = /^$/) {
  return page.wrongs.filter((wrong) => !/status of 412/.test(wrong) && !expected.test(wrong));
}

/** Answers the question with yes; once more if the guard was quicker. */
async function confirm(page) {
  const dialog = page.locator("#confirm");
  await page.locator("#confirm-yes").press("Enter");
  await eventually("the question is answered", async () => {
    if (!(await dialog.isVisible())) return true;
    if (/meanwhile/.test(await page.locator("#confirm-error").textContent())) await page.locator("#confirm-yes").press("Enter", { timeout: 1000 }).catch(() => {});
    return false;
  });
}

/** A picture shows some time. */
const full = (page) => () => eventually("the charts are full", () => shop(page).getByText(/in (2[5-9]|3\d)s/).first().isVisible());

/** Goes on with Tab until this has the focus, as somebody without a mouse does. */
async function tabTo(page, name) {
  for (let at = 0; at < 60; at += 1) {
    const focused = await page.evaluate(() => document.activeElement?.textContent ?? "");
    if (focused === name) return;
    await page.keyboard.press("Tab");
  }
  assert.fail(`Tab never leads to ${name}`);
}

stage("a canary is seen and steered by keyboard to its end", async () => {
  const page = await visit(browser, url);
  const seen = new Set();
  const watch = async (share) => eventually(`v2 has ${share}`, async () => {
    const label = await shares(page);
    seen.add(label);
    return label.includes(`v2 ${share}`);
  });
  assert.match(await shares(page), /v1 100%/);
  await page.getByText("uid").waitFor();
  // Something holds an old node open at the end.
  const stream = http.get({ host: "127.0.0.1", port: site.port, path: "/stream" }, (answer) => answer.resume());
  stream.on("error", () => {});

  site.write(config("v2"));
  await watch("10%");
  const evidence = page.getByRole("table", { name: "The guard's evidence" });
  await evidence.waitFor();
  await eventually("the guard has counted requests of both", async () => {
    const counts = await evidence.locator("tbody td[data-head=Requests]").allTextContents();
    return counts.length === 2 && counts.every((count) => Number(count.replaceAll(",", "")) > 20);
  });
  await eventually("the charts have lines", async () => (await shop(page).locator("path.line").evaluateAll((lines) => lines.filter((line) => line.getAttribute("d").includes("L")).length)) >= 4);
  await page.locator("#log").getByText(/10%/).first().waitFor();

  await tabTo(page, "Promote");
  await page.keyboard.press("Enter");
  const dialog = page.getByRole("dialog", { name: "Promote shop?" });
  await dialog.waitFor();
  assert.match(await dialog.textContent(), /sluice promote shop/);
  // No is no.
  await page.keyboard.press("Escape");
  await dialog.waitFor({ state: "hidden" });
  assert.equal((await site.service("shop")).rollout.trial.step, 1);
  await tabTo(page, "Promote");
  await page.keyboard.press("Enter");
  await tabTo(page, "Promote"); // in the dialog, behind Cancel
  await page.keyboard.press("Tab");
  await confirm(page);
  await watch("50%");
  await page.locator(".steps .now").getByText(/left|guard decides/).waitFor();
  await shot(page, "canary", full(page));

  await page.getByRole("button", { name: "Pause", exact: true }).click();
  await confirm(page);
  await page.locator(".steps .now").getByText(/paused/).waitFor();
  assert.ok((await site.service("shop")).rollout.trial.paused);
  await page.getByRole("button", { name: "Resume" }).click();
  await confirm(page);
  await page.getByRole("button", { name: "Promote fully" }).press("Enter");
  await confirm(page);
  await watch("100%");
  await eventually("the focus is where the button was", () => page.evaluate(() => document.activeElement?.textContent.includes("shop")));
  await shop(page).getByText(/GET \/stream from/).waitFor();
  await shot(page, "drain");
  stream.destroy();
  await eventually("it has settled", async () => (await shop(page).locator(".pill").first().textContent()) === "settled");
  assert.ok(seen.size >= 3, `shares moved: ${[...seen]}`);
  assert.deepEqual(wrongs(page), []);
  await page.context().close();
});

stage("a bad version is seen to fail and to be sent back", async () => {
  const page = await visit(browser, url, { scheme: "dark" });
  for (const node of nodes.v3) node.fail = 0.6;
  site.write(config("v3"));
  await shop(page).getByText("Refused versions").waitFor();
  assert.match(await shares(page), /v2 100%/);
  await shop(page).getByRole("button", { name: "Retry" }).waitFor();
  const rollouts = shop(page).getByRole("table", { name: "Last rollouts of shop" });
  await rollouts.getByRole("row", { name: /^v2 → v3 rolled-back/ }).waitFor();
  await rollouts.getByRole("row", { name: /^v1 → v2 done .*promote by/ }).waitFor();
  await page.locator("#log").getByText(/sent back|fail/).first().waitFor();
  await shot(page, "rollback-dark", full(page));
  assert.deepEqual(wrongs(page), []);
  await page.context().close();
});

stage("the page is on no public listener", async () => {
  for (const path of ["", "dashboard/dashboard.js", "v1/whoami"]) {
    const answer = await fetch(`http://127.0.0.1:${site.port}/${path}`);
    assert.match(await answer.text(), /^v[123]$/, "a node answered");
    assert.equal(answer.headers.get("content-security-policy"), null);
  }
});

stage("a node is taken out and put back", async () => {
  const page = await visit(browser, url);
  const { address } = nodes.v2[0];
  const row = shop(page).getByRole("row", { name: address });
  const press = async (label) => {
    await row.getByRole("button", { name: `${label} ${address}` }).click();
    assert.match(await page.locator("#confirm-command").textContent(), new RegExp(`^sluice drain shop ${address}`));
    await confirm(page);
  };
  await press("Drain");
  await row.getByText("drained").waitFor();
  await press("Put back");
  await row.getByText("serving").waitFor();
  assert.deepEqual(wrongs(page), []);
  await page.context().close();
});

stage("traffic is held and let go, and maintenance begins and ends", async () => {
  const page = await visit(browser, url);
  const press = async (name) => {
    await shop(page).getByRole("button", { name, exact: true }).click();
    return page.locator("#confirm-input");
  };
  await (await press("Hold")).fill("5m");
  assert.equal(await page.locator("#confirm-command").textContent(), "sluice hold shop --for 5m");
  await page.keyboard.press("Enter");
  await shop(page).getByText("8 waiting").waitFor();
  await shop(page).getByText(/hold for .* by .*, ends in [45]m/).waitFor();
  await press("Release");
  await confirm(page);
  await (await press("Maintenance")).fill("back at <b>noon</b>");
  await confirm(page);
  await shop(page).getByRole("button", { name: "End maintenance" }).waitFor();
  assert.equal((await site.service("shop")).halt.message, "back at <b>noon</b>");
  await press("End maintenance");
  await confirm(page);
  await shop(page).getByRole("button", { name: "Hold" }).waitFor();
  assert.deepEqual(wrongs(page), []);
  await page.context().close();
});

stage("a token makes a reader an operator, and two of those do not steer against each other", async () => {
  const page = await visit(browser, `http://127.0.0.1:${await site.adminPort()}/`);
  const show = async (token) => {
    await page.getByRole("button", { name: "Enter token" }).click();
    await page.getByLabel("Token of the admin API").fill(token);
    await page.keyboard.press("Enter");
  };
  await shop(page).getByText("sluice retry shop").waitFor();
  await show("sluice_wrong");
  await page.locator("#login-error").getByText("nobody has this token").waitFor();
  await page.keyboard.press("Escape");
  await show("sluice_look");
  await page.locator("#visitor").getByText("token look (read)").waitFor();
  await shop(page).getByText("sluice retry shop").waitFor();
  assert.equal(await page.getByRole("button", { name: "Retry" }).count(), 0);
  await page.getByRole("button", { name: "Forget token" }).click();
  await show("sluice_ops");
  await page.locator("#visitor").getByText("token ops (operator)").waitFor();
  await page.reload();
  await page.locator("#visitor").getByText("token ops (operator)").waitFor();

  for (const node of nodes.v3) node.fail = 0;
  await page.getByRole("button", { name: "Retry" }).click();
  await site.post("/v1/services/shop/retry");
  await page.locator("#confirm-yes").click();
  await page.locator("#confirm-error").getByText("decided meanwhile").waitFor();
  await page.getByRole("button", { name: "Cancel" }).click();
  await page.getByRole("button", { name: "Pause" }).click();
  await confirm(page);
  await page.locator("#log").getByText("token ops").first().waitFor();
  await page.getByRole("button", { name: "Resume" }).click();
  await confirm(page);
  await page.getByRole("button", { name: "Pause" }).waitFor();
  await page.getByRole("button", { name: "Forget token" }).click();
  await shop(page).getByText("sluice pause shop").waitFor();
  assert.deepEqual(wrongs(page, /status of 401/), []);
  await page.context().close();
});

stage("a door that opens to tokens only asks for one, and what it showed goes with it", async () => {
  const closed = await site.forward({}, true);
  const page = await visit(browser, closed, { ready: "#gone" });
  await page.getByRole("dialog", { name: "Token" }).waitFor();
  assert.match(await page.locator("#gone").textContent(), /does not let you in: show a token\./);
  await page.getByLabel("Token of the admin API").fill("sluice_ops");
  await page.getByRole("button", { name: "Use it" }).click();
  await shop(page).waitFor();
  assert.ok(await page.locator("#gone").isHidden());
  await page.getByRole("button", { name: "Forget token" }).click();
  await page.locator("#gone:not([hidden])").waitFor();
  assert.equal(await page.locator("article").count(), 0);
  assert.deepEqual(wrongs(page, /status of 401/), []);
  await page.context().close();
});

stage("contrast, names and widths are right in light and dark, large and small, with a trial and a dialog", async () => {
  for (const [scheme, width, height] of [["light", 1180, 830], ["dark", 1180, 830], ["light", 360, 740], ["dark", 360, 740]]) {
    const what = `${scheme}, ${width} px`;
    // The checks are a script of their own, which the page's policy would refuse; the other tests run under that policy.
    const page = await visit(browser, url, { scheme, width, height, bypassCSP: true });
    await page.getByRole("table", { name: "The guard's evidence" }).waitFor();
    await accessible(page, what);
    await fits(page);
    if (width === 360) await shot(page, `phone-${scheme}`);
    await page.getByRole("button", { name: "Abort" }).click();
    await page.getByRole("dialog").waitFor();
    if (width === 360) await accessible(page, `${what}, dialog`);
    await fits(page);
    await page.getByRole("button", { name: "Cancel" }).click();
    await page.context().close();
  }
});

stage("what nodes and files say is shown as text, with the line of the error", async () => {
  const page = await visit(browser, url);
  const markup = "<img src=x onerror=\"document.title='broken in'\"><script>document.title='broken in'</script>";
  nodes.v2[0].sick = markup;
  await shop(page).getByText(markup).first().waitFor();
  assert.equal(await page.locator("main img, main script").count(), 0);
  assert.equal(await page.title(), "Sluice");
  nodes.v2[0].sick = null;
  site.write(config("v3", "[service.<b>shop</b>]\n"));
  await page.locator("#troubles pre", { hasText: "[service.<b>shop</b>]" }).waitFor();
  assert.equal(await page.locator("#troubles b b").count(), 0);
  site.write(config("v3", '[service.blog.timeouts]\nresponse = "soon"\n'));
  const line = config("v3").split("\n").length + 1;
  await page.locator("#troubles").getByText(`sluice.toml:${line}:`).waitFor();
  await page.locator("#troubles pre", { hasText: 'response = "soon"' }).waitFor();
  await shot(page, "invalid");
  for (const scheme of ["light", "dark"]) {
    const reader = await visit(browser, `http://127.0.0.1:${await site.adminPort()}/`, { scheme, width: 360, bypassCSP: true });
    await reader.locator("#troubles pre").waitFor();
    await accessible(reader, `an error, in ${scheme}`);
    await fits(reader);
    await reader.getByRole("button", { name: "Enter token" }).click();
    await accessible(reader, `the question for a token, in ${scheme}`);
    await reader.context().close();
  }
  site.write(config("v3"));
  await page.locator("#troubles .problem").waitFor({ state: "detached" });
  assert.deepEqual(wrongs(page), []);
  await page.context().close();
});

stage("what is drawn twice with the same name is there twice, however often", async () => {
  const page = await visit(browser, url);
  const drawn = await page.evaluate(async () => {
    const { draw, h } = await import("/dashboard/draw.js");
    const parent = document.createElement("div");
    for (let at = 0; at < 5; at += 1) draw(parent, [h("p", { key: "node" }, "draining"), h("p", { key: "node" }, "joining")]);
    return [...parent.childNodes].map(({ textContent }) => textContent);
  });
  assert.deepEqual(drawn, ["draining", "joining"]);
  await page.context().close();
});

stage("ten thousand services do not freeze it", async () => {
  const status = await site.status();
  const [first] = status.services;
  status.services = Array.from({ length: 10_000 }, (_, at) => ({ ...first, name: `service-${at}`, rollout: null, phase: "settled", refused: [] }));
  status.services[7777].all_down = true;
  const many = await site.forward({ "/v1/status": () => JSON.stringify({ ...status, now: Date.now() }), "/v1/services/service-7777/history": () => "[]" });
  const page = await visit(browser, many);
  await page.evaluate(() => {
    globalThis.longest = 0;
    new PerformanceObserver((list) => (globalThis.longest = Math.max(globalThis.longest, ...list.getEntries().map(({ duration }) => duration)))).observe({ type: "longtask" });
  });
  assert.equal(await page.locator("article").count(), 200);
  assert.match(await page.locator("#count").textContent(), /200 of 10,000/);
  assert.match(await page.locator("article").first().textContent(), /service-7777.*all nodes down/);
  await page.getByLabel("Filter by name").fill("service-123");
  await eventually("the filter", async () => (await page.locator("article").count()) === 11, 10_000);
  await page.waitForResponse(/status/);
  const longest = await page.evaluate(() => globalThis.longest);
  assert.ok(longest < 1000, `nothing moved for ${longest} ms`);
  assert.deepEqual(wrongs(page), []);
  await page.context().close();
});

stage("a proxy that is gone is missed, and welcomed back", async () => {
  const page = await visit(browser, url);
  await site.stop();
  await page.getByRole("alert").getByText("cannot be reached").waitFor();
  await site.start();
  await page.locator("#gone").waitFor({ state: "hidden" });
  await page.context().close();
});
