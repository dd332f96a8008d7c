//! What it costs a host to keep its sessions, in an hour of simulated time.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use webmesh_transport::{
    Endpoint, EndpointConfig, InPlace, Link, LinkDown, MemoryNetwork, Observer, PeerId, SecretKey,
};

/// Before counting begins, that nothing of the beginning is in it.
const SETTLING: Duration = Duration::from_secs(600);

const HOUR: Duration = Duration::from_secs(3600);

/// In front of each payload: IPv4 and UDP.
const HEADER_BYTES: u64 = 28;

struct Nobody;

impl Observer for Nobody {
    fn link_up(&self, _: Link) {}
    fn link_draining(&self, link: Link) {
        link.drained();
    }
    fn link_down(&self, _: Link, _: LinkDown) {}
    fn unreachable(&self, _: PeerId) {}
    fn reachable(&self, _: PeerId) {}
}

/// Datagrams and bytes in an hour, headers counted, both ways together.
pub(crate) fn hour(sessions: usize) -> (u64, u64) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .start_paused(true)
        .build()
        .unwrap();
    tokio::task::LocalSet::new().block_on(&runtime, async {
        let placement = Arc::new(InPlace::new(1).unwrap());
        let network = MemoryNetwork::new(1);
        network.set_latency(Duration::from_millis(20));
        let config = |n: u8| {
            let mut config = EndpointConfig::new(SecretKey::from_bytes([n; 32]));
            config.listen = vec![SocketAddr::from(([198, 51, 100, n], 4433))];
            config.network = Some(network.clone());
            config
        };
        let start = async |config| {
            Endpoint::bind(config, placement.clone(), Arc::new(Nobody)).await.unwrap()
        };
        let mut servers = Vec::new();
        for n in 0..sessions {
            servers.push(start(config(n as u8 + 1)).await);
        }
        let mut private = config(100);
        private.service = None;
        private.sessions = sessions;
        private.join = servers.iter().map(Endpoint::peer_ref).collect();
        let host = start(private).await;
        host.attached().await;
        tokio::time::sleep(SETTLING).await;
        let before = network.carried();
        tokio::time::sleep(HOUR).await;
        let after = network.carried();
        assert_eq!(host.attached_to().len(), sessions);
        let datagrams = after.datagrams - before.datagrams;
        (datagrams, after.bytes - before.bytes + datagrams * HEADER_BYTES)
    })
}
