"""What the article does with a client, through PyPI `azure-functions-durable` as published.

Prints the facts as one JSON object. Usage: python article.py <base address>
"""

import asyncio
import json
import sys
import urllib.request
from datetime import datetime, timezone

from azure.durable_functions import DurableOrchestrationClient, OrchestrationRuntimeStatus

base = sys.argv[1]


def call(path):
    with urllib.request.urlopen(base + path, timeout=60) as answer:
        return answer.read().decode()


def wait(hub, instance, what):
    """The server's own wait: no client looks again and again."""
    print(f"wait until {instance} has {what}", file=sys.stderr)
    waited = json.loads(call(f"/api/v1/hubs/{hub}/instances/{instance}/wait?for={what}&timeout=30"))
    if not waited["isMet"]:
        raise TimeoutError(f"{instance} has not {what}: {waited}")


async def main():
    # What the Functions host does: it hands the binding over as a text.
    binding = call("/runtime/webhooks/durabletask/clientbinding")
    client = DurableOrchestrationClient(binding)
    hub = json.loads(binding)["taskHubName"]
    facts = {}
    states = OrchestrationRuntimeStatus

    await client.start_new("E1_HelloSequence", "py-hello", None)
    wait(hub, "py-hello", "ended")
    full = await client.get_status("py-hello", show_history=True, show_history_output=True, show_input=True)
    facts["history"] = [event["Result"] for event in full.history if event["EventType"] == "TaskCompleted"]
    facts["output"] = full.output

    await client.start_new("WaitEvent", "py-event", {"n": 1})
    wait(hub, "py-event", "started")
    facts["check"] = sorted(client.create_http_management_payload("py-event"))
    await client.suspend("py-event", "a pause")
    facts["suspended"] = (await client.get_status("py-event")).runtime_status.name
    await client.resume("py-event", "it is over")
    await client.raise_event("py-event", "Go", {"answer": 42})
    wait(hub, "py-event", "ended")
    facts["event"] = (await client.get_status("py-event")).output

    await client.start_new("WaitEvent", "py-end", None)
    wait(hub, "py-end", "started")
    await client.terminate("py-end", "no longer needed")
    ended = await client.get_status("py-end")
    facts["terminated"] = [ended.runtime_status.name, ended.output]

    own = lambda statuses: sorted(s.instance_id for s in statuses if s.instance_id.startswith("py-"))
    facts["all"] = own(await client.get_status_all())
    epoch = datetime(2000, 1, 1, tzinfo=timezone.utc)
    facts["completed"] = own(await client.get_status_by(created_time_from=epoch, runtime_status=[states.Completed]))
    facts["purged"] = (await client.purge_instance_history("py-hello")).instances_deleted
    purged = await client.purge_instance_history_by(created_time_from=epoch, runtime_status=[states.Terminated])
    facts["purgedBy"] = purged.instances_deleted
    print(json.dumps(facts))


asyncio.run(main())
