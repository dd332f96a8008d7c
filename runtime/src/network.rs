//! The seam between a mesh and its network: what the local half of the runtime asks of the half that holds connections.

use crate::publish::ResolveError;
use crate::remote::RemoteTarget;
use crate::wire_ref::WireRef;
use futures_util::future::BoxFuture;
use std::sync::Arc;
use webmesh_transport::{Origin, PeerId, PeerRef};

/// The connections of one mesh.
pub(crate) trait Network: Send + Sync {
    /// The actor of another mesh that goes by this name, by the word of `origin`. Nothing is kept of it beyond what is returned, and
    /// nobody connected to, before it is used.
    fn target(&self, wire: WireRef, origin: Origin) -> Arc<dyn RemoteTarget>;
    /// Where the word of a peer may lead this host, as it is connected now.
    fn origin_of(&self, peer: &PeerId) -> Origin;
    /// The application says where a peer may be found that has fallen silent.
    fn look_for(&self, wire: &WireRef);
    /// Resolves a published name at another mesh.
    fn resolve(
        &self,
        at: PeerRef,
        query: Query,
    ) -> BoxFuture<'static, Result<WireRef, ResolveError>>;
    /// Takes no new messages and waits until those accepted so far are on their way, 1 s at the most. The endpoint is
    /// closed right afterwards.
    fn shutdown(&self) -> BoxFuture<'static, ()>;
}

/// What a name is asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Query {
    /// A well-formed service name.
    pub(crate) name: String,
    /// A well-formed version requirement.
    pub(crate) requirement: String,
    /// The protocol of the ref that is wanted.
    pub(crate) protocol: &'static str,
}
