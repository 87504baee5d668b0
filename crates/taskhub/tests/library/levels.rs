//! How deep JSON may be nested: as deep as all clients can read, everywhere; what is deeper is refused where it is
//! handed over.

#![expect(clippy::unwrap_used, reason = "what a test cannot make fails the test")]

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use serde::{Deserialize, Serialize};
use taskhub::{ActivityContext, Hub, OrchestrationContext, Payload, Raw, Registry, Result};

/// A value of a type that knows itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Node {
    is_last: bool,
    next: Option<Box<Node>>,
}

fn nested(levels: usize) -> Node {
    let mut node = Node {
        is_last: false,
        next: None,
    };
    for _ in 1..levels {
        node = Node {
            is_last: false,
            next: Some(Box::new(node)),
        };
    }
    node
}

fn text(levels: usize) -> Payload {
    Payload::text(&serde_json::to_string(&nested(levels)).unwrap())
}

/// Takes a value every way there is.
async fn relay(ctx: OrchestrationContext, node: Node) -> Result<Node> {
    ctx.set_custom_status(&node)?;
    let mut node: Node = ctx.call_activity("Same", node).await?;
    if node.is_last {
        return Ok(node);
    }
    node = ctx.call_sub_orchestrator("Child", node).await?;
    ctx.raise_event(ctx.instance_id(), "Back", &node)?;
    node = ctx.wait_for_external_event("Back").await?;
    let raw = ctx.call_activity::<Raw, _>("SameRaw", Raw::from(text(120))).await?;
    ctx.call_sub_orchestrator::<Raw, _>("ChildRaw", raw).await?;
    node.is_last = true;
    ctx.continue_as_new(node)
}

async fn child(_: OrchestrationContext, node: Node) -> Result<Node> {
    Ok(node)
}

async fn waiting(ctx: OrchestrationContext, (): ()) -> Result<Node> {
    Ok(ctx.wait_for_external_event("Go").await?)
}

async fn child_raw(_: OrchestrationContext, input: Raw) -> Result<Raw> {
    Ok(input)
}

/// Hands over what is too deep every way there is; says what came of it.
async fn refused(ctx: OrchestrationContext, (): ()) -> Result<Vec<String>> {
    let (deep, raw) = (nested(121), || Raw::from(text(121)));
    let mut said = Vec::new();
    for result in [
        ctx.set_custom_status(&deep),
        ctx.raise_event(ctx.instance_id(), "Back", &deep),
        ctx.start_new("Child", &deep).await.map(|_| ()),
        ctx.continue_as_new::<()>(&deep),
    ] {
        said.push(result.unwrap_err().error_type().to_owned());
    }
    for call in [
        ctx.call_activity::<Node, _>("Same", &deep).await.map(|_| ()),
        ctx.call_activity::<Raw, _>("SameRaw", raw()).await.map(|_| ()),
        ctx.call_sub_orchestrator::<Node, _>("Child", &deep).await.map(|_| ()),
        ctx.call_sub_orchestrator::<Raw, _>("ChildRaw", raw()).await.map(|_| ()),
        // These run, and fail themselves.
        ctx.call_activity::<Node, _>("Deep", ()).await.map(|_| ()),
        ctx.call_activity::<Node, _>("DeepRaw", ()).await.map(|_| ()),
        ctx.call_activity::<Node, _>("DeepBlocking", ()).await.map(|_| ()),
        ctx.call_sub_orchestrator::<Node, _>("DeepOutput", ()).await.map(|_| ()),
        ctx.call_sub_orchestrator::<Node, _>("DeepOutputRaw", ())
            .await
            .map(|_| ()),
    ] {
        said.push(call.unwrap_err().error_type().to_owned());
    }
    Ok(said)
}

async fn hub(runs: &Arc<AtomicUsize>) -> Hub {
    let (typed, raw) = (Arc::clone(runs), Arc::clone(runs));
    let same = move |_: ActivityContext, node: Node| {
        typed.fetch_add(1, Ordering::SeqCst);
        async move { Ok::<_, taskhub::Error>(node) }
    };
    let same_raw = move |_: ActivityContext, input: Raw| {
        raw.fetch_add(1, Ordering::SeqCst);
        async move { Ok::<_, taskhub::Error>(input) }
    };
    let deep = async |_: ActivityContext, (): ()| Ok::<_, taskhub::Error>(nested(121));
    let deep_raw = async |_: ActivityContext, _: Raw| Ok::<_, taskhub::Error>(Raw::from(text(121)));
    let deep_output = async |_: OrchestrationContext, (): ()| Ok::<_, taskhub::Error>(nested(121));
    let deep_output_raw = async |_: OrchestrationContext, _: Raw| Ok::<_, taskhub::Error>(Raw::from(text(121)));
    let registry = Registry::new()
        .orchestrator("Relay", relay)
        .orchestrator("Refused", refused)
        .orchestrator("Child", child)
        .orchestrator("Waiting", waiting)
        .orchestrator("ChildRaw", child_raw)
        .orchestrator("DeepOutput", deep_output)
        .orchestrator("DeepOutputRaw", deep_output_raw)
        .activity("Same", same)
        .activity("SameRaw", same_raw)
        .activity("Deep", deep)
        .activity("DeepRaw", deep_raw)
        .blocking_activity("DeepBlocking", |_, (): ()| Ok::<_, taskhub::Error>(nested(121)));
    let builder = Hub::builder("Levels").registry(registry).check_replay(true);
    builder.in_memory().await.unwrap()
}

#[tokio::test]
async fn a_hundred_and_twenty_levels_pass_everywhere() {
    let hub = hub(&Arc::default()).await;
    let client = hub.client();
    let id = client.start_new("Relay", nested(120)).await.unwrap();
    let output: Node = client.wait_for_completion(&id).await.unwrap();
    assert_eq!(
        output,
        Node {
            is_last: true,
            ..nested(120)
        }
    );
    let rows = client.get_status_all().await.unwrap();
    let row = rows.iter().find(|row| row.instance == *id.id()).unwrap();
    for payload in [&row.input, &row.output, &row.custom_status] {
        // A list and a record stand around it where it is shown.
        let shown = format!("[{{\"x\":{}}}]", payload.as_ref().unwrap().to_text());
        serde_json::from_str::<serde_json::Value>(&shown).unwrap();
    }
    let raw = client.start("ChildRaw", Raw::from(text(120))).await.unwrap();
    client.wait_for_completion::<Node>(&raw).await.unwrap();
}

#[tokio::test]
async fn one_more_is_refused_where_it_is_handed_over() {
    let runs = Arc::new(AtomicUsize::new(0));
    let hub = hub(&runs).await;
    let client = hub.client();
    let id = client.start_new("Refused", ()).await.unwrap();
    let said: Vec<String> = client.wait_for_completion(&id).await.unwrap();
    assert_eq!(said, ["PayloadTooDeep"; 13]);
    assert_eq!(runs.load(Ordering::SeqCst), 0, "nothing ran with what was refused");
    let id = client.start_new("DeepOutput", ()).await.unwrap();
    let info = client.wait_for_end(&id).await.unwrap();
    let failure = info.failure.unwrap();
    let told = "the output of orchestrator `DeepOutput` is nested 121 levels deep, and at most 120 are accepted";
    assert_eq!(
        (failure.error_type.as_str(), failure.message.as_str()),
        ("PayloadTooDeep", told)
    );
}

#[tokio::test]
async fn a_client_is_told_at_once() {
    let hub = hub(&Arc::default()).await;
    let client = hub.client();
    let started = client.start_new("Relay", nested(121)).await.unwrap_err();
    let told = "the input of orchestrator `Relay` is nested 121 levels deep, and at most 120 are accepted";
    assert_eq!(
        (started.code(), started.to_string().as_str()),
        ("payload-too-deep", told)
    );
    let started = client.start("ChildRaw", Raw::from(text(121))).await;
    assert_eq!(started.unwrap_err().code(), "payload-too-deep");
    assert!(client.get_status_all().await.unwrap().is_empty());
    let id = client.start_new("Waiting", ()).await.unwrap();
    for raised in [
        client.raise_event(&id, "Go", nested(121)).await,
        client.raise_event(&id, "Go", nested(121)).key("key").await,
        client.raise_event(&id, "Go", Raw::from(text(121))).await,
    ] {
        assert_eq!(raised.unwrap_err().code(), "payload-too-deep");
    }
    // What is no JSON has no levels, however it looks.
    let brackets = Payload::text(&"[".repeat(1_000));
    let id = client.start("ChildRaw", Raw::from(brackets.clone()));
    let info = client.wait_for_end(&id.await.unwrap()).await.unwrap();
    assert_eq!(info.output, Some(brackets));
}
