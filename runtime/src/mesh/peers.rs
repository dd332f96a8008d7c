//! How a mesh reaches others: rendezvous, connections, pings.

use super::Mesh;
use std::net::SocketAddr;
use std::time::Duration;
use webmesh_transport::{
    ConnectError, Explanation, JoinError, PathKind, PeerId, PeerRef, PeerRefChanges,
};

/// The answer to [`Mesh::ping`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pong {
    /// Who answered, as its key proved.
    pub peer: PeerId,
    /// How long it took.
    pub rtt: Duration,
    /// How the peer is reached.
    pub path: PathKind,
    /// The address it is reached at.
    pub via: SocketAddr,
    /// Which connection answered: unique among those of this process.
    pub connection: u64,
    /// How often this side has sent along another road than before, since that connection began.
    pub road_changes: u64,
}

/// Why [`Mesh::ping`] measured nothing.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PingError {
    /// There is no connection to the peer; the error says why.
    #[error(transparent)]
    Connect(#[from] ConnectError),
    /// The peer did not answer within 5 s, or the connection ended meanwhile.
    #[error("the peer did not answer the ping")]
    NoAnswer,
}

impl Mesh {
    /// Attaches to one more public node as a rendezvous; see [`MeshBuilder::join`](crate::MeshBuilder::join).
    ///
    /// ```
    /// # #![allow(unused_imports)]
    /// # use webmesh::{Mesh};
    /// # #[webmesh::main]
    /// # async fn main() -> webmesh::Result<()> {
    /// # let mesh = Mesh::builder().listen("127.0.0.1:0".parse()?).start().await?;
    /// let node = Mesh::builder().listen("127.0.0.1:0".parse()?).start().await?; // a public one, elsewhere
    /// mesh.join(node.peer_ref())?;
    /// mesh.attached().await;
    /// assert_eq!(mesh.attached_to(), [node.peer_id()]);
    /// # node.shutdown().await;
    /// # mesh.shutdown().await;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`JoinError`] if it is this mesh itself.
    pub fn join(&self, node: PeerRef) -> Result<(), JoinError> {
        self.inner().endpoint.join(node)
    }

    /// Waits until sessions with as many rendezvous stand as are wanted, or as were named; a second after the first one
    /// stands, the others are no longer waited for. From then on [`Mesh::peer_ref`] leads strangers here. Returns at once if none was named; tries for ever if none can be reached:
    /// bound it by a time-out.
    pub async fn attached(&self) {
        self.inner().endpoint.attached().await;
    }

    /// The rendezvous with which a session stands.
    pub fn attached_to(&self) -> Vec<PeerId> {
        self.inner().endpoint.attached_to()
    }

    /// The changes of [`Mesh::peer_ref`] from now on: other addresses, other rendezvous, or a new signature before the old one expires.
    ///
    /// ```no_run
    /// # use webmesh::Mesh;
    /// # #[webmesh::main]
    /// # async fn main() -> webmesh::Result<()> {
    /// # let mesh = Mesh::builder().listen("127.0.0.1:0".parse()?).start().await?;
    /// let mut changes = mesh.peer_ref_changes();
    /// println!("find me at {}", mesh.peer_ref());
    /// while let Some(reference) = changes.next().await {
    ///     println!("find me now at {reference}");
    /// }
    /// # Ok(())
    /// # }
    /// ```
    pub fn peer_ref_changes(&self) -> PeerRefChanges {
        self.inner().endpoint.peer_ref_changes()
    }

    /// Connects to a peer, or finds the connection that is there. Needed only to learn whether it works: a ref connects
    /// by itself. At a reference of mere addresses, whoever answers is accepted, and returned.
    ///
    /// A reference that the peer signed later than the one by which it was found, and that names other places, is tried at once, as is
    /// the connection that is there: a peer that was killed and runs again elsewhere is found without waiting for the end of its former
    /// connection. All else that takes a `PeerRef` does the same.
    ///
    /// ```
    /// # #![allow(unused_imports)]
    /// # use webmesh::{Mesh};
    /// # #[webmesh::main]
    /// # async fn main() -> webmesh::Result<()> {
    /// # let mesh = Mesh::builder().listen("127.0.0.1:0".parse()?).start().await?;
    /// let peer = Mesh::builder().listen("127.0.0.1:0".parse()?).start().await?; // another host
    /// assert_eq!(mesh.connect(&peer.peer_ref()).await?, peer.peer_id());
    /// # peer.shutdown().await;
    /// # mesh.shutdown().await;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`ConnectError`].
    pub async fn connect(&self, peer: &PeerRef) -> Result<PeerId, ConnectError> {
        Ok(self.inner().endpoint.connect(peer).await?.peer())
    }

    /// Ends the connection to a peer, also one that is silent. Pending asks end as `PeerGone`, tells that aren't confirmed are told as lost
    /// ([`LostTells`](crate::TellError::LostTells)), watches end once as `PeerGone`, and the peer learns at once that it was on purpose. The next call of either
    /// side connects anew, and a session with a rendezvous is begun again. A connection that is only just being made isn't ended.
    /// Whether there was one.
    ///
    /// Nothing is waited for: what must arrive is flushed first ([`ActorRef::flush`](crate::ActorRef::flush)).
    ///
    /// ```
    /// # #![allow(unused_imports)]
    /// # use webmesh::{Mesh};
    /// # #[webmesh::main]
    /// # async fn main() -> webmesh::Result<()> {
    /// # let mesh = Mesh::builder().listen("127.0.0.1:0".parse()?).start().await?;
    /// let peer = Mesh::builder().listen("127.0.0.1:0".parse()?).start().await?; // another host
    /// let id = mesh.connect(&peer.peer_ref()).await?;
    /// assert!(mesh.disconnect(&id).await);
    /// assert!(!mesh.disconnect(&id).await);
    /// # peer.shutdown().await;
    /// # mesh.shutdown().await;
    /// # Ok(())
    /// # }
    /// ```
    pub async fn disconnect(&self, peer: &PeerId) -> bool {
        self.inner().endpoint.disconnect(peer, "disconnected").await
    }

    /// Connects to a peer if need be, and measures one round trip of our own outside of QUIC's streams.
    ///
    /// ```
    /// # #![allow(unused_imports)]
    /// # use webmesh::{Mesh};
    /// # #[webmesh::main]
    /// # async fn main() -> webmesh::Result<()> {
    /// # let mesh = Mesh::builder().listen("127.0.0.1:0".parse()?).start().await?;
    /// let peer = Mesh::builder().listen("127.0.0.1:0".parse()?).start().await?; // another host
    /// let pong = mesh.ping(&peer.peer_ref()).await?;
    /// println!("{} answered after {:?}, {} via {}", pong.peer, pong.rtt, pong.path, pong.via);
    /// # peer.shutdown().await;
    /// # mesh.shutdown().await;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`PingError`]; no answer comes for 5 s at the most.
    pub async fn ping(&self, peer: &PeerRef) -> Result<Pong, PingError> {
        let link = self.inner().endpoint.connect(peer).await?;
        let rtt = link.ping().await.map_err(|_| PingError::NoAnswer)?;
        Ok(Pong {
            peer: link.peer(),
            rtt,
            path: link.path(),
            via: link.via(),
            connection: link.id(),
            road_changes: link.road_changes(),
        })
    }

    /// Connects to a peer if need be, and explains how it is reached: by which road, why no better one, what each road that
    /// is known says, and what the NATs on both sides are like.
    ///
    /// ```
    /// # #![allow(unused_imports)]
    /// # use webmesh::{Mesh};
    /// # #[webmesh::main]
    /// # async fn main() -> webmesh::Result<()> {
    /// # let mesh = Mesh::builder().listen("127.0.0.1:0".parse()?).start().await?;
    /// let peer = Mesh::builder().listen("127.0.0.1:0".parse()?).start().await?; // another host
    /// let explanation = mesh.explain(&peer.peer_ref()).await?;
    /// println!("{}: {}", explanation.path, explanation.reason);
    /// # peer.shutdown().await;
    /// # mesh.shutdown().await;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`ConnectError`].
    pub async fn explain(&self, peer: &PeerRef) -> Result<Explanation, ConnectError> {
        let link = self.inner().endpoint.connect(peer).await?;
        self.inner().endpoint.explain(&link.peer()).await.ok_or(ConnectError::Closed)
    }
}
