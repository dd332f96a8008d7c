//! Whose word it is what comes along a road.

use crate::{
    ground::address::is_public, peer_ref::hints::Origin, tunnel::is_far_end, wire::road::Road,
};

impl Origin {
    /// That of what a peer says which is reached along this road.
    pub(crate) fn of(road: Option<Road>) -> Self {
        // At the end of a relayed road or of a tunnel is the relay, wherever the peer may be.
        let Some(road) = road.filter(|road| road.flow.is_none() && !is_far_end(road.remote)) else {
            return Self::Internet;
        };
        match road.remote.ip().to_canonical() {
            ip if ip.is_loopback() => Self::Loopback,
            ip if is_public(ip) => Self::Internet,
            _ => Self::PrivateNetwork,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use super::*;

    #[test]
    fn a_peer_stands_where_its_own_road_ends_and_behind_a_relay_anywhere() {
        let road = |ip: &str| {
            let remote = SocketAddr::new(ip.parse().unwrap(), 5);
            Road { wire: 0, remote, local: None, flow: None }
        };
        assert_eq!(Origin::of(None), Origin::Internet);
        assert_eq!(Origin::of(Some(road("203.0.113.1"))), Origin::Internet);
        assert_eq!(Origin::of(Some(road("192.168.1.9"))), Origin::PrivateNetwork);
        assert_eq!(Origin::of(Some(road("::ffff:192.168.1.9"))), Origin::PrivateNetwork);
        assert_eq!(Origin::of(Some(road("::1"))), Origin::Loopback);
        let token = crate::wire::relay_frame::FlowToken(7);
        let relayed = Road { flow: Some(token), ..road("192.168.1.9") };
        assert_eq!(Origin::of(Some(relayed)), Origin::Internet);
        assert_eq!(Origin::of(Some(road("fd77:6562:6d02::1"))), Origin::Internet);
    }
}
