//! What everything else stands on, and which knows nothing of it.
//!
//! - `address`: what can be said of an address by its bytes alone
//! - `base32`: the letters of peer ids and references
//! - `sanitize`: how others' words look in a log
//! - [`shortage`]: what the system lacks, and what helps

pub(crate) mod address;
pub(crate) mod base32;
pub(crate) mod sanitize;
pub mod shortage;
