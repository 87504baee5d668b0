//! Events, and what ends, suspends or resumes an instance.

use std::future::IntoFuture;

use taskhub_core::id::{IdempotencyKey, InstanceId, Name};
use taskhub_core::payload::Payload;

use super::{Answer, Client, Whose, codec_error};
use crate::codec::{self, IntoPayload};
use crate::hub_error::HubError;

/// An event for an instance, raised by awaiting it; see [`Client::raise_event`].
#[derive(Debug)]
#[must_use = "nothing is raised until this is awaited"]
pub struct Raise {
    whose: Whose,
    name: String,
    payload: Result<Option<Payload>, HubError>,
    key: Option<String>,
}

impl Raise {
    pub(crate) fn new(whose: Whose, name: &str, payload: impl IntoPayload) -> Self {
        let what = whose.as_ref().map(|(_, id)| of_event(name, id)).unwrap_or_default();
        let payload = payload.into_payload(&what).map_err(codec_error);
        Self {
            whose,
            name: name.to_owned(),
            payload,
            key: None,
        }
    }

    /// An idempotency key: makes a repetition succeed without effect for 24 hours, however many keys come meanwhile; each
    /// takes some 200 bytes of memory until then (R83). Keys of events and of starts are apart. An event with another
    /// name or payload under the same key is refused with `idempotency-conflict`.
    pub fn key(mut self, key: impl Into<String>) -> Self {
        self.key = Some(key.into());
        self
    }

    async fn send(self) -> Result<(), HubError> {
        let ((client, id), payload) = (self.whose?, self.payload?);
        let key = self.key.as_deref().map(IdempotencyKey::new).transpose()?;
        codec::check_levels(payload.as_ref(), of_event(&self.name, &id))?;
        let name = Name::new(&self.name)?;
        Ok(client.engine.raise_event(&id, name, payload, key).await?)
    }
}

/// What the payload of an event is called.
fn of_event(name: &str, id: &InstanceId) -> String {
    format!("the payload of event `{name}` for instance `{id}`")
}

impl IntoFuture for Raise {
    type Output = Result<(), HubError>;
    type IntoFuture = Answer<()>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(self.send())
    }
}

/// The end of an instance, made by awaiting it; see [`Client::terminate`].
#[derive(Debug)]
#[must_use = "nothing is terminated until this is awaited"]
pub struct Terminate {
    whose: Whose,
    reason: Option<Payload>,
    recurses: bool,
}

impl Terminate {
    pub(crate) fn new(whose: Whose) -> Self {
        Self {
            whose,
            reason: None,
            recurses: false,
        }
    }

    /// Why; it becomes the output of the instance.
    pub fn reason(mut self, reason: impl Into<String>) -> Self {
        self.reason = Some(Payload::text(&reason.into()));
        self
    }

    /// Its children too, and theirs. Without this they go on (R100, R104).
    pub fn recursive(mut self) -> Self {
        self.recurses = true;
        self
    }

    async fn send(self) -> Result<(), HubError> {
        let (Client { engine, .. }, id) = self.whose?;
        Ok(engine.terminate(&id, self.reason, self.recurses).await?)
    }
}

impl IntoFuture for Terminate {
    type Output = Result<(), HubError>;
    type IntoFuture = Answer<()>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(self.send())
    }
}

/// The suspension of an instance, or its end, made by awaiting it; see [`Client::suspend`] and [`Client::resume`].
#[derive(Debug)]
#[must_use = "nothing is suspended or resumed until this is awaited"]
pub struct Steer {
    whose: Whose,
    reason: Option<Payload>,
    suspends: bool,
}

impl Steer {
    pub(crate) fn suspend(whose: Whose) -> Self {
        Self {
            whose,
            reason: None,
            suspends: true,
        }
    }

    pub(crate) fn resume(whose: Whose) -> Self {
        Self {
            suspends: false,
            ..Self::suspend(whose)
        }
    }

    /// Why; it is in the history.
    pub fn reason(mut self, reason: impl Into<String>) -> Self {
        self.reason = Some(Payload::text(&reason.into()));
        self
    }

    async fn send(self) -> Result<(), HubError> {
        let (Client { engine, .. }, id) = self.whose?;
        if self.suspends {
            engine.suspend(&id, self.reason).await?;
        } else {
            engine.resume(&id, self.reason).await?;
        }
        Ok(())
    }
}

impl IntoFuture for Steer {
    type Output = Result<(), HubError>;
    type IntoFuture = Answer<()>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(self.send())
    }
}
