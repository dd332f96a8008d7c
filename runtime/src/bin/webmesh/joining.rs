//! The options of every command that uses the network: through whom others reach this host.

use crate::output::Failure;
use std::{net::SocketAddr, time::Duration};
use webmesh::{AddressRef, Mesh, MeshBuilder, PeerRef, peer_ref};

/// How long the sessions may take to stand. A guess, three times what a dial may take.
const ATTACHED_MAX: Duration = Duration::from_secs(30);

#[derive(clap::Args)]
pub(crate) struct Joining {
    /// A public node through which others reach this host: a PeerRef (wm1…) or IP:PORT; repeatable.
    #[arg(long, value_name = "TARGET", value_parser = target)]
    join: Vec<PeerRef>,
    /// With how many of them a session is kept at a time [default: 2]. Each costs ~64 KB an hour.
    #[arg(long, value_name = "N")]
    rendezvous: Option<usize>,
    /// An HTTP proxy through which TLS is tried where UDP is blocked.
    #[arg(long, value_name = "IP:PORT")]
    proxy: Option<SocketAddr>,
}

/// A PeerRef, or an address whose owner is not known.
pub(crate) fn target(text: &str) -> Result<PeerRef, String> {
    if text.parse::<SocketAddr>().is_ok() {
        let address = reachable(text)?;
        return AddressRef::new([address])
            .map(PeerRef::Addresses)
            .map_err(|error| error.to_string());
    }
    text.parse::<PeerRef>().map_err(|error| match error {
        peer_ref::ParseError::NotAPeerRef => "neither a PeerRef (wm1…) nor IP:PORT".to_owned(),
        error => error.to_string(),
    })
}

/// An address at which a host can be reached from elsewhere.
pub(crate) fn reachable(text: &str) -> Result<SocketAddr, String> {
    let address = text.parse::<SocketAddr>().map_err(|error| error.to_string())?;
    AddressRef::new([address]).map(|_| address).map_err(|error| error.to_string())
}

impl Joining {
    /// Has a mesh attach to the nodes that were named.
    pub(crate) fn apply(&self, mut builder: MeshBuilder) -> MeshBuilder {
        for node in &self.join {
            builder = builder.join(node.clone());
        }
        if let Some(proxy) = self.proxy {
            builder = builder.proxy(proxy);
        }
        match self.rendezvous {
            Some(sessions) => builder.rendezvous(sessions),
            None => builder,
        }
    }

    /// Waits for the sessions to stand.
    pub(crate) async fn attached(&self, mesh: &Mesh) -> Result<(), Failure> {
        if self.join.is_empty() || self.rendezvous == Some(0) {
            return Ok(());
        }
        if tokio::time::timeout(ATTACHED_MAX, mesh.attached()).await.is_ok() {
            return Ok(());
        }
        match mesh.attached_to().len() {
            0 => Err(Failure::failed(format!(
                "none of the nodes named by --join gave a session within {} s: is one running there, and does it serve?",
                ATTACHED_MAX.as_secs()
            ))),
            standing => {
                tracing::warn!(
                    standing,
                    "not as many sessions with rendezvous stand as were asked for"
                );
                Ok(())
            }
        }
    }
}
