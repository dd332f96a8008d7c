//! Who reaches a public node, from where.

use crate::{
    internet::Internet,
    kind::Kind,
    process::{Node, answered, ping},
};

/// A public node is reached from behind everything, whichever version of the protocol it is, and where UDP is blocked by TLS.
pub(crate) fn every_kind_reaches_a_public_node(internet: &Internet) {
    let server = internet.dual_stack();
    let listen: Vec<String> =
        server.outside.iter().map(|ip| std::net::SocketAddr::new(*ip, 4433).to_string()).collect();
    let node = Node::start(server.host(), &["--listen", &listen[0], "--listen", &listen[1]]);
    let others = [Kind::Lan, Kind::Hairpin, Kind::PublicV6, Kind::FirewallV6];
    std::thread::scope(|scope| {
        for kind in Kind::MATRIX.into_iter().chain(others) {
            let node = &node;
            scope.spawn(move || {
                let site = internet.site(kind);
                let lines =
                    ping(site.host(), &[&node.peer_ref, "--count", "3", "--interval-ms", "1"]);
                let pongs = answered(&lines).unwrap_or_else(|| panic!("{kind}: {lines:?}"));
                let path = if kind == Kind::UdpBlocked { "relay-tls" } else { "direct" };
                assert_eq!(pongs[pongs.len() - 1]["path"], path, "{kind}: {lines:?}");
            });
        }
    });
}
