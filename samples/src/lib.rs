//! The functions of the article, each pattern in a file of its own: examples to copy from, and something
//! to start when one wants to look at a hub at work.
//!
//! ```
//! use taskhub::Registry;
//! use taskhub_samples::{Files, Purger, register};
//!
//! let registry = register(Registry::new(), &Purger::default(), &Files::below("data"));
//! assert!(registry.orchestrators().any(|name| name == "E1_HelloSequence"));
//! ```

pub mod approval;
pub mod counter;
pub mod echo;
pub mod fan_out;
pub mod files;
pub mod hello;
pub mod instance_info;
pub mod monitor;
pub mod scheduled_purge;
pub mod singleton;

pub use files::Files;
pub use scheduled_purge::Purger;

use taskhub::Registry;

/// Adds all samples. The purger is what the scheduled purge calls; it can be connected to a client once
/// the hub is open. The files are what those samples look at that read any.
#[must_use]
pub fn register(registry: Registry, purger: &Purger, files: &Files) -> Registry {
    let registry = hello::register(registry);
    let registry = echo::register(registry);
    let registry = counter::register(registry, files);
    let registry = approval::register(registry);
    let registry = fan_out::register(registry, files);
    let registry = instance_info::register(registry);
    let registry = monitor::register(registry, files);
    let registry = singleton::register(registry);
    scheduled_purge::register(registry, purger)
}
