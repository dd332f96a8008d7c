//! What the table of roads and the test in `simulated/lossy.rs` measure: whole endpoints on a punched road of a given round trip, loss
//! and jitter, with a relay standing by.

pub(crate) mod bulk;
pub(crate) mod cut;
pub(crate) mod load;
pub(crate) mod raw;
pub(crate) mod road;
pub(crate) mod stay;
