"""Does what a program does with a client, through PyPI `azure-functions-durable` as published, and prints what came of it:
one JSON object with a member for each group of facts. What it is about to do goes to the standard error.

Usage: python facts.py <base address>
"""

import asyncio
import json
import re
import sys
import urllib.error
import urllib.request
from datetime import datetime, timedelta, timezone

from azure.durable_functions import DurableOrchestrationClient, EntityId, OrchestrationRuntimeStatus
from azure.functions import HttpRequest

base = sys.argv[1]
EPOCH = datetime(2000, 1, 1, tzinfo=timezone.utc)
Completed, Failed, Running, Terminated = (
    OrchestrationRuntimeStatus[name] for name in ("Completed", "Failed", "Running", "Terminated")
)


def call(method, link, body=None):
    headers = {} if body is None else {"Content-Type": "application/json"}
    request = urllib.request.Request(link, method=method, data=body and body.encode(), headers=headers)
    try:
        with urllib.request.urlopen(request, timeout=100) as answer:
            return answer.status, answer.read().decode(), answer.headers
    except urllib.error.HTTPError as answer:
        return answer.code, answer.read().decode(), answer.headers


# What the Functions host does: it hands the binding over as a text.
binding = call("GET", f"{base}/runtime/webhooks/durabletask/clientbinding")[1]
hub = json.loads(binding)["taskHubName"]
client = DurableOrchestrationClient(binding)
request = HttpRequest(method="POST", url=f"{base}/api/orchestrators/x", body=b"")


async def wait(instance, what):
    """The server's own wait: no client looks again and again."""
    print(f"wait until {instance} has {what}", file=sys.stderr)
    waited = call("GET", f"{base}/api/v1/hubs/{hub}/instances/{instance}/wait?for={what}&timeout=60")[1]
    if not json.loads(waited)["isMet"]:
        raise TimeoutError(f"{instance} has not {what}: {waited}")
    return await client.get_status(instance)


async def outcome(awaitable):
    try:
        result = await awaitable
        return "nothing" if result is None else result
    except Exception as error:
        return f"error: {error}"


def read(response):
    return [response.status_code, json.loads(response.get_body())]


def untimed(history):
    times = ("Timestamp", "ScheduledTime", "FireAt")
    return [{name: value for name, value in event.items() if name not in times} for event in history]


def ids(statuses):
    return sorted(status.instance_id for status in statuses)


async def results():
    await client.start_new("E1_HelloSequence", "hello", {"n": 1})
    waited = await client.wait_for_completion_or_create_check_status_response(request, "hello", 60_000, 100)
    full = await client.get_status("hello", show_history=True, show_history_output=True, show_input=True)
    brief = await client.get_status("hello", show_history=True)
    await client.start_new("Echo", "no-input")
    await client.start_new("Echo", "any-input", [0, False, "text", {"a": 1.5}, None])
    no_input = await wait("no-input", "ended")
    return {
        "waited": read(waited),
        "status": [full.name, full.instance_id, full.runtime_status.name, full.input_, full.output, full.custom_status],
        "times": full.created_time <= full.last_updated_time,
        "history": untimed(full.history),
        "hidden": [brief.input_, any("Result" in event for event in brief.history)],
        "noInput": [no_input.input_, no_input.output],
        "anyInput": (await wait("any-input", "ended")).output,
    }


async def failures():
    await client.start_new("Fail", "failed", "it broke")
    await client.start_new("Counter", "failed-activity", "missing.json")
    failed = await wait("failed", "ended")
    await wait("failed-activity", "ended")
    by_activity = await client.get_status("failed-activity", show_history=True)
    code, status = read(await client.wait_for_completion_or_create_check_status_response(request, "failed"))
    return {
        "status": [failed.runtime_status.name, failed.output],
        "waited": [code, status["instanceId"], status["runtimeStatus"], status["output"]],
        "byActivity": by_activity.output,
        "events": [[event["EventType"], event.get("Reason")] for event in by_activity.history],
    }


async def control():
    await client.start_new("ApprovalFlow", "approval")
    before = (await wait("approval", "started")).custom_status
    await client.raise_event("approval", "approval", True)
    approval = await wait("approval", "ended")

    await client.start_new("WaitEvent", "event")
    statuses = [(await wait("event", "started")).runtime_status.name]
    for verb in (client.suspend, client.resume):
        await verb("event", "a reason")
        statuses.append((await client.get_status("event")).runtime_status.name)
    await client.raise_event("event", "Go", {"answer": 42})
    event = await wait("event", "ended")

    await client.start_new("WaitEvent", "terminated")
    await client.terminate("terminated", "salt & pepper")
    terminated = await client.get_status("terminated")
    return {
        "customStatus": before,
        "approval": [approval.runtime_status.name, approval.output],
        "suspended": statuses,
        "event": [event.runtime_status.name, event.output],
        "terminated": [terminated.runtime_status.name, terminated.output],
    }


async def waits():
    await client.start_new("WaitEvent", "late")
    await wait("late", "started")
    late = await client.wait_for_completion_or_create_check_status_response(request, "late", 0, 0)
    code, links = read(late)
    checked = read(client.create_check_status_response(request, "late"))

    # From here on as somebody who has nothing but the links.
    def look():
        code, body, headers = call("GET", links["statusQueryGetUri"])
        is_there = headers["Location"] == links["statusQueryGetUri"]
        return [code, body and json.loads(body)["runtimeStatus"], is_there, headers["Retry-After"]]

    def post(name, word, body=None):
        return call("POST", links[name].replace("{text}", word).replace("{eventName}", word), body)[0]

    followed = [
        look(),
        post("suspendPostUri", "pause"),
        look(),
        post("resumePostUri", "over"),
        look(),
        post("sendEventPostUri", "Go", "42"),
        (await wait("late", "ended")).output,
        look(),
        post("terminatePostUri", "late"),
        call("DELETE", links["purgeHistoryDeleteUri"])[1],
        look(),
    ]
    return {
        "late": [code, list(links), late.headers["Location"] == links["statusQueryGetUri"], late.headers["Retry-After"]],
        "checked": [checked[0], checked[1] == links],
        "payload": client.create_http_management_payload("late") == links,
        "followed": followed,
        "contrary": await outcome(client.wait_for_completion_or_create_check_status_response(request, "late", 1, 2)),
    }


async def starts():
    await client.start_new("WaitEvent", "live")
    await wait("live", "started")
    own = await client.start_new("WaitEvent")
    await wait(own, "started")
    await client.start_new("Echo", "ended", 1)
    await wait("ended", "ended")
    return {
        "ownId": re.fullmatch("[0-9a-f]{32}", own) is not None,
        "at": await outcome(client.start_new("Echo", "@x")),
        "tooLong": await outcome(client.start_new("Echo", "x" * 257)),
        "slash": await outcome(client.start_new("Echo", "a/b")),
        "live": await outcome(client.start_new("Echo", "live")),
        "ended": [await client.start_new("Echo", "ended", 2), (await wait("ended", "ended")).output],
    }


async def ended():
    await client.start_new("Echo", "over", 1)
    await wait("over", "ended")

    async def every(instance):
        return {
            "suspend": await outcome(client.suspend(instance, "why")),
            "resume": await outcome(client.resume(instance, "why")),
            "terminate": await outcome(client.terminate(instance, "why")),
            "event": await outcome(client.raise_event(instance, "Go", 1)),
            "rewind": await outcome(client.rewind(instance, "why")),
            "restart": await outcome(client.restart(instance)),
        }

    missing = await client.get_status("missing")
    entity = EntityId("counter", "x")
    return {
        "over": await every("over"),
        "unchanged": (await client.get_status("over")).runtime_status.name,
        "missing": await every("missing"),
        "missingStatus": [bool(missing), missing.runtime_status],
        "entity": (await client.read_entity_state(entity)).entity_exists,
        "signal": await outcome(client.signal_entity(entity, "add", 1)),
    }


async def lists():
    """What the others have left behind is listed, and then removed."""
    before = len(await client.get_status_all())
    many = [f"many-{number:03}" for number in range(105)]
    await asyncio.gather(*(client.start_new("Echo", instance, 1) for instance in many))
    for instance in many:
        await wait(instance, "ended")
    by = client.get_status_by
    later = datetime.now(timezone.utc) + timedelta(minutes=1)
    return {
        "before": before,
        "all": len(await client.get_status_all()),
        "prefix": len(await by(instance_id_prefix="many-")),
        "narrow": ids(await by(instance_id_prefix="many-00")),
        "failed": ids(await by(runtime_status=[Failed])),
        "two": ids(await by(runtime_status=[Failed, Terminated])),
        "window": len(await by(created_time_from=datetime.min, created_time_to=later, instance_id_prefix="many-01")),
        "old": await by(created_time_from=EPOCH, created_time_to=EPOCH),
    }


async def purges():
    async def one(instance):
        return (await client.purge_instance_history(instance)).instances_deleted

    async def by(*times, status=None):
        return (await client.purge_instance_history_by(*times, runtime_status=status)).instances_deleted

    return {
        "one": await one("hello"),
        "again": await one("hello"),
        "gone": bool(await client.get_status("hello")),
        "live": await outcome(one("live")),
        "unbounded": await outcome(by(status=[Failed])),
        "old": await by(EPOCH, EPOCH),
        "running": await by(EPOCH, status=[Running]),
        "failed": await by(EPOCH, status=[Failed]),
        "completed": await by(EPOCH, status=[Completed]),
        "ended": await by(EPOCH),
        "endedAgain": await by(EPOCH),
        "left": [status.runtime_status.name for status in await client.get_status_all()],
    }


async def main():
    facts = {}
    for group in (results, failures, control, waits, starts, ended, lists, purges):
        print(group.__name__, file=sys.stderr)
        facts[group.__name__] = await group()
    print(json.dumps(facts))


asyncio.run(main())
