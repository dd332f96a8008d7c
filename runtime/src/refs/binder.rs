//! What refs, and what is decoded with refs in it, ask of the mesh that they belong to.

use crate::codec::wire_ref::WireRef;
use crate::refs::near::Limit;
use crate::refs::target::Target;
use std::sync::{Arc, Weak};
use std::time::Duration;
use webmesh_transport::PeerId;
use webmesh_transport::placement::Sleep;

/// A mesh, as far as refs know it: it binds those that are decoded for it.
pub(crate) trait RefBinder: Send + Sync {
    /// Where a ref leads that this peer has sent.
    fn bind(&self, wire: WireRef, sender: Option<PeerId>) -> Target;
    /// A peer's message of this id can't be decoded; the text says why.
    fn undecodable(&self, sender: PeerId, id: &str, why: &str);
    /// That calls within the mesh are encoded, if they are.
    fn near_limit(&self) -> Option<&Limit>;
    /// Resolves after so long, also where no tokio runtime is at hand.
    fn sleep(&self, length: Duration) -> Sleep;
}

/// A [`RefBinder`] that may be gone.
#[derive(Clone, Default)]
pub(crate) struct WeakBinder(Option<Weak<dyn RefBinder>>);

impl WeakBinder {
    /// None at all.
    pub(crate) const NONE: Self = Self(None);

    pub(crate) fn new(mesh: Weak<dyn RefBinder>) -> Self {
        Self(Some(mesh))
    }

    pub(crate) fn upgrade(&self) -> Option<Arc<dyn RefBinder>> {
        self.0.as_ref()?.upgrade()
    }
}
