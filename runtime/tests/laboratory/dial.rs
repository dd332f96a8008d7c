//! Who reaches a public node, from where.

use crate::{
    internet::Internet,
    kind::Kind,
    process::{Node, ping},
};

/// A public node is reached from behind everything that passes UDP, whichever version of the protocol it is.
pub(crate) fn every_kind_but_udp_blocked_reaches_a_public_node(internet: &Internet) {
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
                    ping(site.host(), &[&node.peer_ref, "--count", "2", "--interval-ms", "1"]);
                let pongs = lines.iter().filter(|line| line["event"] == "pong").count();
                let expected = if kind == Kind::UdpBlocked { 0 } else { 2 };
                assert_eq!(pongs, expected, "{kind}: {lines:?}");
            });
        }
    });
}
