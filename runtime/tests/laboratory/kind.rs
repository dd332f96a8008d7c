//! The kinds of hosts, and what their routers do, as nftables rules.

use std::{fmt, net::Ipv4Addr};

/// How a host is connected to the internet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// It has an address of its own and nothing in between.
    Public,
    /// A NAT that lets anybody in on a port that was ever used.
    FullCone,
    /// A NAT that lets in whom the port has sent to, from any port of theirs.
    AddressRestricted,
    /// A NAT that lets in whom the port has sent to, from the port that was sent to.
    PortRestricted,
    /// Like that, and each destination sees another outside port.
    Symmetric,
    /// A port-restricted NAT at home behind one of the carrier.
    Carrier,
    /// An address of its own behind a firewall that lets only answers in.
    Firewall,
    /// A port-restricted NAT that passes TCP and no UDP.
    UdpBlocked,
    /// Two hosts on the LAN of a port-restricted NAT.
    Lan,
    /// Two hosts that cannot reach each other on the LAN, behind a port-restricted NAT that turns packets round.
    Hairpin,
    /// The same, and the router doesn't.
    Apart,
    /// Two hosts that cannot reach each other on the LAN, behind a symmetric NAT.
    SymmetricApart,
    /// Two homes behind one carrier, whose router turns packets round as RFC 6888 demands.
    Customers,
    /// The same, and it doesn't.
    CustomersApart,
    /// A public host with IPv6 only.
    PublicV6,
    /// A firewalled host with IPv6 only.
    FirewallV6,
}

impl Kind {
    /// Those of the matrix: every one in front of every other.
    pub(crate) const MATRIX: [Kind; 8] = [
        Kind::Public,
        Kind::FullCone,
        Kind::AddressRestricted,
        Kind::PortRestricted,
        Kind::Symmetric,
        Kind::Carrier,
        Kind::Firewall,
        Kind::UdpBlocked,
    ];

    /// Hosts on its LAN.
    pub(crate) fn hosts(self) -> usize {
        if self == Kind::Lan || self.is_apart() { 2 } else { 1 }
    }

    /// Whether there is a carrier's router between it and the internet.
    pub(crate) fn is_carrier(self) -> bool {
        matches!(self, Kind::Carrier | Kind::Customers | Kind::CustomersApart)
    }

    /// Whether its router sends back what inside hosts send to its outside ports.
    fn turns_round(self) -> bool {
        matches!(self, Kind::Hairpin | Kind::Customers)
    }

    fn is_symmetric(self) -> bool {
        matches!(self, Kind::Symmetric | Kind::SymmetricApart)
    }

    /// Whether the LAN keeps its hosts apart.
    pub(crate) fn is_apart(self) -> bool {
        matches!(self, Kind::Hairpin | Kind::Apart | Kind::SymmetricApart)
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Kind::Public => "public",
            Kind::FullCone => "full cone",
            Kind::AddressRestricted => "address-restricted",
            Kind::PortRestricted => "port-restricted",
            Kind::Symmetric => "symmetric",
            Kind::Carrier => "carrier-grade",
            Kind::Firewall => "firewall",
            Kind::UdpBlocked => "UDP blocked",
            Kind::Lan => "same LAN",
            Kind::Hairpin => "hairpin",
            Kind::Apart => "apart without hairpin",
            Kind::SymmetricApart => "apart behind symmetric",
            Kind::Customers => "customers of a carrier",
            Kind::CustomersApart => "customers of a carrier without hairpin",
            Kind::PublicV6 => "public, IPv6",
            Kind::FirewallV6 => "firewall, IPv6",
        })
    }
}

/// What a router does with packets from outside that are for nobody behind it.
///
/// It matters to hole punching: an accepted packet leaves an entry in the connection table, and when a host behind
/// the router then sends to where that packet came from, its usual outside port is taken and it gets another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Input {
    /// Dropped without a trace, as most home routers do.
    Drop,
    /// Accepted by the router itself.
    Accept,
}

/// The rules of the router in front of a host of this kind: `up` is outside, `lan` inside, `outside` its address there.
pub(crate) fn rules(kind: Kind, input: Input, outside: Option<Ipv4Addr>) -> String {
    let udp = if kind == Kind::UdpBlocked { "meta l4proto udp drop" } else { "" };
    let policy = if input == Input::Drop { "drop" } else { "accept" };
    let filter = format!(
        r#"
table inet filter {{
    chain input {{
        type filter hook input priority filter; policy {policy};
        icmpv6 type {{ nd-neighbor-solicit, nd-neighbor-advert, nd-router-advert }} accept
    }}
    chain forward {{
        type filter hook forward priority filter; policy drop;
        {udp}
        ct state established,related accept
        iifname "lan" accept
        ct status dnat accept
    }}
}}
"#
    );
    let Some(outside) = outside else { return filter };
    // Who may come in on a port that a host has used, other than those whom connection tracking knows.
    let inbound = match kind {
        Kind::FullCone => r#"iifname "up" dnat to udp dport map @owners"#,
        Kind::AddressRestricted => {
            r#"iifname "up" udp dport . ip saddr @contacted dnat to udp dport map @owners"#
        }
        kind if kind.turns_round() => r#"iifname "lan" dnat to udp dport map @owners"#,
        _ => "",
    };
    let inbound = match inbound {
        "" => String::new(),
        rule => format!("ip daddr {outside} udp dport 1024-65535 {rule}"),
    };
    // What is sent back comes from outside for whoever gets it, else the answer would take the short way.
    let hairpin = match kind.turns_round() {
        true => format!(r#"iifname "lan" oifname "lan" ct status dnat snat to {outside}"#),
        false => String::new(),
    };
    let masquerade = if kind.is_symmetric() { "masquerade fully-random" } else { "masquerade" };
    format!(
        r#"{filter}
table ip nat {{
    # Which host uses an outside port, and to whom it has sent from there. Ports are kept, so outside is as inside.
    map owners {{ type inet_service : ipv4_addr; flags dynamic,timeout; timeout 120s; size 65535; }}
    set contacted {{ type inet_service . ipv4_addr; flags dynamic,timeout; timeout 120s; size 65535; }}
    chain noting {{
        type filter hook forward priority filter - 5;
        iifname "lan" ip protocol udp update @owners {{ udp sport : ip saddr }}
        iifname "lan" ip protocol udp update @contacted {{ udp sport . ip daddr }}
    }}
    chain entering {{
        type nat hook prerouting priority dstnat;
        {inbound}
    }}
    chain leaving {{
        type nat hook postrouting priority srcnat;
        {hairpin}
        oifname "up" {masquerade}
    }}
}}
"#
    )
}
