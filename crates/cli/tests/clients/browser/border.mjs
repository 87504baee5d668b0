// Shows pages of other origins in a real Chromium that try everything a page can do to a server on this machine, and
// prints what came of it as one JSON object: how many ways were tried, what a page could read, and what changed. What it
// is about to do goes to the standard error.
//
// Usage: node border.mjs <folder with node_modules> <base address>
//
// The pages are served by this script, on another port of this machine; the browser is told that evil.example is this
// machine, and that a page of it on the server's own port is served too, as after a name was lead elsewhere (DNS rebinding).

import { createRequire } from "node:module";
import { createServer } from "node:http";

const [folder, base] = process.argv.slice(2);
const { chromium } = createRequire(`${folder}/`)("playwright-core");

const CANARY = "what-no-page-may-read";
const { host, port } = new URL(base);
const own = `/api/v1/hubs/DurableFunctionsHub`;
const json = { "content-type": "application/json" };

// The state that pages must not change: one instance that waits, one that has ended.
const post = (path, body) => fetch(`${base}${path}`, { method: "POST", headers: json, body: JSON.stringify(body) });
await post(`${own}/instances`, { name: "WaitEvent", instanceId: "waits", input: CANARY });
await post(`${own}/instances`, { name: "Echo", instanceId: "ended", input: CANARY });
await fetch(`${base}${own}/instances/waits/wait?for=started&timeout=60`);
await fetch(`${base}${own}/instances/ended/wait?for=ended&timeout=60`);
const state = async () => {
  const { items } = await (await fetch(`${base}${own}/instances?limit=1000`)).json();
  if (!items) return "the hub is gone";
  const hubs = await (await fetch(`${base}/api/v1/hubs`)).json();
  const shown = items.map((one) => [one.instanceId, one.runtimeStatus, one.executionId, one.lastUpdatedTime]);
  return JSON.stringify([shown.sort(), hubs.items.map((hub) => hub.name).sort()]);
};
const before = await state();

// Serves the pages, and leads on to the server.
const pages = createServer((request, response) => {
  const url = new URL(request.url, "http://x");
  const to = url.searchParams.get("to");
  if (to) {
    response.writeHead(Number(url.searchParams.get("status")), { location: to, "access-control-allow-origin": "*" });
    return response.end();
  }
  response.writeHead(200, { "content-type": "text/html" });
  return response.end("<!doctype html><title>page</title><body></body>");
});
await new Promise((listening) => pages.listen(0, "127.0.0.1", listening));
const pagesPort = pages.address().port;

console.error("start the browser");
const browser = await chromium.launch({
  executablePath: "/usr/bin/chromium",
  args: [
    "--no-sandbox",
    // Containers often have little shared memory.
    "--disable-dev-shm-usage",
    "--host-resolver-rules=MAP evil.example 127.0.0.1",
    // It asks before a page reaches this machine, or keeps it from that; the server has to hold without it.
    "--disable-features=LocalNetworkAccessChecks,BlockInsecurePrivateNetworkRequests,PrivateNetworkAccessSendPreflights,HttpsUpgrades,HttpsFirstBalancedModeAutoEnable",
  ],
});

// What a page tries; it runs in the page. `to` is how it calls the server.
const tries = async ({ to, pagesOrigin, own }) => {
  const hook = "/runtime/webhooks/durabletask";
  const surfaces = [hook, "/admin/extensions/DurableTaskExtension", "/durabletask"];
  const read = [];
  let count = 0;
  const soon = (promise) => Promise.race([promise, new Promise((late) => setTimeout(late, 3000, ""))]);
  const way = async (name, attempt) => {
    count += 1;
    try {
      const got = await soon(attempt());
      if (got) read.push([name, String(got).slice(0, 2000)]);
    } catch {
      // The browser kept it from the answer.
    }
  };
  const get = async (path, options) => (await fetch(to + path, options)).text();
  const send = (path, body, options = {}) => get(path, { method: "POST", body, ...options });
  const plain = { headers: { "content-type": "text/plain" } };
  const form = (path, fields, enctype) =>
    new Promise((done) => {
      const frame = Object.assign(document.createElement("iframe"), { name: `f${count}` });
      const sent = Object.assign(document.createElement("form"), { method: "POST", action: to + path, target: frame.name, enctype });
      for (const [name, value] of Object.entries(fields)) {
        sent.append(Object.assign(document.createElement("input"), { name, value }));
      }
      document.body.append(frame, sent);
      frame.onload = () => {
        let text = "";
        try {
          text = frame.contentDocument?.body?.innerText ?? "";
        } catch {
          // Of another origin.
        }
        done(text);
      };
      sent.submit();
    });
  const element = (tag, attribute, path, more = {}) =>
    new Promise((done) => {
      const made = Object.assign(document.createElement(tag), more);
      made.onload = () => done(tag === "iframe" ? made.contentDocument?.body?.innerText : "");
      made.onerror = () => done("");
      made[attribute] = to + path;
      document.body.append(made);
    });
  const xhr = (method, path, body) =>
    new Promise((done, failed) => {
      const request = new XMLHttpRequest();
      request.open(method, to + path);
      request.onload = () => done(request.responseText);
      request.onerror = failed;
      request.send(body);
    });

  // What is read comes first: what changes something takes away what is read, from where it can.
  for (const base of surfaces) {
    await way(`${base}: read`, () => get(`${base}/instances/waits`));
    await way(`${base}: read all`, () => get(`${base}/instances`));
    await way(`${base}: read without CORS`, () => get(`${base}/instances/waits`, { mode: "no-cors" }));
    await way(`${base}: image`, () => element("img", "src", `${base}/instances/waits`));
    await way(`${base}: frame`, () => element("iframe", "src", `${base}/instances/waits`));
    await way(`${base}: XHR read`, () => xhr("GET", `${base}/instances/waits`));
  }
  await way("own: read", () => get(`${own}/instances?fields=input`));
  await way("own: read one", () => get(`${own}/instances/waits`));
  await way("own: history", () => get(`${own}/instances/waits/history`));
  await way("own: wait", () => get(`${own}/instances/waits/wait?timeout=0`));
  await way("own: frame", () => element("iframe", "src", `${own}/instances/waits`));
  await way("own: script", () => element("script", "src", `${own}/instances/waits`));
  await way("own: style", () => element("link", "href", `${own}/instances/waits`, { rel: "stylesheet" }));
  await way("own: module", () => import(`${to}${own}/instances/waits`).then(() => "a module"));
  await way("binding", () => get(`${hook}/clientbinding`));
  await way("figures", () => get("/metrics"));
  await way("health", () => get("/healthz"));
  await way("stream", () =>
    new Promise((done) => {
      const stream = new EventSource(`${to}${own}/instances/waits`);
      stream.onmessage = (event) => done(event.data);
      stream.onerror = () => done("");
    }));
  await way("socket", () =>
    new Promise((done) => {
      const socket = new WebSocket(`${to.replace("http", "ws")}${hook}/instances/waits`);
      socket.onopen = () => done("open");
      socket.onerror = () => done("");
    }));
  await way("worker", () =>
    new Promise((done) => {
      const code = `fetch("${to}${own}/instances/waits").then((a) => a.text()).then(postMessage, () => postMessage(""))`;
      const worker = new Worker(URL.createObjectURL(new Blob([code])));
      worker.onmessage = (event) => done(event.data);
    }));
  for (const base of surfaces) {
    await way(`${base}: start`, () => send(`${base}/orchestrators/Echo/stolen`, '"x"'));
    await way(`${base}: start without CORS`, () => send(`${base}/orchestrators/Echo/stolen`, '"x"', { mode: "no-cors" }));
    await way(`${base}: start with cookies`, () => send(`${base}/orchestrators/Echo/stolen`, '"x"', { mode: "no-cors", credentials: "include" }));
    await way(`${base}: terminate`, () => send(`${base}/instances/waits/terminate?reason=x`, "", { mode: "no-cors" }));
    await way(`${base}: suspend`, () => send(`${base}/instances/waits/suspend?reason=x`, undefined, { mode: "no-cors" }));
    await way(`${base}: raise an event`, () => send(`${base}/instances/waits/raiseEvent/Go`, "1", { mode: "no-cors" }));
    await way(`${base}: purge`, () => get(`${base}/instances/ended`, { method: "DELETE" }));
    await way(`${base}: purge all`, () => get(`${base}/instances?createdTimeFrom=2000-01-01`, { method: "DELETE" }));
    await way(`${base}: form`, () => form(`${base}/orchestrators/Echo/stolen`, { a: "b" }, "application/x-www-form-urlencoded"));
    await way(`${base}: form in parts`, () => form(`${base}/instances/waits/terminate`, { a: "b" }, "multipart/form-data"));
    await way(`${base}: form of text`, () => form(`${base}/instances/waits/terminate`, { a: "b" }, "text/plain"));
    await way(`${base}: XHR`, () => xhr("POST", `${base}/instances/waits/terminate`, ""));
    await way(`${base}: beacon`, async () => void navigator.sendBeacon(`${to}${base}/instances/waits/terminate`, "x"));
    for (const status of [302, 307, 308]) {
      const led = `${pagesOrigin}/?status=${status}&to=${encodeURIComponent(`${to}${base}/instances/waits/terminate`)}`;
      await way(`${base}: led on by ${status}`, async () => (await fetch(led, { method: "POST", body: "x", mode: "no-cors" })).text());
    }
  }
  await way("front door", () => send("/orchestrators/Echo", '"x"', { mode: "no-cors" }));
  await way("front door, waiting", () => send("/api/orchestrators/Echo/wait", '"x"'));
  const start = JSON.stringify({ name: "Echo", instanceId: "stolen" });
  const all = JSON.stringify({ all: true });
  await way("own: start as text", () => send(`${own}/instances`, start, { ...plain, mode: "no-cors" }));
  await way("own: start", () => send(`${own}/instances`, start, { headers: { "content-type": "application/json" } }));
  await way("own: purge as text", () => send(`${own}/instances/purge`, all, plain));
  await way("own: purge as text without CORS", () => send(`${own}/instances/purge`, all, { ...plain, mode: "no-cors" }));
  await way("own: purge as a blob", () => send(`${own}/instances/purge`, new Blob([all]), { mode: "no-cors" }));
  await way("own: purge by beacon", async () => void navigator.sendBeacon(`${to}${own}/instances/purge`, all));
  await way("own: purge by a form", () => form(`${own}/instances/purge`, { '{"all":true,"x":"': '"}' }, "text/plain"));
  await way("own: another hub", () => send("/api/v1/hubs/Stolen/instances", start, { ...plain, mode: "no-cors" }));
  await way("own: terminate", () => send(`${own}/instances/waits/terminate`, undefined, { mode: "no-cors" }));
  await way("own: delete the hub", () => get(`${own}?confirm=DurableFunctionsHub`, { method: "DELETE" }));
  return { count, read };
};

const visit = async (name, url, to, isRebound) => {
  console.error(`show ${name}`);
  const page = await browser.newPage();
  if (isRebound) await page.route(url, (route) => route.fulfill({ contentType: "text/html", body: "<body></body>" }));
  await page.goto(url);
  const came = await page.evaluate(tries, { to, pagesOrigin: `http://127.0.0.1:${pagesPort}`, own });
  await page.close();
  return { name, ...came };
};

const told = ({ name, count, read }) => ({
  name,
  count,
  // An answer of the border itself may be read where the page and the server have one origin, as after rebinding.
  read: read.filter(([, text]) => !/^\{"error":\{"code":"(host|origin)-not-allowed"/.test(text)),
});

const visits = [
  await visit("another port", `http://127.0.0.1:${pagesPort}/`, base),
  await visit("another site", `http://evil.example:${pagesPort}/`, base),
  await visit("another site that calls by name", `http://evil.example:${pagesPort}/`, `http://localhost:${port}`),
  await visit("a name that leads here", `http://evil.example:${port}/page`, `http://evil.example:${port}`, true),
  await visit("no origin", "data:text/html,<body></body>", base),
].map(told);
const after = await state();

// The same from a page of the server's own origin, so that one sees that the ways lead somewhere.
const control = told(await visit("its own", `${base}/page`, base, true));
const stolen = (await state()) !== after;
const canaries = control.read.filter(([, text]) => text.includes(CANARY)).length;
await browser.close();
pages.close();

console.log(JSON.stringify({
  tried: visits.map(({ name, count }) => [name, count]),
  read: visits.flatMap(({ name, read }) => read.map(([way, text]) => [name, way, text])),
  changed: before === after ? [] : [before, after],
  control: [stolen, canaries > 10],
}));
