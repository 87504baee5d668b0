//! Activities of a test: fakes, and registered functions run to their end on the spot.

use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};
use std::thread::{self, Thread};
use std::time::Duration;

use taskhub_core::failure::Failure;
use taskhub_core::message::Outcome;
use taskhub_core::payload::Payload;
use taskhub_engine::worker::ActivityCall;

use crate::activity::{ActivityContext, Ended, outcome};
use crate::codec::{self, FromPayload, IntoPayload};
use crate::error::{ACTIVITY_NOT_REGISTERED, Error};
use crate::management::Front;
use crate::registry::{ActivityFn, IntoError, Registry};

type Function = dyn FnMut(Option<&Payload>) -> Result<Option<Payload>, Failure>;

/// A function in the place of an activity.
pub(super) struct Fake {
    pub(super) time: Duration,
    function: Box<Function>,
}

impl Fake {
    pub(super) fn new<I, O, E>(
        name: &str,
        time: Duration,
        mut function: impl FnMut(I) -> Result<O, E> + 'static,
    ) -> Self
    where
        I: FromPayload,
        O: IntoPayload,
        E: IntoError,
    {
        let name = name.to_owned();
        let function = move |input: Option<&Payload>| {
            let input = codec::decode(input, format_args!("the input of the fake of `{name}`"))?;
            let output = function(input).map_err(|error| Error::of(error).into_failure())?;
            codec::encode(output, format_args!("the output of the fake of `{name}`"))
        };
        Self {
            time,
            function: Box::new(function),
        }
    }

    pub(super) fn call(&mut self, input: Option<&Payload>) -> Outcome {
        let function = &mut self.function;
        outcome(catch_unwind(AssertUnwindSafe(|| function(input))))
    }
}

/// Runs a registered activity to its end. One that needs a runtime, for a timer or the network, would
/// wait for ever: put a fake in its place.
pub(super) fn perform(registry: &Registry, call: ActivityCall) -> Outcome {
    let Some(entry) = registry.find_activity(&call.name) else {
        let message = registry.activity_missing(&call.name);
        let failure = Failure::new(ACTIVITY_NOT_REGISTERED, message).non_retriable();
        return Outcome::Failed(Box::new(failure));
    };
    let input = call.input.clone();
    let context = ActivityContext::new(call, Front::default());
    let ended: Ended = catch_unwind(AssertUnwindSafe(|| match &entry.function {
        ActivityFn::Async(function) => block_on(function(context, input)),
        ActivityFn::Blocking(function) => function(context, input),
    }));
    outcome(ended)
}

struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

fn block_on<T>(future: impl Future<Output = T>) -> T {
    let waker = Waker::from(Arc::new(Unpark(thread::current())));
    let mut context = Context::from_waker(&waker);
    let mut future = pin!(future);
    loop {
        if let Poll::Ready(value) = future.as_mut().poll(&mut context) {
            return value;
        }
        thread::park();
    }
}
