//! The laboratory proves that each of its boxes is what it claims to be, before anything of Webmesh runs in it.

use crate::{
    internet::{Internet, Site},
    kind::{Input, Kind},
    namespace::Namespace,
};
use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    time::Duration,
};

/// For what must arrive; generous, since machines can be busy.
const ARRIVES: Duration = Duration::from_secs(5);

/// For what must not arrive: a packet needs microseconds through the laboratory, and is sent before one that arrives.
const SILENCE: Duration = Duration::from_millis(60);

/// The port of the host in all checks.
const PORT: u16 = 5000;

/// The port of the observer that the host sends to.
const CONTACTED: u16 = 7000;

/// What stands between a host and the internet, as seen from there.
#[derive(Debug, PartialEq, Eq)]
struct Seen {
    /// Every destination sees the same outside port.
    same_for_all: bool,
    /// That port is the inside port.
    kept: bool,
    /// Strangers get in.
    stranger: bool,
    /// The contacted address gets in from another port.
    other_port: bool,
}

/// The host's own socket for destinations of this version.
fn local(remote: IpAddr, port: u16) -> SocketAddr {
    match remote {
        IpAddr::V4(_) => (Ipv4Addr::UNSPECIFIED, port).into(),
        IpAddr::V6(_) => (Ipv6Addr::UNSPECIFIED, port).into(),
    }
}

/// Sends from one to another, and gives the sender as it is seen there.
fn seen_from(from: (&Namespace, SocketAddr), to: (&Namespace, SocketAddr)) -> Option<SocketAddr> {
    to.0.bind(to.1);
    from.0.send(from.1, to.1, "seen");
    to.0.receive(to.1, ARRIVES).map(|(from, _)| from)
}

fn look(host: &Namespace, observer: &Site) -> Seen {
    let [a, b, stranger] = observer.outside[..] else { panic!("three addresses") };
    let watcher = observer.host();
    let inside = local(a, PORT);
    let look_at = |to: SocketAddr| seen_from((host, inside), (watcher, to)).expect("one way works");
    let first = look_at((a, CONTACTED).into());
    let others = [look_at((a, CONTACTED + 1).into()), look_at((b, CONTACTED).into())];

    // A fresh port, which has sent to one place only.
    let inside = local(a, PORT + 1);
    let contacted = SocketAddr::new(a, CONTACTED + 2);
    let outside = seen_from((host, inside), (watcher, contacted)).expect("one way works");
    watcher.send((stranger, CONTACTED + 2).into(), outside, "stranger");
    watcher.send((a, CONTACTED + 3).into(), outside, "other_port");
    watcher.send(contacted, outside, "contacted");
    let mut came = Vec::new();
    while let Some((_, word)) = host.receive(
        inside,
        if came.iter().any(|word| word == "contacted") { SILENCE } else { ARRIVES },
    ) {
        came.push(word);
    }
    assert!(came.iter().any(|word| word == "contacted"), "answers get in: {came:?}");
    Seen {
        same_for_all: others.iter().all(|other| *other == first),
        kept: first.port() == PORT,
        stranger: came.iter().any(|word| word == "stranger"),
        other_port: came.iter().any(|word| word == "other_port"),
    }
}

/// Each box maps and filters as its name says.
pub(crate) fn kind_is_what_it_claims(internet: &Internet, kind: Kind) {
    let observer = internet.observer();
    let site = internet.site(kind);
    let symmetric = kind == Kind::Symmetric;
    let (stranger, other_port) = match kind {
        Kind::Public | Kind::FullCone => (true, true),
        Kind::AddressRestricted => (false, true),
        _ => (false, false),
    };
    let seen = look(site.host(), &observer);
    assert_eq!(seen, Seen { same_for_all: !symmetric, kept: !symmetric, stranger, other_port });

    // Whatever it is, the host is seen under an address of its site.
    let (host, to) = (site.host(), SocketAddr::new(observer.outside[1], CONTACTED + 9));
    let outside = seen_from((host, local(to.ip(), PORT)), (observer.host(), to)).unwrap();
    assert!(site.outside.contains(&outside.ip()), "{outside}");
}

/// A host of IPv6 is reached by strangers, or only answered through its firewall.
pub(crate) fn ipv6_is_open_or_firewalled(internet: &Internet) {
    let watcher = internet.dual_stack();
    let stranger = internet.site(Kind::PublicV6);
    for (kind, open) in [(Kind::PublicV6, true), (Kind::FirewallV6, false)] {
        let site = internet.site(kind);
        let inside = local(site.outside[0], PORT);
        let to = SocketAddr::new(watcher.outside[1], CONTACTED);
        let outside = seen_from((site.host(), inside), (watcher.host(), to)).unwrap();
        assert_eq!(outside, SocketAddr::new(site.outside[0], PORT), "nothing is translated");
        stranger.host().send(local(outside.ip(), CONTACTED), outside, "stranger");
        watcher.host().send(to, outside, "contacted");
        let (_, first) = site.host().receive(inside, ARRIVES).unwrap();
        assert_eq!(first, if open { "stranger" } else { "contacted" }, "{kind}");
    }
}

/// TCP passes where UDP does not.
pub(crate) fn udp_is_blocked_and_tcp_passes(internet: &Internet) {
    let (observer, site) = (internet.observer(), internet.site(Kind::UdpBlocked));
    let to = SocketAddr::new(observer.outside[0], CONTACTED);
    observer.host().bind(to);
    site.host().send(local(to.ip(), PORT), to, "hello");
    assert_eq!(observer.host().receive(to, SILENCE), None);
    observer.host().listen(to);
    assert!(site.host().connects(to, ARRIVES));
}

/// What arrives before the host has sent takes the port away where the router accepts it, and leaves no trace where
/// the router drops it.
pub(crate) fn an_accepting_router_displaces_later_mappings(internet: &Internet) {
    for (input, kept) in [(Input::Drop, true), (Input::Accept, false)] {
        let observer = internet.observer();
        let site = internet.site_with(Kind::PortRestricted, input);
        let from = SocketAddr::new(observer.outside[0], CONTACTED);
        observer.host().send(from, SocketAddr::new(site.outside[0], PORT), "early");
        let inside = local(from.ip(), PORT);
        let outside = seen_from((site.host(), inside), (observer.host(), from)).unwrap();
        assert_eq!(outside.port() == PORT, kept, "{input:?}: {outside}");
    }
}

/// What gets no further than the next router takes a neighbour's port away if that accepts it, and what gets no further than
/// the own router doesn't, but keeps that open; until both entries of the neighbour have been forgotten.
pub(crate) fn an_accepting_neighbour_gives_a_port_back_after_half_a_minute(internet: &Internet) {
    let [one, other] = internet.neighbours(Input::Accept);
    let inside = [one.outside[0], other.outside[0]].map(|ip| local(ip, PORT));
    let outside = [one.outside[0], other.outside[0]].map(|ip| SocketAddr::new(ip, PORT));
    one.host().bind(inside[0]);
    one.host().send_short(inside[0], outside[1], 2, "near");
    other.host().send(inside[1], outside[0], "displaced");
    assert_eq!(one.host().receive(inside[0], SILENCE), None);
    assert_eq!(other.host().receive(inside[1], SILENCE), None, "nor did the first arrive");
    // Linux forgets after 30 s.
    for _ in 0..5 {
        std::thread::sleep(Duration::from_secs(7));
        one.host().send_short(inside[0], outside[1], 1, "home");
    }
    other.host().send(inside[1], outside[0], "call");
    assert_eq!(one.host().receive(inside[0], ARRIVES), Some((outside[1], "call".to_owned())));
    one.host().send(inside[0], outside[1], "answer");
    assert_eq!(other.host().receive(inside[1], ARRIVES), Some((outside[0], "answer".to_owned())));
}

/// Two hosts at home talk on their LAN, and from outside they have one address.
pub(crate) fn two_hosts_behind_one_router_meet_on_the_lan(internet: &Internet) {
    let (observer, site) = (internet.observer(), internet.site(Kind::Lan));
    let [one, other] = &site.hosts[..] else { panic!("two hosts") };
    let to = SocketAddr::new(observer.outside[0], CONTACTED);
    let inside = [local(to.ip(), PORT), local(to.ip(), PORT + 1)];
    let outside = [(one, inside[0]), (other, inside[1])]
        .map(|from| seen_from(from, (observer.host(), to)).unwrap());
    assert_eq!(outside[0].ip(), outside[1].ip(), "one address for both");
    one.send(inside[0], SocketAddr::new([192, 168, 1, 11].into(), PORT + 1), "lan");
    let (from, word) = other.receive(inside[1], ARRIVES).expect("they meet");
    assert_eq!((from.to_string().as_str(), word.as_str()), ("192.168.1.10:5000", "lan"));
    assert_eq!(other.receive(inside[1], SILENCE), None, "there is one way only");
}

/// Who sends to an outside port of its own router reaches the host there if the router turns packets round, and nobody else.
pub(crate) fn some_routers_turn_packets_round(internet: &Internet) {
    let observer = internet.observer();
    let to = SocketAddr::new(observer.outside[0], CONTACTED);
    for (kind, turned) in [
        (Kind::Hairpin, true),
        (Kind::Apart, false),
        (Kind::SymmetricApart, false),
        (Kind::Customers, true),
        (Kind::CustomersApart, false),
    ] {
        let site = internet.site(kind);
        let [one, other] = &site.hosts[..] else { panic!("two hosts") };
        let inside = [local(to.ip(), PORT), local(to.ip(), PORT + 1)];
        let outside = [(one, inside[0]), (other, inside[1])]
            .map(|from| seen_from(from, (observer.host(), to)).unwrap());
        assert_eq!(outside[0].ip(), outside[1].ip(), "{kind}: one address for both");
        // At home a router may ask that both have sent.
        other.send(inside[1], outside[0], "opens");
        one.send(inside[0], outside[1], "hairpin");
        let came = other.receive(inside[1], if turned { ARRIVES } else { SILENCE });
        assert_eq!(came, turned.then(|| (outside[0], "hairpin".to_owned())), "{kind}");
        if kind.is_apart() {
            one.send(inside[0], SocketAddr::new([192, 168, 1, 11].into(), PORT + 1), "lan");
            assert_eq!(other.receive(inside[1], SILENCE), None, "{kind}: kept apart");
        }
    }
}

/// Roads are cut and lossy on demand, and whole again afterwards.
pub(crate) fn roads_are_cut_and_lossy_on_demand(internet: &Internet) {
    let (one, other) = (internet.site(Kind::Public), internet.site(Kind::Public));
    let to = SocketAddr::new(other.outside[0], CONTACTED);
    let from = local(to.ip(), PORT);
    other.host().bind(to);
    let arrived = |count: usize| {
        (0..count).for_each(|_| one.host().send(from, to, "word"));
        std::iter::from_fn(|| other.host().receive(to, SILENCE)).count()
    };
    assert_eq!(arrived(20), 20);
    let cut = internet.cut(one.outside[0], other.outside[0]);
    assert_eq!(arrived(20), 0);
    drop(cut);
    let lossy = internet.lose(one.outside[0], other.outside[0], 50);
    let some = arrived(200);
    // Six standard deviations: one in a billion fails.
    assert!((58..=142).contains(&some), "{some} of 200 at 50%");
    drop(lossy);
    assert_eq!(arrived(20), 20);
}

/// A host behind a NAT cannot reach the private address of another, and its attempt does not get far.
pub(crate) fn nothing_private_travels_outside(internet: &Internet) {
    let before = internet.leaked();
    let site = internet.site(Kind::Carrier);
    let to = SocketAddr::new([192, 168, 1, 10].into(), CONTACTED);
    site.host().send(local(to.ip(), PORT), to, "lost");
    assert_eq!(internet.leaked(), before, "every sender is translated before it leaves");
}
