//! Which of the addresses known for a peer are worth a dial, and over which socket.

use std::net::SocketAddr;

use crate::{
    ground::address::{canonical, dialable},
    socket::handles::Handles,
    wire::road::Road,
};

/// Addresses raced at a time; the next follow when these have been silent for a while. A guess against being used to send
/// handshakes to a list of victims.
pub(crate) const CANDIDATES_MAX: usize = 8;

/// Addresses that one dial tries, and no more than these however many are named: all of a PeerRef, and as many as others may name
/// beside it. Each costs whoever lives there a handful of first packets.
pub(crate) const TRIED_MAX: usize = 24;

/// The roads to try for `addresses`, in their order, each once; those that cannot be anyone's, and
/// those of a family without a socket, are left out.
pub(crate) fn roads(
    handles: &Handles,
    addresses: impl IntoIterator<Item = SocketAddr>,
) -> Vec<Road> {
    let mut roads: Vec<Road> = Vec::new();
    for address in addresses {
        let remote = canonical(address);
        if roads.len() == TRIED_MAX
            || !dialable(remote)
            || roads.iter().any(|road| road.remote == remote)
        {
            continue;
        }
        if let Some(wire) = handles.wire_to(remote) {
            roads.push(Road { wire, remote, local: None, flow: None });
        }
    }
    roads
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_dialled_is_left_out_and_each_address_is_tried_once() {
        let handles = Handles::new(vec!["0.0.0.0:1".parse().unwrap()], Some(1));
        let known =
            ["0.0.0.0:1", "224.0.0.1:1", "255.255.255.255:1", "10.0.0.1:0", "[2001:db8::1]:1"];
        let known = known.into_iter().chain(["10.0.0.1:5", "[::ffff:10.0.0.1]:5", "10.0.0.2:5"]);
        let roads = roads(&handles, known.map(|a| a.parse().unwrap()));
        let remotes: Vec<_> = roads.iter().map(|road| road.remote.to_string()).collect();
        assert_eq!(remotes, ["10.0.0.1:5", "10.0.0.2:5"]);
        let crowd = (1..=250).map(|n| SocketAddr::from(([10, 0, 1, n], 5)));
        assert_eq!(super::roads(&handles, crowd).len(), TRIED_MAX);
    }
}
