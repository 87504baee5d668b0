//! Errors of all kinds on their way through functions: ours into those of others, those of others into ours, and back.
//! That it compiles is half of the test.

use std::error::Error as StdError;
use std::fmt;
use std::io;

use anyhow::Context as _;
use taskhub::testing::TestHub;
use taskhub::{
    ActivityContext, Error, Failure, Hub, HubError, OrchestrationContext, Raw, Registry, Result, RetryPolicy,
    RuntimeStatus, TaskFailed,
};

type Boxed = Box<dyn StdError + Send + Sync>;

/// Of the standard kind, with a cause.
#[derive(Debug)]
struct Unreadable(std::num::ParseIntError);

impl fmt::Display for Unreadable {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("cannot read the number")
    }
}

impl StdError for Unreadable {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        Some(&self.0)
    }
}

fn read(text: &str) -> Result<u32, Unreadable> {
    text.parse().map_err(Unreadable)
}

/// With all that an error of ours can say.
fn declined() -> Error {
    let bank = Error::new("BankError", "no funds").caused_by(io::Error::other("line 7"));
    Error::new("Declined", "the card was declined")
        .caused_by(bank)
        .non_retriable()
}

/// Checks that nothing of it got lost.
#[track_caller]
fn is_declined(failure: &Failure) {
    assert_eq!(failure, declined().failure());
}

/// One of ours on its way through anyhow or a box comes back as it was.
mod through {
    use super::*;

    fn ours() -> Result<u32> {
        Err(declined())
    }

    fn into_anyhow() -> anyhow::Result<u32> {
        Ok(ours()?)
    }

    fn into_boxed() -> Result<u32, Boxed> {
        Ok(ours()?)
    }

    fn into_local_box() -> Result<u32, Box<dyn StdError>> {
        Ok(ours()?)
    }

    fn from_anyhow() -> Result<u32> {
        Ok(into_anyhow()?)
    }

    fn from_boxed() -> Result<u32> {
        Ok(into_boxed()?)
    }

    fn from_local_box() -> Result<u32> {
        into_local_box().map_err(|error| Error::from_dyn(error.as_ref()))
    }

    fn anyhow_from_boxed() -> anyhow::Result<u32> {
        into_boxed().map_err(anyhow::Error::from_boxed)
    }

    fn boxed_in_io() -> io::Result<u32> {
        into_boxed().map_err(io::Error::other)
    }

    fn from_io() -> Result<u32> {
        Ok(boxed_in_io()?)
    }

    fn ours_again() -> Result<u32> {
        let number = ours()?;
        Ok(number + 1)
    }

    /// As programs of some size have it.
    #[derive(Debug, thiserror::Error)]
    enum Trouble {
        #[error(transparent)]
        Ours(#[from] Error),
        #[error(transparent)]
        Call(#[from] TaskFailed),
        #[error("the order cannot be paid")]
        Pay(#[source] Error),
    }

    fn from_enum() -> Result<u32> {
        let asked = || -> Result<u32, Trouble> { Ok(ours()?) };
        asked().map_err(Error::other)
    }

    fn from_a_box_of_anyhow() -> Result<u32> {
        let asked = || -> Result<u32, Boxed> { Ok(into_anyhow()?) };
        Ok(asked()?)
    }

    fn from_a_box_of_an_enum() -> Result<u32> {
        let asked = || -> Result<u32, Trouble> { Ok(ours()?) };
        let boxed = || -> Result<u32, Boxed> { Ok(asked()?) };
        Ok(boxed()?)
    }

    #[test]
    fn a_call_that_failed_is_found_in_an_enum() {
        async fn pays(ctx: OrchestrationContext, (): ()) -> Result<u32, Trouble> {
            Ok(ctx.call_activity("Charge", ()).await?)
        }
        async fn says_so(ctx: OrchestrationContext, (): ()) -> Result<u32, Trouble> {
            Err(Trouble::Pay(
                ctx.call_activity::<u32, _>("Charge", ()).await.unwrap_err().into(),
            ))
        }
        let registry = Registry::new()
            .orchestrator("Pays", pays)
            .orchestrator("SaysSo", says_so);
        let mut hub = TestHub::new(registry);
        hub.fake_activity("Charge", |(): ()| Err::<u32, _>(declined()));
        let failure = hub.run_orchestrator::<u32, _>("Pays", ()).unwrap_err();
        assert_eq!(
            failure.message,
            "activity `Charge` failed: Declined: the card was declined"
        );
        assert_eq!(failure.error_type, "TaskFailed");
        is_declined(failure.inner.as_deref().unwrap());
        let failure = hub.run_orchestrator::<u32, _>("SaysSo", ()).unwrap_err();
        assert_eq!(failure.message, "the order cannot be paid");
        assert!(failure.error_type.ends_with("Trouble") && failure.non_retriable);
        is_declined(failure.inner.and_then(|failed| failed.inner).as_deref().unwrap());
    }

    #[test]
    fn nothing_of_an_error_of_ours_is_lost() {
        for back in [
            from_anyhow,
            from_boxed,
            from_local_box,
            from_io,
            from_enum,
            from_a_box_of_anyhow,
            from_a_box_of_an_enum,
            ours_again,
        ] {
            is_declined(back().unwrap_err().failure());
        }
        is_declined(Error::from(anyhow_from_boxed().unwrap_err()).failure());
        let around = anyhow_from_boxed().context("one").context("two").unwrap_err();
        let error = Error::from(around);
        assert_eq!(error.message(), "two");
        is_declined(error.inner().and_then(|one| one.inner.as_deref()).unwrap());
        is_declined(Error::from(declined().failure().clone()).failure());
    }

    #[test]
    fn others_see_text_and_causes_and_can_find_ours() {
        let error = into_anyhow().unwrap_err();
        let chain: Vec<String> = error.chain().map(ToString::to_string).collect();
        assert_eq!(
            chain,
            [
                "the card was declined",
                "BankError: no funds",
                "std::io::error::Error: line 7"
            ]
        );
        let found = error.downcast_ref::<Error>().unwrap();
        assert!(found.error_type() == "Declined" && found.is_non_retriable());
        let error = into_local_box().unwrap_err();
        assert_eq!(error.to_string(), "the card was declined");
        assert_eq!(error.source().unwrap().to_string(), "BankError: no funds");
        assert_eq!(error.downcast_ref::<Error>().unwrap().error_type(), "Declined");
    }

    #[test]
    fn what_is_put_around_it_becomes_a_failure_caused_by_it() {
        let around = into_anyhow().context("the order cannot be paid").unwrap_err();
        let error = Error::from(around);
        assert_eq!(
            (error.error_type(), error.message()),
            ("Error", "the order cannot be paid")
        );
        // Whoever repeats the whole repeats the part too.
        assert!(error.is_non_retriable());
        is_declined(error.inner().unwrap());
    }
}

/// Errors of others become ours by `?`.
mod theirs {
    use super::*;

    fn any(kind: u8) -> Result<u32> {
        Ok(match kind {
            0 => read("x")?,
            1 => u32::try_from(std::fs::read("/no/such/file")?.len())?,
            2 => Err(anyhow::anyhow!("some trouble"))?,
            3 => Err(Boxed::from("boxed trouble"))?,
            4 => Err("a text")?,
            5 => Err(String::from("another text"))?,
            9 => Err(std::borrow::Cow::from("a text of either kind"))?,
            6 => read("x").context("while reading")?,
            7 => serde_json::from_str::<[u32; 1]>("[")?[0],
            _ => Err(fmt::Error)?,
        })
    }

    #[test]
    fn type_text_and_causes_are_kept_as_far_as_they_are_known() {
        for (kind, type_name, message, cause) in [
            (
                0,
                "library::errors::Unreadable",
                "cannot read the number",
                Some("invalid digit found in string"),
            ),
            (
                1,
                "std::io::error::Error",
                "No such file or directory (os error 2)",
                None,
            ),
            (2, "Error", "some trouble", None),
            (3, "Error", "boxed trouble", None),
            (4, "Error", "a text", None),
            (5, "Error", "another text", None),
            (9, "Error", "a text of either kind", None),
            (6, "Error", "while reading", Some("cannot read the number")),
            (
                7,
                "serde_json::error::Error",
                "EOF while parsing a list at line 1 column 1",
                None,
            ),
            (
                8,
                "core::fmt::Error",
                "an error occurred when formatting an argument",
                None,
            ),
        ] {
            let error = any(kind).unwrap_err();
            assert_eq!((error.error_type(), error.message()), (type_name, message));
            assert_eq!(error.inner().map(|inner| inner.message.as_str()), cause, "{message}");
        }
        let error = any(6).unwrap_err();
        let innermost = error.inner().and_then(|inner| inner.inner.as_deref()).unwrap();
        assert_eq!(innermost.message, "invalid digit found in string");
    }

    /// An error whose source is itself, so that its causes have no end.
    #[derive(Debug)]
    struct Endless;

    impl fmt::Display for Endless {
        fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
            out.write_str("turtles")
        }
    }

    impl StdError for Endless {
        fn source(&self) -> Option<&(dyn StdError + 'static)> {
            Some(self)
        }
    }

    #[test]
    fn causes_without_end_end() {
        let error = Error::from(Endless);
        let causes = std::iter::successors(error.inner(), |inner| inner.inner.as_deref());
        assert!((1..1_000).contains(&causes.count()));
    }
}

/// Functions of each kind may return any of them.
mod functions {
    use super::*;

    async fn anyhow_orchestrator(ctx: OrchestrationContext, name: String) -> anyhow::Result<u32> {
        ctx.set_custom_status("asking")?;
        let answer: u32 = ctx.call_activity(&name, ()).await?;
        let id = ctx.start_new("Nothing", ()).await?;
        ctx.raise_event(&id, "Hello", answer).context("nobody is told")?;
        Ok(answer)
    }

    async fn boxed_orchestrator(ctx: OrchestrationContext, name: String) -> Result<u32, Boxed> {
        ctx.set_custom_status("asking")?;
        Ok(ctx.call_activity(&name, ()).await?)
    }

    async fn our_orchestrator(ctx: OrchestrationContext, name: String) -> Result<u32> {
        read("1")?;
        anyhow::Ok(())?;
        Ok(ctx.call_activity(&name, ()).await?)
    }

    async fn raw_orchestrator(ctx: OrchestrationContext, Raw(name): Raw) -> anyhow::Result<Raw> {
        let name: String = serde_json::from_slice(name.context("no name")?.bytes())?;
        Ok(ctx.call_activity::<Raw, _>(&name, Raw(None)).await?)
    }

    async fn ours(_: ActivityContext, (): ()) -> Result<u32> {
        Err(declined())
    }

    async fn anyhows(_: ActivityContext, (): ()) -> anyhow::Result<u32> {
        Err(declined())?
    }

    async fn boxed(_: ActivityContext, (): ()) -> Result<u32, Boxed> {
        Err(declined())?
    }

    fn blocking(_: ActivityContext, (): ()) -> anyhow::Result<u32> {
        Err(declined())?
    }

    async fn raw(_: ActivityContext, _: Raw) -> anyhow::Result<Raw> {
        Err(declined())?
    }

    async fn nothing(_: OrchestrationContext, (): ()) -> anyhow::Result<()> {
        Ok(())
    }

    fn registry() -> Registry {
        Registry::new()
            .orchestrator("Anyhow", anyhow_orchestrator)
            .orchestrator("Boxed", boxed_orchestrator)
            .orchestrator("Our", our_orchestrator)
            .orchestrator("Nothing", nothing)
            .orchestrator("Raw", raw_orchestrator)
            .activity("Ours", ours)
            .activity("Anyhows", anyhows)
            .activity("BoxedOnes", boxed)
            .blocking_activity("Blocking", blocking)
            .activity("RawOnes", raw)
    }

    #[test]
    fn a_failure_passes_through_functions_of_each_kind() {
        for orchestrator in ["Anyhow", "Boxed", "Our", "Raw"] {
            for activity in ["Ours", "Anyhows", "BoxedOnes", "Blocking", "RawOnes", "Fake"] {
                let mut hub = TestHub::new(registry());
                hub.fake_activity("Fake", |(): ()| -> anyhow::Result<u32> { Err(declined())? });
                let failure = hub.run_orchestrator::<u32, _>(orchestrator, activity).unwrap_err();
                assert_eq!(failure.error_type, "TaskFailed", "{orchestrator}");
                assert!(failure.non_retriable);
                is_declined(failure.inner.as_deref().unwrap());
            }
        }
    }

    async fn again(ctx: OrchestrationContext, round: u32) -> anyhow::Result<u32> {
        if round == 0 {
            return Ok(7);
        }
        if round.is_multiple_of(2) {
            return ctx.continue_as_new(round - 1).context("and once more");
        }
        Ok(ctx.continue_as_new::<u32>(round - 1)?)
    }

    async fn boxed_again(ctx: OrchestrationContext, round: u32) -> Result<u32, Boxed> {
        if round == 0 {
            return Ok(7);
        }
        Ok(ctx.continue_as_new::<u32>(round - 1)?)
    }

    /// Hides what it holds: nothing but text and causes comes out of it.
    #[derive(Debug)]
    struct Opaque(Error);

    impl fmt::Display for Opaque {
        fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
            fmt::Display::fmt(&self.0, out)
        }
    }

    impl StdError for Opaque {
        fn source(&self) -> Option<&(dyn StdError + 'static)> {
            self.0.source()
        }
    }

    async fn opaque_again(ctx: OrchestrationContext, round: u32) -> Result<u32, Opaque> {
        if round == 0 {
            return Ok(7);
        }
        ctx.continue_as_new(round - 1).map_err(Opaque)
    }

    #[test]
    fn continuing_as_new_is_no_failure_however_it_is_returned() {
        let registry = Registry::new()
            .orchestrator("Again", again)
            .orchestrator("BoxedAgain", boxed_again)
            .orchestrator("OpaqueAgain", opaque_again);
        for name in ["Again", "BoxedAgain", "OpaqueAgain"] {
            let mut hub = TestHub::new(registry.clone());
            let id = hub.start(name, 4);
            hub.run();
            assert_eq!(
                (hub.output::<u32>(&id).unwrap(), hub.earlier_histories(&id).len()),
                (7, 4),
                "{name}"
            );
        }
    }

    #[test]
    fn a_mark_against_retries_counts_whatever_it_came_in() {
        async fn patient(ctx: OrchestrationContext, name: String) -> anyhow::Result<u32> {
            let policy = RetryPolicy::new(3, std::time::Duration::from_secs(1));
            Ok(ctx.call_activity(&name, ()).retry(policy).await?)
        }
        async fn around(_: ActivityContext, (): ()) -> anyhow::Result<u32> {
            Err(declined()).context("the order cannot be paid")
        }
        let registry = registry().orchestrator("Patient", patient).activity("Around", around);
        for activity in ["Ours", "Anyhows", "BoxedOnes", "Blocking", "RawOnes", "Around"] {
            let mut hub = TestHub::new(registry.clone());
            hub.run_orchestrator::<u32, _>("Patient", activity).unwrap_err();
            assert_eq!(hub.call_count(activity), 1, "{activity}");
        }
    }
}

/// `main` may return any of them too.
mod mains {
    use super::*;

    async fn fails(_: OrchestrationContext, (): ()) -> anyhow::Result<()> {
        anyhow::bail!("on purpose")
    }

    async fn hub() -> Result<Hub, HubError> {
        Hub::builder("SampleHub").orchestrator("Fails", fails).in_memory().await
    }

    async fn ours() -> Result<()> {
        let hub = hub().await?;
        let id = hub.client().start_new("Fails", ()).await?;
        assert_eq!(hub.client().wait_for_end(&id).await?.status, RuntimeStatus::Failed);
        hub.client().wait_for_completion::<()>(&id).await?;
        Ok(())
    }

    async fn anyhows() -> anyhow::Result<()> {
        let hub = hub().await.context("no hub")?;
        let id = hub.client().start_new("Fails", ()).await?;
        hub.client().wait_for_completion::<()>(&id).await?;
        Ok(())
    }

    async fn anyhows_of_ours() -> anyhow::Result<()> {
        Ok(ours().await?)
    }

    async fn boxed() -> Result<(), Box<dyn StdError>> {
        ours().await?;
        anyhows().await?;
        Ok(())
    }

    #[tokio::test]
    async fn an_instance_that_failed_fails_its_caller_with_the_reason() {
        let reason = "failed: Error: on purpose";
        for said in [
            ours().await.unwrap_err().to_string(),
            anyhows().await.unwrap_err().to_string(),
            anyhows_of_ours().await.unwrap_err().to_string(),
            boxed().await.unwrap_err().to_string(),
        ] {
            assert!(said.ends_with(reason), "{said}");
        }
    }
}
