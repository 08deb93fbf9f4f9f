//! The proof under fire: a server that is killed, cut off and out of disk while clients chat, and whether anything that it
//! had acknowledged was lost. Drives the real program over loopback; nothing of the program uses it.
//!
//! ```text
//!   seed ──► users (client): log in, chat, cut, resume ──► server under test ◄── kill -9, TERM, disk full (server, disk)
//!                │ everything that happens                     │ rows, when it has stopped
//!                ▼                                             ▼
//!             Journal ──────────────────────────────────► Verdict ──► table, exit code, histories of what went wrong
//! ```
//!
//! What a run does is chosen by its seed alone; when it happens is up to the machine. The client is written from RFC 6120
//! and XEP-0198 and does what real clients do: it counts both ways, resumes, and sends again in a new session, with the same
//! `id`, what the old one left without acknowledgement.

pub mod cluster;
pub mod disk;
pub mod journal;
pub mod kill9;
pub mod plan;
pub mod random;
pub mod report;
pub mod rows;
pub mod run;
pub mod server;
mod session;
pub mod user;
pub mod verdict;
pub mod wire;

/// What a run is made of fails in many ways; all of them end the run with their text.
pub type Failure = Box<dyn std::error::Error + Send + Sync>;
