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


async def settled(client, instance, *statuses):
    while True:
        status = await client.get_status(instance)
        if status.runtime_status in statuses:
            return status
        await asyncio.sleep(0.01)


async def main():
    # What the Functions host does: it hands the binding over as a text.
    with urllib.request.urlopen(f"{base}/runtime/webhooks/durabletask/clientbinding") as answer:
        client = DurableOrchestrationClient(answer.read().decode())
    facts = {}
    states = OrchestrationRuntimeStatus

    await client.start_new("E1_HelloSequence", "py-hello", None)
    await settled(client, "py-hello", states.Completed)
    full = await client.get_status("py-hello", show_history=True, show_history_output=True, show_input=True)
    facts["history"] = [event["Result"] for event in full.history if event["EventType"] == "TaskCompleted"]
    facts["output"] = full.output

    await client.start_new("WaitEvent", "py-event", {"n": 1})
    await settled(client, "py-event", states.Running)
    facts["check"] = sorted(client.create_http_management_payload("py-event"))
    await client.suspend("py-event", "a pause")
    facts["suspended"] = (await settled(client, "py-event", states.Suspended)).runtime_status.name
    await client.resume("py-event", "it is over")
    await settled(client, "py-event", states.Running)
    await client.raise_event("py-event", "Go", {"answer": 42})
    facts["event"] = (await settled(client, "py-event", states.Completed)).output

    await client.start_new("WaitEvent", "py-end", None)
    await settled(client, "py-end", states.Running)
    await client.terminate("py-end", "no longer needed")
    ended = await settled(client, "py-end", states.Terminated)
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
