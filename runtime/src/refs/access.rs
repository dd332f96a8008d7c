//! Who may reach a published actor, by the authenticated key of the caller: also this mesh's own, for refs that it resolves in its
//! own directory.

use std::collections::HashSet;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use webmesh_transport::PeerId;

/// Everybody may call. Use it as `publish(…).allow(Anyone)`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Anyone;

/// Only these peers may call. To others the actor looks as if it didn't exist.
#[derive(Clone, Debug, Default)]
pub struct Only(Arc<HashSet<PeerId>>);

impl Only {
    /// Allows the given peers.
    pub fn these(peers: impl IntoIterator<Item = PeerId>) -> Self {
        Self(Arc::new(peers.into_iter().collect()))
    }
}

/// An access rule: [`Anyone`], [`Only`], or any `Fn(PeerId) -> bool` by way of [`Access::by`].
#[derive(Clone)]
pub struct Access(Rule);

#[derive(Clone)]
enum Rule {
    Anyone,
    Only(Only),
    By(Arc<dyn Fn(PeerId) -> bool + Send + Sync>),
}

impl Access {
    /// A rule in code. It is called whenever a peer resolves the name, opens a stream to the actor or watches it, and for all of
    /// these again when something is published or withdrawn under the name, or by [`Mesh::recheck`](crate::Mesh::recheck), which
    /// it takes for the rule to notice that a set of its own has changed. It must not block: for other peers it is called on the
    /// network's thread. A panic counts as refusal.
    pub fn by(rule: impl Fn(PeerId) -> bool + Send + Sync + 'static) -> Self {
        Self(Rule::By(Arc::new(rule)))
    }

    pub(crate) fn admits(&self, caller: PeerId) -> bool {
        match &self.0 {
            Rule::Anyone => true,
            Rule::Only(only) => only.0.contains(&caller),
            Rule::By(rule) => catch_unwind(AssertUnwindSafe(|| rule(caller))).unwrap_or(false),
        }
    }
}

impl From<Anyone> for Access {
    fn from(_: Anyone) -> Self {
        Self(Rule::Anyone)
    }
}

impl From<Only> for Access {
    fn from(only: Only) -> Self {
        Self(Rule::Only(only))
    }
}

impl std::fmt::Debug for Access {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.0 {
            Rule::Anyone => f.write_str("Anyone"),
            Rule::Only(only) => only.fmt(f),
            Rule::By(_) => f.write_str("By(…)"),
        }
    }
}
