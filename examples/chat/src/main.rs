//! Chat rooms as published actors.
fn main() {}
