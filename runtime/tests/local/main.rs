//! What the runtime promises within one mesh; docs/guarantees.md has the list.

mod actors;
mod inside;
mod ordering;
mod panics;
mod placement;
mod publishing;
mod refs;
mod stopping;
mod watching;
