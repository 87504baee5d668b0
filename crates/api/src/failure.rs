//! Failures with their causes, in the two spellings of the surfaces.

use std::borrow::Cow;
use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use taskhub_core::failure::Failure;

/// The same members in another letter case.
macro_rules! shape {
    ($(#[$doc:meta])* $name:ident $case:literal) => {
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
        #[serde(rename_all = $case)]
        pub struct $name<'a> {
            /// What kind of error it was.
            pub error_type: Cow<'a, str>,
            /// What it said.
            pub error_message: Cow<'a, str>,
            /// Where it came about.
            pub stack_trace: Option<Cow<'a, str>>,
            /// What caused it.
            pub inner_failure: Option<Box<$name<'a>>>,
            /// Whether a retry is useless.
            pub is_non_retriable: bool,
        }

        impl<'a> From<&'a Failure> for $name<'a> {
            fn from(failure: &'a Failure) -> Self {
                Self {
                    error_type: Cow::Borrowed(&failure.error_type),
                    error_message: Cow::Borrowed(&failure.message),
                    stack_trace: failure.stack_trace.as_deref().map(Cow::Borrowed),
                    inner_failure: failure.inner.as_deref().map(|inner| Box::new(inner.into())),
                    is_non_retriable: failure.non_retriable,
                }
            }
        }

        impl From<$name<'_>> for Failure {
            /// Its properties are not on the surface.
            fn from(shown: $name<'_>) -> Self {
                Self {
                    error_type: shown.error_type.into_owned(),
                    message: shown.error_message.into_owned(),
                    stack_trace: shown.stack_trace.map(Cow::into_owned),
                    inner: shown.inner_failure.map(|inner| Box::new((*inner).into())),
                    non_retriable: shown.is_non_retriable,
                    properties: BTreeMap::new(),
                }
            }
        }
    };
}

shape! {
    /// A failure of a history.
    FailureDetails "PascalCase"
}

shape! {
    /// A failure of an instance in our own API.
    InstanceFailure "camelCase"
}
