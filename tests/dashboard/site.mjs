// A proxy with its own folder, toy nodes, load, and a loopback port that leads to its admin socket, as `ssh -L` makes one.

import { spawn } from "node:child_process";
import fs from "node:fs";
import http from "node:http";
import os from "node:os";
import path from "node:path";

/** Waits until `look` gives something. */
export async function eventually(what, look, patience = 60_000) {
  const end = Date.now() + patience;
  for (;;) {
    const found = await look();
    if (found) return found;
    if (Date.now() > end) throw new Error(`${what}: not within ${patience / 1000} s`);
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
}

function listen(server) {
  return new Promise((resolve) => server.listen(0, "127.0.0.1", () => resolve(server.address().port)));
}

/** A node. Its `fail` (part of one), `slow` (ms) and `sick` (the body of its failed probes) can be set at any time. */
export async function toyNode(version) {
  const node = { version, fail: 0, slow: 5, sick: null };
  const server = http.createServer((request, response) => {
    if (request.url === "/healthz") {
      response.writeHead(node.sick ? 503 : 200).end(node.sick ?? "ok");
    } else if (request.url === "/stream") {
      response.writeHead(200, { "content-type": "text/event-stream" });
      const beat = setInterval(() => response.write(": beat\n\n"), 200);
      response.on("close", () => clearInterval(beat));
    } else {
      setTimeout(() => response.writeHead(Math.random() < node.fail ? 500 : 200).end(version), node.slow * (0.5 + Math.random()));
    }
  });
  server.keepAliveTimeout = 60_000;
  node.address = `127.0.0.1:${await listen(server)}`;
  node.stop = () => {
    server.closeAllConnections();
    server.close();
  };
  return node;
}

export class Site {
  constructor() {
    this.dir = fs.mkdtempSync(path.join(os.tmpdir(), "sluice-dashboard-"));
    this.socket = path.join(this.dir, "s.sock");
    this.config = path.join(this.dir, "sluice.toml");
    this.environment = { ...process.env, SLUICE_SOCKET: this.socket, SLUICE_STATE_DIR: path.join(this.dir, "state"), NO_COLOR: "1" };
    this.ends = [];
  }

  write(text) {
    fs.writeFileSync(`${this.config}.tmp`, text);
    fs.renameSync(`${this.config}.tmp`, this.config);
  }

  async start() {
    const log = fs.openSync(path.join(this.dir, "log"), "a");
    this.proxy = spawn(process.env.SLUICE, ["run", "--config", "sluice.toml"], { cwd: this.dir, env: this.environment, stdio: ["ignore", log, log] });
    fs.closeSync(log);
    await eventually("the proxy is ready", async () => {
      if (this.proxy.exitCode !== null) throw new Error(fs.readFileSync(path.join(this.dir, "log"), "utf8"));
      return (await this.status().catch(() => null))?.ready;
    });
    this.port = (await this.status()).listeners[0].address.split(":").pop();
  }

  async stop() {
    const { proxy } = this;
    if (!proxy || proxy.exitCode !== null || proxy.signalCode !== null) return;
    const ended = new Promise((resolve) => proxy.once("exit", resolve));
    proxy.kill("SIGKILL");
    await ended;
  }

  async end() {
    for (const end of this.ends) await end();
    await this.stop();
    fs.rmSync(this.dir, { recursive: true, force: true });
  }

  ask(method, path) {
    return new Promise((resolve, reject) => {
      http.request({ method, socketPath: this.socket, path, headers: { host: "sluice" } }, (answer) => {
        let text = "";
        answer.setEncoding("utf8").on("data", (data) => (text += data)).on("end", () => resolve(JSON.parse(text)));
      }).on("error", reject).end();
    });
  }

  status() {
    return this.ask("GET", "/v1/status");
  }

  post(path) {
    return this.ask("POST", path);
  }

  async service(name) {
    return (await this.status()).services.find((service) => service.name === name);
  }

  /** The port of `admin.http = "127.0.0.1:0"`: the listening socket of the process that is no listener of the configuration. */
  async adminPort() {
    const known = new Set((await this.status()).listeners.map(({ address }) => Number(address.split(":").pop())));
    const inodes = new Set();
    for (const fd of fs.readdirSync(`/proc/${this.proxy.pid}/fd`)) {
      try {
        inodes.add(/^socket:\[(\d+)\]$/.exec(fs.readlinkSync(`/proc/${this.proxy.pid}/fd/${fd}`))?.[1]);
      } catch {
        // It was closed meanwhile.
      }
    }
    const lines = fs.readFileSync("/proc/net/tcp", "utf8").trim().split("\n").slice(1).map((line) => line.trim().split(/\s+/));
    const mine = lines.filter((field) => field[3] === "0A" && inodes.has(field[9])).map((field) => parseInt(field[1].split(":")[1], 16));
    return mine.find((port) => !known.has(port));
  }

  /** Requests, so many at once, until the end. */
  load(lanes) {
    const agent = new http.Agent({ keepAlive: true, maxSockets: lanes });
    let on = true;
    const lane = () => {
      if (!on) return;
      const again = () => setTimeout(lane, 20);
      http.get({ agent, host: "127.0.0.1", port: this.port, path: "/" }, (answer) => answer.resume().on("end", again)).on("error", again);
    };
    for (let at = 0; at < lanes; at += 1) lane();
    this.ends.push(() => {
      on = false;
      agent.destroy();
    });
  }

  /** A loopback port that leads to the admin socket. `answers`: path → what is answered instead; `closed`: whether only the page and tokens come through. */
  async forward(answers = {}, closed = false) {
    const server = http.createServer((request, response) => {
      const made = answers[request.url];
      if (closed && request.url.startsWith("/v1/") && !request.headers.authorization) {
        response.writeHead(401, { "content-type": "application/json" }).end('{"error":{"kind":"unauthorized","message":"show a token"}}');
        return;
      }
      if (made) {
        response.writeHead(200, { "content-type": "application/json" }).end(made());
        return;
      }
      const { method, url, headers } = request;
      const onward = http.request({ socketPath: this.socket, method, path: url, headers }, (answer) => {
        response.writeHead(answer.statusCode, answer.headers);
        answer.pipe(response);
      });
      onward.on("error", () => response.destroy());
      response.on("close", () => onward.destroy());
      request.pipe(onward);
    });
    const port = await listen(server);
    this.ends.push(() => {
      server.closeAllConnections();
      server.close();
    });
    return `http://127.0.0.1:${port}/`;
  }
}
