//! Ways that take less than QUIC needs.

use crate::{
    internet::Internet,
    kind::Kind,
    process::{Node, ping, run},
};

/// The router at home takes whole packets, and the next one doesn't: either it says so, or it drops them, as many firewalls have it.
pub(crate) fn a_way_that_is_narrow_beyond_the_second_router_is_told(internet: &Internet) {
    for silent in [false, true] {
        let (server, here) = (internet.site(Kind::Public), internet.site(Kind::PortRestricted));
        let listen = format!("{}:4433", server.outside[0]);
        // Tunnels of TCP would get through.
        let node = Node::start(server.host(), &["--listen", &listen, "--no-serve"]);
        let count = ["--count", "1", &node.peer_ref];
        let before = ping(here.host(), &count);
        assert_eq!(before[0]["event"], "pong", "{before:?}");
        let _dropped = if silent {
            Some(internet.too_narrow(here.outside[0], server.outside[0]))
        } else {
            internet.lower_mtu(&server);
            None
        };
        for (command, args) in [("ping", &count[..]), ("explain", &count[2..])] {
            let lines = run(here.host(), command, args);
            let last = &lines[lines.len() - 1];
            println!("silent: {silent}: {last}");
            assert_eq!(last["code"], "mtu", "{command}, silent: {silent}: {lines:?}");
        }
    }
}
