//! The seeds of this crate's fuzz targets, and mutations of them.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "../../fuzz/seed_tests.rs"]
mod seed_tests;

#[test]
fn no_input_makes_a_decoder_panic_or_take_what_it_would_write_otherwise() {
    seed_tests::run(webmesh_registry::fuzzing::TARGETS);
}
