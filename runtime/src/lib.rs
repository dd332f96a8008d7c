//! Distributed actors on the public internet.
