//! Serves hubs over the network: the HTTP management API of Durable Functions, and probes, metrics and logs for
//! operators.
//!
//! [`Server::new`] takes any hub, also that of a Rust program with its own functions, and serves it. What
//! the server does not do: it runs no user code, keeps no state of its own, and decides nothing about an
//! instance. Its handlers decode, call a verb of [`taskhub_engine::Hub`], and encode.

#![warn(missing_docs)]

mod answers;
mod app;
mod auth;
mod border;
pub mod config;
mod connection;
mod error;
mod flow;
mod guess;
mod http;
mod hubs;
pub mod logs;
mod metrics;
mod patience;
mod places;
mod serve;
mod tls;

pub use config::{Config, Key, Limits, LinkPrefix, PORT_DEFAULT, Reuse, Tls};
pub use error::Error;
pub use http::token;
pub use hubs::{OpenHub, Opening};
pub use serve::{ClientBindings, Listening, Server};
