//! Values come back as they were given, on every way there is: numbers bit for bit, bytes byte for byte.

#![expect(clippy::unwrap_used, reason = "tests fail by panicking")]

use serde::{Deserialize, Serialize};
use serde_json::Value;
use serde_json::value::RawValue;
use taskhub::testing::TestHub;
use taskhub::{
    ActivityContext, Client, Error, EventKind, Hub, InstanceId, OrchestrationContext, Payload, Raw, Registry, Result,
    Uuid,
};

use crate::documents::{document, double, random};

/// What is sent around.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Batch {
    doubles: Vec<f64>,
    floats: Vec<f32>,
    wide: Vec<(i64, u64, i128, u128)>,
    value: Value,
    one: Option<f64>,
    kind: Kind,
}

/// Numbers where serde looks at a value before it knows its type.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(tag = "kind")]
enum Kind {
    Circle { radius: f64 },
}

impl Batch {
    fn new(rng: &mut fastrand::Rng, length: usize) -> Self {
        let value: Vec<f64> = (0..length).map(|_| double(rng)).collect();
        let float = |rng: &mut fastrand::Rng| loop {
            let float = f32::from_bits(rng.u32(..));
            if float.is_finite() {
                return float;
            }
        };
        Self {
            doubles: (0..length).map(|_| double(rng)).collect(),
            floats: (0..length)
                .map(|_| float(rng))
                .chain([-0.0, 0.1, f32::MIN_POSITIVE])
                .collect(),
            wide: vec![
                (i64::MIN, u64::MAX, i128::MIN, u128::MAX),
                (rng.i64(..), rng.u64(..), rng.i128(..), rng.u128(..)),
            ],
            value: serde_json::json!({ "numbers": value, "most": u64::MAX, "least": i64::MIN }),
            one: Some(double(rng)),
            kind: Kind::Circle { radius: double(rng) },
        }
    }

    /// All of it as bits, since `0.0 == -0.0`.
    fn bits(&self) -> (Vec<u64>, Vec<u32>, String) {
        let Kind::Circle { radius } = self.kind;
        let in_value = self.value["numbers"].as_array().unwrap();
        let in_value = in_value.iter().map(|number| number.as_f64().unwrap());
        let doubles = self
            .doubles
            .iter()
            .copied()
            .chain(in_value)
            .chain(self.one)
            .chain([radius]);
        (
            doubles.map(f64::to_bits).collect(),
            self.floats.iter().map(|float| float.to_bits()).collect(),
            format!("{:?} {} {}", self.wide, self.value["most"], self.value["least"]),
        )
    }
}

fn same(given: &Batch, back: &Batch) {
    assert_eq!(given.bits(), back.bits());
}

/// Sends what it was started with everywhere, and returns what came of it.
async fn around(ctx: OrchestrationContext, (rounds, batch): (u32, Batch)) -> Result<Vec<Batch>> {
    if rounds > 0 {
        return ctx.continue_as_new((rounds - 1, batch));
    }
    ctx.set_custom_status(&batch)?;
    let done: Batch = ctx.call_activity("Same", &batch).await?;
    let child: Batch = ctx.call_sub_orchestrator("Child", &done).await?;
    ctx.raise_event(ctx.instance_id(), "Own", &child)?;
    let own: Batch = ctx.wait_for_external_event("Own").await?;
    let sent: Batch = ctx.wait_for_external_event("Sent").await?;
    Ok(vec![batch, done, child, own, sent])
}

async fn child(_: OrchestrationContext, batch: Batch) -> Result<Batch> {
    Ok(batch)
}

async fn same_batch(_: ActivityContext, batch: Batch) -> Result<Batch> {
    Ok(batch)
}

fn read<T: serde::de::DeserializeOwned>(payload: Option<&Payload>) -> T {
    serde_json::from_slice(payload.unwrap().bytes()).unwrap()
}

#[tokio::test]
async fn every_number_comes_back_bit_for_bit() {
    let hub = Hub::builder("TestHub")
        .orchestrator("Around", around)
        .orchestrator("Child", child)
        .activity("Same", same_batch)
        .check_replay(true)
        .in_memory()
        .await
        .unwrap();
    let client = hub.client();
    let mut rng = random();
    // 10,000 doubles in lists, and as many in values without a type.
    for _ in 0..125 {
        let batch = Batch::new(&mut rng, 80);
        let id = client.start_new("Around", (2, &batch)).await.unwrap();
        client.raise_event(&id, "Sent", &batch).await.unwrap();
        let back: Vec<Batch> = client.wait_for_completion(&id).await.unwrap();
        assert_eq!(back.len(), 5);
        for back in &back {
            same(&batch, back);
        }
        let info = client.get_status(&id).await.unwrap().unwrap().info;
        same(&batch, &read(info.custom_status.as_ref()));
        let (_, input): (u32, Batch) = read(info.input.as_ref());
        same(&batch, &input);
    }
}

/// Sends texts everywhere, through functions that take types.
async fn around_texts(
    ctx: OrchestrationContext,
    (rounds, texts): (u32, Vec<Box<RawValue>>),
) -> Result<Vec<Box<RawValue>>> {
    if rounds > 0 {
        return ctx.continue_as_new((rounds - 1, texts));
    }
    for text in &texts {
        // One that is too large leaves the one before it.
        let _refused = ctx.set_custom_status(text);
    }
    let done: Vec<Box<RawValue>> = ctx.call_activity("SameTexts", &texts).await?;
    let child: Vec<Box<RawValue>> = ctx.call_sub_orchestrator("ChildTexts", &done).await?;
    ctx.raise_event(ctx.instance_id(), "Own", &child)?;
    let own: Vec<Box<RawValue>> = ctx.wait_for_external_event("Own").await?;
    let sent: Box<RawValue> = ctx.wait_for_external_event("Sent").await?;
    Ok(own.into_iter().chain([sent]).collect())
}

/// Sends bytes everywhere, through functions that do not look at them.
async fn around_bytes(ctx: OrchestrationContext, bytes: Raw) -> Result<Raw> {
    let done = ctx.call_activity::<Raw, _>("SameBytes", bytes).await?;
    let child = ctx.call_sub_orchestrator::<Raw, _>("ChildBytes", done).await?;
    let sent = ctx.wait_for_external_event::<Raw>("Sent").await?;
    if child == sent {
        Ok(child)
    } else {
        Err(Error::msg("what was sent and what came back differ"))
    }
}

fn texts_and_bytes() -> Registry {
    Registry::new()
        .orchestrator("AroundTexts", around_texts)
        .orchestrator("ChildTexts", async |_, texts: Vec<Box<RawValue>>| Ok::<_, Error>(texts))
        .activity("SameTexts", async |_, texts: Vec<Box<RawValue>>| Ok::<_, Error>(texts))
        .orchestrator("AroundBytes", around_bytes)
        .orchestrator("ChildBytes", async |_, bytes: Raw| Ok::<_, Error>(bytes))
        .activity("SameBytes", async |_, bytes: Raw| Ok::<_, Error>(bytes))
}

#[tokio::test]
async fn every_text_comes_back_byte_for_byte() {
    let hub = Hub::builder("TestHub").registry(texts_and_bytes());
    let hub = hub.check_replay(true).in_memory().await.unwrap();
    let client = hub.client();
    let mut rng = random();
    // 10,000 documents.
    for _ in 0..100 {
        let texts: Vec<String> = (0..100).map(|_| document(&mut rng)).collect();
        let all = format!("[{}]", texts.join(","));
        let typed = RawValue::from_string(all.clone()).unwrap();
        let sent = document(&mut rng);
        let id = client.start_new("AroundTexts", (1, &typed)).await.unwrap();
        let payload = Some(Payload::text(&format!(" {sent}\n")));
        client.raise_event(&id, "Sent", Raw(payload)).await.unwrap();
        let info = client.wait_for_end(&id).await.unwrap();
        let output = info.output.unwrap().to_text();
        assert_eq!(output, format!("[{},{sent}]", texts.join(",")));
        // What has nothing to say is absent.
        let shown = info.custom_status.map_or("null".to_owned(), |shown| shown.to_text());
        assert!(texts.contains(&shown), "{shown}");

        // White space around a value is part of the bytes.
        let bytes = Payload::text(&format!("\t{all} "));
        let id = client.start("AroundBytes", Raw::from(bytes.clone())).await.unwrap();
        client.raise_event(&id, "Sent", Raw(Some(bytes.clone()))).await.unwrap();
        let info = client.wait_for_end(&id).await.unwrap();
        assert_eq!(
            (info.input.as_ref(), info.output.as_ref()),
            (Some(&bytes), Some(&bytes))
        );
        histories_hold(&client, id.id(), &bytes).await;
    }
}

/// Each payload of a history is this one.
async fn histories_hold(client: &Client, id: &InstanceId, bytes: &Payload) {
    let status = client.get_status(id).with_history_output().await.unwrap().unwrap();
    let mut count = 0;
    for event in status.history.unwrap() {
        let payload = match event.kind {
            EventKind::ExecutionStarted(started) => started.input,
            EventKind::TaskScheduled { input, .. }
            | EventKind::SubOrchestrationInstanceCreated { input, .. }
            | EventKind::EventRaised { input, .. } => input,
            EventKind::TaskCompleted { result, .. }
            | EventKind::SubOrchestrationInstanceCompleted { result, .. }
            | EventKind::ExecutionCompleted { result, .. } => result,
            _ => continue,
        };
        assert_eq!(payload.as_ref(), Some(bytes));
        count += 1;
    }
    assert_eq!(count, 7);
}

/// `serde_json` by itself writes `null` for these.
#[test]
fn numbers_that_json_does_not_have_are_refused_wherever_they_are_written() {
    let not_numbers = async |ctx: OrchestrationContext, way: String| -> Result<f64> {
        match way.as_str() {
            "activity" => ctx.call_activity::<(), _>("Work", f64::NAN).await?,
            "child" => {
                ctx.call_sub_orchestrator::<(), _>("Work", [Some(f64::INFINITY)])
                    .await?;
            }
            "detached" => _ = ctx.start_new("Work", f32::NEG_INFINITY).await?,
            "event" => ctx.raise_event(ctx.instance_id(), "Go", ("x", f64::NAN))?,
            "status" => ctx.set_custom_status(Kind::Circle { radius: f64::NAN })?,
            "next" => return ctx.continue_as_new(std::collections::BTreeMap::from([("x", f64::NAN)])),
            "result" => {
                ctx.call_activity::<Value, _>("Divide", (1.0, 0.0)).await?;
            }
            _ => return Ok(f64::NEG_INFINITY),
        }
        Ok(0.0)
    };
    let divide = async |_: ActivityContext, (one, other): (f64, f64)| Ok::<_, Error>(Some(one / other));
    let registry = || {
        Registry::new()
            .orchestrator("NotNumbers", not_numbers)
            .activity("Divide", divide)
    };
    for (way, number) in [
        (
            "activity",
            "the input of activity `Work`, a `f64`, as JSON: JSON cannot represent the number NaN",
        ),
        ("child", "JSON cannot represent the number inf"),
        ("detached", "a `f32`, as JSON: JSON cannot represent the number -inf"),
        (
            "event",
            "the payload of event `Go`, a `(&str, f64)`, as JSON: JSON cannot represent the number NaN",
        ),
        (
            "status",
            "cannot write the custom status, a `library::values::Kind`, as JSON: JSON cannot represent the number NaN",
        ),
        ("next", "cannot write the input of the next execution"),
        (
            "result",
            "the output of activity `Divide`, a `core::option::Option<f64>`, as JSON: JSON cannot represent the \
            number inf",
        ),
        (
            "output",
            "the output of orchestrator `NotNumbers`, a `f64`, as JSON: JSON cannot represent the number -inf",
        ),
    ] {
        let failure = TestHub::new(registry())
            .run_orchestrator::<f64, _>("NotNumbers", way)
            .unwrap_err();
        let cause = failure.inner.as_deref().unwrap_or(&failure);
        assert_eq!(cause.error_type, "SerializationError", "{way}: {failure}");
        assert!(cause.message.contains(number), "{way}: {failure}");
        assert!(cause.non_retriable, "{way}");
    }
}

#[tokio::test]
async fn a_client_is_told_of_numbers_that_json_does_not_have() {
    let hub = Hub::builder("TestHub")
        .registry(texts_and_bytes())
        .in_memory()
        .await
        .unwrap();
    let client = hub.client();
    let error = client.start_new("AroundTexts", f64::NAN).await.unwrap_err();
    assert_eq!(error.code(), "invalid-argument");
    assert!(
        error.to_string().contains("JSON cannot represent the number NaN"),
        "{error}"
    );
    assert!(client.instances().await.unwrap().is_empty());
    let id = client.start_new("AroundTexts", (0, [0; 0])).await.unwrap();
    let error = client.raise_event(&id, "Sent", [f32::INFINITY]).await.unwrap_err();
    assert!(
        error.to_string().contains("JSON cannot represent the number inf"),
        "{error}"
    );
    client.start("AroundTexts", (0, [1])).await.unwrap();
}

/// What serde can write comes out as `serde_json` writes it.
#[test]
fn all_else_is_written_as_ever() {
    #[derive(Serialize)]
    struct Unit;
    #[derive(Serialize)]
    struct New(f64);
    #[derive(Serialize)]
    struct Pair(f32, Option<char>);
    #[derive(Serialize)]
    enum Sum {
        Nothing,
        One(i8),
        Two(u8, String),
        Named { at: Uuid, bytes: Vec<u8> },
    }
    #[derive(Serialize)]
    struct All<'a> {
        unit: Unit,
        new: New,
        pair: Pair,
        sums: Vec<Sum>,
        map: std::collections::BTreeMap<i32, (i128, u128)>,
        #[serde(flatten)]
        flat: Value,
        raw: &'a RawValue,
        none: Option<()>,
        #[serde(skip_serializing_if = "Option::is_none")]
        skipped: Option<u8>,
        text: std::fmt::Arguments<'a>,
    }
    let raw = RawValue::from_string("{\"b\" : 1.10, \"a\":1e400}".to_owned()).unwrap();
    let all = All {
        unit: Unit,
        new: New(-0.0),
        pair: Pair(0.1, Some('é')),
        sums: vec![
            Sum::Nothing,
            Sum::One(-1),
            Sum::Two(2, "two".to_owned()),
            Sum::Named {
                at: Uuid::nil(),
                bytes: vec![1, 2],
            },
        ],
        map: [(-1, (i128::MIN, u128::MAX))].into(),
        flat: serde_json::json!({ "flat": [1.5, null, true] }),
        raw: &raw,
        none: None,
        skipped: None,
        text: format_args!("text"),
    };
    let wanted = serde_json::to_string(&all).unwrap();
    let mut hub = TestHub::new(Registry::new().orchestrator("Echo", async |_, bytes: Raw| Ok::<_, Error>(bytes)));
    let id = hub.start("Echo", &all);
    hub.run();
    assert_eq!(hub.info(&id).output.as_ref().unwrap().to_text(), wanted);
}
