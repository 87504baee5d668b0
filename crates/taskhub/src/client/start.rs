//! Starting an instance.

use std::future::IntoFuture;

use taskhub_api::id::fresh;
use taskhub_core::event::Tags;
use taskhub_core::id::{IdempotencyKey, InstanceId, Name};
use taskhub_core::message::{Repeats, ReusePolicy, StartRequest};
use taskhub_core::payload::Payload;
use taskhub_core::refusal::Refusal;
use taskhub_core::time::Timestamp;

use super::{Answer, Client};
use crate::codec;
use crate::hub_error::HubError;
use crate::instance::{Instance, ToInstanceId};

/// A start, made by awaiting it; see [`Client::start`].
#[derive(Debug)]
#[must_use = "nothing is started until this is awaited"]
pub struct Start {
    client: Client,
    name: String,
    input: Result<Option<Payload>, HubError>,
    id: Option<Result<InstanceId, Refusal>>,
    version: Option<String>,
    tags: Tags,
    at: Option<Timestamp>,
    reuse: ReusePolicy,
    key: Option<String>,
}

impl Start {
    pub(super) fn new(client: Client, name: &str, input: Result<Option<Payload>, HubError>) -> Self {
        Self {
            client,
            name: name.to_owned(),
            input,
            id: None,
            version: None,
            tags: Tags::new(),
            at: None,
            reuse: ReusePolicy::default(),
            key: None,
        }
    }

    /// The id of the instance; a random one unless said otherwise.
    pub fn id(mut self, id: impl ToInstanceId) -> Self {
        self.id = Some(id.to_instance_id());
        self
    }

    /// The version to run under (R159).
    pub fn version(mut self, version: impl Into<String>) -> Self {
        self.version = Some(version.into());
        self
    }

    /// Adds a label.
    pub fn tag(mut self, key: impl Into<String>, value: impl Into<String>) -> Self {
        self.tags.insert(key.into(), value.into());
        self
    }

    /// Not to start before this moment (R15).
    pub fn at(mut self, moment: Timestamp) -> Self {
        self.at = Some(moment);
        self
    }

    /// What may become of an existing instance with the id. Unless said otherwise it is replaced when it
    /// has ended, and the start is refused while it is live (R136).
    pub fn reuse(mut self, policy: ReusePolicy) -> Self {
        self.reuse = policy;
        self
    }

    /// An idempotency key: makes a repeated start with the same key succeed without effect for 24 hours, so that a start
    /// whose answer was lost can be repeated. With a key and no id, the id is derived from the key (R139, A31). A key
    /// stands for one start of one instance: with another orchestrator or input the start is refused with
    /// `idempotency-conflict`. It is kept when the id is started again, and forgotten when the instance is purged.
    pub fn key(mut self, key: impl Into<String>) -> Self {
        self.key = Some(key.into());
        self
    }

    async fn send(self) -> Result<Instance, HubError> {
        let input = self.input?;
        let instance = match (self.id, &self.key) {
            (Some(id), _) => id?,
            (None, key) => fresh(key.as_deref())?,
        };
        codec::check_levels(
            input.as_ref(),
            format_args!("the input of orchestrator `{}`", self.name),
        )?;
        let request = StartRequest {
            instance: instance.clone(),
            name: Name::new(&self.name)?,
            version: self.version.as_deref().map(Name::new).transpose()?,
            input,
            tags: self.tags,
            scheduled_start: self.at,
            execution: None,
            reuse: self.reuse,
            key: self.key.as_deref().map(IdempotencyKey::new).transpose()?,
            repeats: Repeats::Always,
        };
        self.client.engine.start(request).await?;
        Ok(Instance::new(&self.client, instance))
    }
}

impl IntoFuture for Start {
    type Output = Result<Instance, HubError>;
    type IntoFuture = Answer<Instance>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(self.send())
    }
}
