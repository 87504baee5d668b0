//! Waiting for an instance on behalf of an HTTP function.

use std::future::IntoFuture;
use std::time::Duration;

use super::{Answer, Whose};
use crate::hub_error::HubError;
use crate::management::CheckStatusResponse;

/// A wait of an HTTP function for an instance, begun by awaiting it; see
/// [`Client::wait_for_completion_or_create_check_status_response`](crate::Client::wait_for_completion_or_create_check_status_response).
#[derive(Debug)]
#[must_use = "nothing is waited for until this is awaited"]
pub struct CheckStatus {
    whose: Whose,
    timeout: Duration,
    retry_interval: Duration,
}

impl CheckStatus {
    pub(super) fn new(whose: Whose) -> Self {
        Self {
            whose,
            timeout: Duration::from_secs(10),
            retry_interval: Duration::from_secs(1),
        }
    }

    /// The longest wait; 10 s unless said otherwise.
    pub fn timeout(mut self, time: Duration) -> Self {
        self.timeout = time;
        self
    }

    /// The polling interval of the original API; 1 s by default. It is validated against the timeout and otherwise
    /// unused, because the hub notifies the wait of the end and does not poll.
    pub fn retry_interval(mut self, time: Duration) -> Self {
        self.retry_interval = time;
        self
    }

    async fn send(self) -> Result<CheckStatusResponse, HubError> {
        if self.retry_interval > self.timeout {
            let (timeout, interval) = (self.timeout.as_secs_f64(), self.retry_interval.as_secs_f64());
            let what = format!("Total timeout {timeout} should be bigger than retry timeout {interval}");
            return Err(HubError::Argument { what });
        }
        let (client, id) = self.whose?;
        let pending = client.create_check_status_response(&id)?;
        match tokio::time::timeout(self.timeout, client.wait_for_end(&id)).await {
            Ok(ended) => Ok(CheckStatusResponse::ended(&ended?)),
            // The last look decides. A wait for no time at all has not even heard the answer of the first one.
            Err(_) => match client.engine.info(&id).await? {
                Some(info) if info.status.is_terminal() => Ok(CheckStatusResponse::ended(&info)),
                Some(_) => Ok(pending),
                None => Err(HubError::InstanceNotFound { id }),
            },
        }
    }
}

impl IntoFuture for CheckStatus {
    type Output = Result<CheckStatusResponse, HubError>;
    type IntoFuture = Answer<CheckStatusResponse>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(self.send())
    }
}
