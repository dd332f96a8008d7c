//! Plain quinn on the simulated network, set up as ours is.

use std::{sync::Arc, time::Duration};

use quinn::VarInt;
use webmesh_transport::{ALPN, MemoryNetwork, Windows};

use crate::{
    attacker::{self, Shows},
    world::World,
};

/// The figures of `transport/src/quic.rs`, which says where they come from.
fn transport() -> quinn::TransportConfig {
    let windows = Windows::default();
    let mut mtu = quinn::MtuDiscoveryConfig::default();
    mtu.upper_bound(1420).interval(Duration::from_secs(60));
    let mut acks = quinn::AckFrequencyConfig::default();
    acks.ack_eliciting_threshold(VarInt::from_u32(8)).max_ack_delay(Some(Duration::from_millis(5)));
    let mut transport = quinn::TransportConfig::default();
    transport
        .max_idle_timeout(None)
        .receive_window(windows.connection.into())
        .stream_receive_window(windows.stream.into())
        .send_window(windows.send)
        .datagram_receive_buffer_size(None)
        .initial_rtt(Duration::from_millis(100))
        .mtu_discovery_config(Some(mtu))
        .ack_frequency_config(Some(acks))
        .congestion_controller_factory(Arc::new(quinn::congestion::CubicConfig::default()));
    transport
}

/// A connection between two hosts; both ends, and what must be kept while it is used.
pub(crate) async fn connect(
    network: &MemoryNetwork,
    from: u8,
    to: u8,
    seed: u64,
) -> ([quinn::Connection; 2], [quinn::Endpoint; 2]) {
    let endpoint = |n: u8, server| {
        let mut config = quinn::EndpointConfig::default();
        let mut seeded = [n; 32];
        seeded[..8].copy_from_slice(&seed.to_be_bytes());
        config.grease_quic_bit(false).rng_seed(Some(seeded));
        let socket = network.socket((World::outside(n), 1).into()).unwrap();
        let runtime = Arc::new(quinn::TokioRuntime);
        quinn::Endpoint::new_with_abstract_socket(config, server, socket, runtime).unwrap()
    };
    let mut server = attacker::server_config(to, transport());
    server.migration(false);
    let endpoints = [endpoint(from, None), endpoint(to, Some(server))];
    let mut client = attacker::client_config(Shows::Key(from), ALPN);
    client.transport_config(Arc::new(transport()));
    let dial = endpoints[0].connect_with(client, (World::outside(to), 1).into(), "any.invalid");
    let (accept, dial) = (endpoints[1].accept(), dial.unwrap());
    let (accepted, dialled) = tokio::join!(async { accept.await.unwrap().await }, dial);
    ([dialled.unwrap(), accepted.unwrap()], endpoints)
}
