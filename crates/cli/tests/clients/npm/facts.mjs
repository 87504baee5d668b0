// Does what a program does with a client, through npm `durable-functions` as published, and prints what came of it:
// one JSON object with a member for each group of facts. What it is about to do goes to the standard error.
//
// Usage: node facts.mjs <folder with node_modules> <base address> rpc|webhook

import { createRequire } from "node:module";

const [folder, base, surface] = process.argv.slice(2);
const df = createRequire(`${folder}/`)("durable-functions");
const { Completed, Failed, Running, Terminated } = df.OrchestrationRuntimeStatus;
const { EntityId } = df;

// What the Functions host does: it hands the binding to the client's input. Without an RPC address the client takes the
// webhook URLs.
const binding = await (await fetch(`${base}/runtime/webhooks/durabletask/clientbinding`)).json();
if (surface === "webhook") delete binding.rpcBaseUrl;
const input = df.input.durableClient();
const newClient = () => df.getClient({ options: { extraInputs: [input] }, extraInputs: { get: () => binding } });
const client = newClient();
const request = { method: "POST", url: `${base}/api/orchestrators/x`, headers: new Headers(), params: {}, query: new URLSearchParams() };

const start = async (name, instanceId, input) => client.startNew(name, { instanceId, input });

// The server's own wait: no client looks again and again.
const wait = async (id, what) => {
  console.error(`wait until ${id} has ${what}`);
  const path = `/api/v1/hubs/${binding.taskHubName}/instances/${id}/wait`;
  const waited = await (await fetch(`${base}${path}?for=${what}&timeout=60`)).json();
  if (!waited.isMet) throw new Error(`${id} has not ${what}: ${JSON.stringify(waited)}`);
  return client.getStatus(id);
};

const outcome = async (call) => {
  try {
    return (await call) ?? "nothing";
  } catch (error) {
    return `error: ${error.message}`;
  }
};

const read = async ({ status, body }) => [status, JSON.parse(await new Response(body).text())];

const isEqual = (one, other) => JSON.stringify(one) === JSON.stringify(other);

const untimed = (history) => history.map(({ Timestamp, ScheduledTime, FireAt, ...rest }) => rest);

const ids = (statuses) => statuses.map((status) => status.instanceId).sort();

const groups = {
  async results() {
    await start("E1_HelloSequence", "hello", { n: 1 });
    const patience = { timeoutInMilliseconds: 60_000, retryIntervalInMilliseconds: 100 };
    const waited = await client.waitForCompletionOrCreateCheckStatusResponse(request, "hello", patience);
    const full = await client.getStatus("hello", { showHistory: true, showHistoryOutput: true, showInput: true });
    const brief = await client.getStatus("hello", { showHistory: true, showInput: false });
    await start("Echo", "no-input");
    await start("Echo", "any-input", [0, false, "text", { a: 1.5 }, null]);
    return {
      waited: await read(waited),
      status: [full.name, full.instanceId, full.runtimeStatus, full.input, full.output, full.customStatus],
      times: full.createdTime <= full.lastUpdatedTime,
      history: untimed(full.history),
      hidden: [brief.input, brief.history.some((event) => "Result" in event), brief.history.some((event) => "Input" in event)],
      noInput: await wait("no-input", "ended").then(({ input, output }) => [input, output]),
      anyInput: (await wait("any-input", "ended")).output,
    };
  },

  async failures() {
    await start("Fail", "failed", "it broke");
    await start("Counter", "failed-activity", "missing.json");
    const failed = await wait("failed", "ended");
    await wait("failed-activity", "ended");
    const byActivity = await client.getStatus("failed-activity", { showHistory: true, showHistoryOutput: true });
    const waited = await client.waitForCompletionOrCreateCheckStatusResponse(request, "failed");
    const [code, status] = await read(waited);
    return {
      status: [failed.runtimeStatus, failed.output],
      waited: [code, status.instanceId, status.runtimeStatus, status.output],
      byActivity: byActivity.output,
      history: untimed(byActivity.history),
    };
  },

  async control() {
    await start("ApprovalFlow", "approval", { what: "a holiday", timeout_seconds: 3600 });
    const before = (await wait("approval", "started")).customStatus;
    await client.raiseEvent("approval", "approval", true);
    const { customStatus, output } = await wait("approval", "ended");

    await start("WaitEvent", "event");
    const statuses = [(await wait("event", "started")).runtimeStatus];
    for (const verb of ["suspend", "resume"]) {
      await client[verb]("event", "a reason");
      statuses.push((await client.getStatus("event")).runtimeStatus);
    }
    await client.raiseEvent("event", "Go", { answer: 42 });
    const event = await wait("event", "ended");

    await start("WaitEvent", "terminated");
    await client.terminate("terminated", "no longer needed");
    const terminated = await client.getStatus("terminated");
    await start("WaitEvent", "cut");
    await client.terminate("cut", "salt & pepper");
    return {
      customStatus: [before, customStatus, output],
      suspended: statuses,
      event: [event.runtimeStatus, event.output],
      terminated: [terminated.runtimeStatus, terminated.output],
      cut: (await client.getStatus("cut")).output,
    };
  },

  async waits() {
    await start("WaitEvent", "late");
    await wait("late", "started");
    const none = { timeoutInMilliseconds: 0, retryIntervalInMilliseconds: 0 };
    const late = await client.waitForCompletionOrCreateCheckStatusResponse(request, "late", none);
    const [code, links] = await read(late);
    const checked = client.createCheckStatusResponse(request, "late");
    const contrary = { timeoutInMilliseconds: 1, retryIntervalInMilliseconds: 2 };

    // From here on as somebody who has nothing but the links.
    const call = async (method, link, body) => {
      const answer = await fetch(link, { method, body, headers: body ? { "Content-Type": "application/json" } : {} });
      return [answer.status, await answer.text(), answer.headers];
    };
    const look = async () => {
      const [code, body, headers] = await call("GET", links.statusQueryGetUri);
      const isThere = headers.get("Location") === links.statusQueryGetUri;
      return [code, body && JSON.parse(body).runtimeStatus, isThere, headers.get("Retry-After")];
    };
    const post = async (link, word, body) => (await call("POST", link.replace("{text}", word).replace("{eventName}", word), body))[0];
    const followed = [
      await look(),
      await post(links.suspendPostUri, "pause"),
      await look(),
      await post(links.resumePostUri, "over"),
      await look(),
      await post(links.sendEventPostUri, "Go", "42"),
      (await wait("late", "ended")).output,
      await look(),
      await post(links.terminatePostUri, "late"),
      (await call("DELETE", links.purgeHistoryDeleteUri))[1],
      await look(),
    ];
    return {
      late: [code, Object.keys(links), late.headers.get("Location") === links.statusQueryGetUri, late.headers.get("Retry-After")],
      checked: [checked.status, isEqual((await read(checked))[1], links)],
      payload: isEqual(client.createHttpManagementPayload("late"), links),
      followed,
      contrary: await outcome(client.waitForCompletionOrCreateCheckStatusResponse(request, "late", contrary)),
    };
  },

  // The host says its address in a variable.
  async links() {
    delete process.env.WEBSITE_HOSTNAME;
    const elsewhere = newClient();
    const [, asked] = await read(elsewhere.createCheckStatusResponse(request, "x"));
    return {
      unasked: new URL(elsewhere.createHttpManagementPayload("x").statusQueryGetUri).origin,
      asked: new URL(asked.statusQueryGetUri).origin === base,
    };
  },

  async starts() {
    await start("WaitEvent", "live");
    await wait("live", "started");
    const own = await client.startNew("WaitEvent");
    await wait(own, "started");
    await start("Echo", "ended", 1);
    await wait("ended", "ended");
    return {
      ownId: /^[0-9a-f]{32}$/.test(own),
      at: await outcome(start("Echo", "@x")),
      tooLong: await outcome(start("Echo", "x".repeat(257))),
      slash: await outcome(start("Echo", "a/b")),
      live: await outcome(start("Echo", "live")),
      ended: [await start("Echo", "ended", 2), (await wait("ended", "ended")).output],
    };
  },

  async ended() {
    await start("Echo", "over", 1);
    await wait("over", "ended");
    const all = async (id) => ({
      suspend: await outcome(client.suspend(id, "why")),
      resume: await outcome(client.resume(id, "why")),
      terminate: await outcome(client.terminate(id, "why")),
      event: await outcome(client.raiseEvent(id, "Go", 1)),
      rewind: await outcome(client.rewind(id, "why")),
    });
    const over = await all("over");
    return {
      over,
      unchanged: (await client.getStatus("over")).runtimeStatus,
      missing: { ...(await all("missing")), status: await outcome(client.getStatus("missing")) },
      entity: await outcome(client.readEntityState(new EntityId("counter", "x"))),
      signal: await outcome(client.signalEntity(new EntityId("counter", "x"), "add", 1)),
    };
  },

  // What the others have left behind is listed, and then removed.
  async lists() {
    const before = (await client.getStatusAll()).length;
    const many = Array.from({ length: 105 }, (_, i) => `many-${String(i).padStart(3, "0")}`);
    await Promise.all(many.map((id) => start("Echo", id, 1)));
    for (const id of many) await wait(id, "ended");
    const all = await client.getStatusAll();
    const by = (filter) => client.getStatusBy(filter);
    return {
      all: [all.length - before, isEqual(ids(all).filter((id) => id.startsWith("many-")), many)],
      failed: ids(await by({ runtimeStatus: [Failed] })),
      two: ids(await by({ runtimeStatus: [Failed, Terminated] })),
      completed: (await by({ runtimeStatus: [Completed] })).length,
      window: (await by({ createdTimeFrom: new Date(0), createdTimeTo: new Date(Date.now() + 60_000) })).length - before,
      old: await by({ createdTimeFrom: new Date(0), createdTimeTo: new Date(1) }),
    };
  },

  async purges() {
    const one = (id) => outcome(client.purgeInstanceHistory(id).then((purged) => purged.instancesDeleted));
    const by = (filter) => outcome(client.purgeInstanceHistoryBy(filter).then((purged) => purged.instancesDeleted));
    const createdTimeFrom = new Date(0);
    return {
      one: await one("hello"),
      again: await one("hello"),
      gone: await outcome(client.getStatus("hello")),
      live: await one("live"),
      unbounded: await by({ runtimeStatus: [Failed] }),
      old: await by({ createdTimeFrom, createdTimeTo: new Date(1) }),
      running: await by({ createdTimeFrom, runtimeStatus: [Running] }),
      failed: await by({ createdTimeFrom, runtimeStatus: [Failed] }),
      ended: await by({ createdTimeFrom }),
      endedAgain: await by({ createdTimeFrom }),
      left: (await client.getStatusAll()).map((status) => status.runtimeStatus),
    };
  },
};

const facts = {};
for (const [name, group] of Object.entries(groups)) {
  console.error(name);
  facts[name] = await group();
}
console.log(JSON.stringify(facts));
