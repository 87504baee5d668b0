// What the article does with a client, through npm `durable-functions` as published. Prints the facts as one JSON object.
//
// Usage: node article.mjs <folder with node_modules> <base address>

import { createRequire } from "node:module";

const [folder, base] = process.argv.slice(2);
const df = createRequire(`${folder}/`)("durable-functions");

// What the Functions host does: it hands the binding to the client's input.
const binding = await (await fetch(`${base}/runtime/webhooks/durabletask/clientbinding`)).json();
const input = df.input.durableClient();
const client = df.getClient({
  options: { extraInputs: [input] },
  extraInputs: { get: () => binding },
});

const facts = {};
const request = { method: "POST", url: `${base}/api/orchestrators/x`, headers: new Headers(), params: {}, query: new URLSearchParams() };

// The server's own wait: no client looks again and again.
const wait = async (id, what) => {
  console.error(`wait until ${id} has ${what}`);
  const path = `/api/v1/hubs/${binding.taskHubName}/instances/${id}/wait`;
  const waited = await (await fetch(`${base}${path}?for=${what}&timeout=30`)).json();
  if (!waited.isMet) throw new Error(`${id} has not ${what}: ${JSON.stringify(waited)}`);
  return client.getStatus(id);
};

await client.startNew("E1_HelloSequence", { instanceId: "npm-hello" });
const waited = await client.waitForCompletionOrCreateCheckStatusResponse(request, "npm-hello", {
  timeoutInMilliseconds: 20_000,
  retryIntervalInMilliseconds: 100,
});
facts.hello = [waited.status, JSON.parse(await new Response(waited.body).text())];

const full = await client.getStatus("npm-hello", { showHistory: true, showHistoryOutput: true, showInput: true });
facts.history = full.history.filter((event) => event.EventType === "TaskCompleted").map((event) => event.Result);
facts.output = full.output;

await client.startNew("WaitEvent", { instanceId: "npm-event" });
await wait("npm-event", "started");
const check = client.createCheckStatusResponse(request, "npm-event");
facts.check = [check.status, Object.keys(client.createHttpManagementPayload("npm-event")).sort()];
await client.suspend("npm-event", "a pause");
facts.suspended = (await client.getStatus("npm-event")).runtimeStatus;
await client.resume("npm-event", "it is over");
await client.raiseEvent("npm-event", "Go", { answer: 42 });
facts.event = (await wait("npm-event", "ended")).output;

await client.startNew("WaitEvent", { instanceId: "npm-end", input: 1 });
await wait("npm-end", "started");
await client.terminate("npm-end", "no longer needed");
const ended = await client.getStatus("npm-end");
facts.terminated = [ended.runtimeStatus, ended.output];

facts.all = (await client.getStatusAll()).map((status) => status.instanceId).filter((id) => id.startsWith("npm-")).sort();
facts.completed = (await client.getStatusBy({ runtimeStatus: [df.OrchestrationRuntimeStatus.Completed] }))
  .map((status) => status.instanceId).filter((id) => id.startsWith("npm-")).sort();
facts.purged = (await client.purgeInstanceHistory("npm-hello")).instancesDeleted;
const by = { createdTimeFrom: new Date(0), runtimeStatus: [df.OrchestrationRuntimeStatus.Terminated] };
facts.purgedBy = (await client.purgeInstanceHistoryBy(by)).instancesDeleted;
try {
  await client.getStatus("npm-hello");
  facts.gone = false;
} catch {
  facts.gone = true;
}
console.log(JSON.stringify(facts));
