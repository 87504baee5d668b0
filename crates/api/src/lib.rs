//! The HTTP surfaces of a Taskhub server, described once: what the server writes, the command line reads and links of the
//! library lead to.
//!
//! | module | what it describes |
//! |---|---|
//! | [`percent`] | texts as parts of a URL |
//! | `client` (feature `client`) | calls to a server, over HTTP and HTTPS |

#[cfg(feature = "client")]
pub mod client;
pub mod percent;
