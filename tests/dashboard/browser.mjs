// Chromium, and what is asked of every page.

import assert from "node:assert/strict";
import fs from "node:fs";
import { createRequire } from "node:module";
import path from "node:path";

const modules = createRequire(path.join(process.env.MODULES, "package.json"));
const { chromium } = modules("playwright-core");
const axe = modules.resolve("axe-core/axe.min.js");
const images = path.resolve(import.meta.dirname, "../../docs/images");

export function launch() {
  return chromium.launch({
    executablePath: process.env.CHROMIUM,
    args: ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking", "--disable-component-update", "--disable-sync"],
  });
}

/** A page that keeps what went wrong in `page.wrongs`. */
export async function visit(browser, url, { scheme = "light", width = 1180, height = 830, bypassCSP = false, ready = "#count:not(:empty)" } = {}) {
  const context = await browser.newContext({ viewport: { width, height }, colorScheme: scheme, reducedMotion: "reduce", bypassCSP });
  const page = await context.newPage();
  page.setDefaultTimeout(60_000);
  page.wrongs = [];
  page.on("console", (message) => ["error", "warning"].includes(message.type()) && page.wrongs.push(message.text()));
  page.on("pageerror", (error) => page.wrongs.push(String(error)));
  await page.goto(url);
  await page.locator(ready).waitFor();
  return page;
}

/** No breach of WCAG 2.1 A and AA, contrast included. */
export async function accessible(page, what) {
  await page.addScriptTag({ path: axe });
  const { violations } = await page.evaluate(() => globalThis.axe.run(document, { runOnly: ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "best-practice"], resultTypes: ["violations"] }));
  const said = violations.map(({ id, help, nodes }) => `${id}: ${help}\n  ${nodes.map(({ html, failureSummary }) => `${html}\n    ${failureSummary}`).join("\n  ")}`);
  assert.deepEqual(said, [], what);
}

/** Nothing sticks out at the side. */
export async function fits(page) {
  const [wide, screen] = await page.evaluate(() => [document.documentElement.scrollWidth, innerWidth]);
  assert.ok(wide <= screen, `the page is ${wide} px wide on a screen of ${screen} px`);
}

/** A picture for the documentation, if they are wanted; then it may take the time until it is `ready`. */
export async function shot(page, name, ready = async () => {}) {
  if (!process.env.SHOTS) return;
  await ready();
  fs.mkdirSync(images, { recursive: true });
  const file = path.join(images, `dashboard-${name}.png`);
  await page.screenshot({ path: file });
  const { size } = fs.statSync(file);
  assert.ok(size < 150_000, `${file} has ${size} bytes`);
}
