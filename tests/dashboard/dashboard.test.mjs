// The dashboard of a real proxy in a real browser, through a canary, a rollback and trouble.

import assert from "node:assert/strict";
import http from "node:http";
import { after, before, test } from "node:test";
import { accessible, fits, launch, shot, visit } from "./browser.mjs";
import { Site, eventually, toyNode } from "./site.mjs";

const site = new Site();
const nodes = {};
let browser;
let url;

function config(release, more = "") {
  const versions = Object.entries(nodes).map(([name, list]) => `${name} = [${list.map(({ address }) => `"${address}"`).join(", ")}]`);
  return `[[listener]]\nname = "http"\nbind = "127.0.0.1:0"\n[admin]\nhttp = "127.0.0.1:0"\n
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

/** Goes on with Tab until this has the focus, as somebody without a mouse does. */
async function tabTo(page, name) {
  for (let at = 0; at < 60; at += 1) {
    const focused = await page.evaluate(() => document.activeElement?.textContent ?? "");
    if (focused === name) return;
    await page.keyboard.press("Tab");
  }
  assert.fail(`Tab never leads to ${name}`);
}

test("a canary is seen and steered by keyboard to its end", async () => {
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
  await page.locator("#confirm-yes").press("Enter");
  await watch("50%");
  await page.locator(".steps .now").getByText(/left|guard decides/).waitFor();
  await shot(page, "canary");

  await page.getByRole("button", { name: "Pause", exact: true }).click();
  await page.locator("#confirm-yes").click();
  await page.locator(".steps .now").getByText(/paused/).waitFor();
  assert.ok((await site.service("shop")).rollout.trial.paused);
  await page.getByRole("button", { name: "Resume" }).click();
  await page.locator("#confirm-yes").click();
  await page.getByRole("button", { name: "Promote fully" }).click();
  await page.locator("#confirm-yes").click();
  await watch("100%");
  await shop(page).getByText(/GET \/stream from/).waitFor();
  await shot(page, "drain");
  stream.destroy();
  await eventually("it has settled", async () => (await shop(page).locator(".pill").first().textContent()) === "settled");
  assert.ok(seen.size >= 3, `shares moved: ${[...seen]}`);
  assert.deepEqual(page.wrongs, []);
  await page.context().close();
});

test("a bad version is seen to fail and to be sent back", async () => {
  const page = await visit(browser, url, { scheme: "dark" });
  for (const node of nodes.v3) node.fail = 0.6;
  site.write(config("v3"));
  await shop(page).getByText("Refused versions").waitFor();
  assert.match(await shares(page), /v2 100%/);
  await shop(page).getByRole("button", { name: "Retry" }).waitFor();
  await page.locator("#log").getByText(/sent back|fail/).first().waitFor();
  await shot(page, "rollback-dark");
  assert.deepEqual(page.wrongs, []);
  await page.context().close();
});

test("whoever may only look sees commands and no buttons", async () => {
  const page = await visit(browser, `http://127.0.0.1:${await site.adminPort()}/`);
  await shop(page).getByText("sluice retry shop").waitFor();
  assert.equal(await page.getByRole("button", { name: "Retry" }).count(), 0);
  assert.deepEqual(page.wrongs, []);
  await page.context().close();
});

test("contrast, names and widths are right in light and dark, large and small, with a trial and a dialog", async () => {
  for (const node of nodes.v3) node.fail = 0;
  const steering = await visit(browser, url);
  await steering.getByRole("button", { name: "Retry" }).click();
  await steering.locator("#confirm-yes").click();
  await steering.getByRole("button", { name: "Promote", exact: true }).waitFor();
  await steering.context().close();
  for (const [scheme, width, height] of [["light", 1180, 900], ["dark", 1180, 900], ["light", 360, 740], ["dark", 360, 740]]) {
    const what = `${scheme}, ${width} px`;
    // The checks are a script of their own, which the page's policy would refuse; the other tests run under that policy.
    const page = await visit(browser, url, { scheme, width, height, bypassCSP: true });
    await page.getByRole("table", { name: "The guard's evidence" }).waitFor();
    await accessible(page, what);
    await fits(page);
    if (width === 360) await shot(page, `phone-${scheme}`);
    await page.getByRole("button", { name: "Abort" }).click();
    await page.getByRole("dialog").waitFor();
    await accessible(page, `${what}, dialog`);
    await fits(page);
    await page.getByRole("button", { name: "Cancel" }).click();
    await page.context().close();
  }
});

test("what nodes and files say is shown as text, with the line of the error", async () => {
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
  site.write(config("v3"));
  await page.locator("#troubles .problem").waitFor({ state: "detached" });
  assert.deepEqual(page.wrongs, []);
  await page.context().close();
});

test("ten thousand services do not freeze it", async () => {
  const status = await site.status();
  const [first] = status.services;
  status.services = Array.from({ length: 10_000 }, (_, at) => ({ ...first, name: `service-${at}`, rollout: null, phase: "settled", refused: [] }));
  status.services[7777].all_down = true;
  const many = await site.forward({ "/v1/status": () => JSON.stringify({ ...status, now: Date.now() }) });
  const page = await visit(browser, many);
  assert.equal(await page.locator("article").count(), 200);
  assert.match(await page.locator("#count").textContent(), /200 of 10,000/);
  assert.match(await page.locator("article").first().textContent(), /service-7777.*all nodes down/);
  await page.getByLabel("Filter by name").fill("service-123");
  await eventually("the filter", async () => (await page.locator("article").count()) === 11, 10_000);
  assert.deepEqual(page.wrongs, []);
  await page.context().close();
});

test("a proxy that is gone is missed, and welcomed back", async () => {
  const page = await visit(browser, url);
  await site.stop();
  await page.getByRole("alert").getByText("cannot be reached").waitFor();
  await site.start();
  await page.locator("#gone").waitFor({ state: "hidden" });
  await page.context().close();
});
