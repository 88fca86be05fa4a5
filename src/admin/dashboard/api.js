// The way to the proxy.

const KEPT = "sluice-token";
const PATIENCE = 10_000; // ms

/** The proxy said no. */
export class Refused extends Error {
  constructor(status, message) {
    super(message);
    this.status = status;
  }
}

export function token() {
  return sessionStorage.getItem(KEPT);
}

/** Keeps a token as long as this tab is open; null forgets it. */
export function keepToken(value) {
  if (value) sessionStorage.setItem(KEPT, value);
  else sessionStorage.removeItem(KEPT);
}

function headers(more = {}) {
  const known = token();
  return known ? { ...more, authorization: `Bearer ${known}` } : more;
}

async function send(method, path, more, signal = AbortSignal.timeout(PATIENCE)) {
  const answer = await fetch(path, { method, headers: headers(more), cache: "no-store", redirect: "error", signal });
  if (answer.ok) return answer;
  let message = `${answer.status} ${answer.statusText}`;
  try {
    message = (await answer.json()).error.message;
  } catch {
    // It was no answer of Sluice; its status must do.
  }
  throw new Refused(answer.status, message);
}

export async function get(path) {
  return (await send("GET", path)).json();
}

export async function text(path) {
  return (await send("GET", path)).text();
}

/** Steers; `tag` is what was seen of the service, so that two people do not steer against each other. */
export async function post(path, tag, stream) {
  const answer = await send("POST", path, tag ? { "if-match": `"${tag}"` } : {});
  // What follows of a drain is seen in the status.
  if (stream) await answer.body.cancel();
  return stream ? null : answer.json();
}

/** Server-sent events after that one, until the connection or `signal` ends. (`EventSource` cannot send a token.) */
export async function events(after, signal, take) {
  const answer = await send("GET", `/v1/events?after=${after}`, {}, signal);
  const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  for (;;) {
    const { done, value } = await reader.read();
    if (done) return;
    const blocks = (rest + value).split("\n\n");
    rest = blocks.pop();
    for (const block of blocks) {
      const data = block.split("\n").filter((line) => line.startsWith("data: ")).map((line) => line.slice(6)).join("\n");
      if (data) take(JSON.parse(data));
    }
  }
}
