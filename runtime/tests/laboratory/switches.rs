//! Nothing is lost when the road changes.

use crate::{internet::Internet, kind::Kind, process::Node, stream::Player};
use std::time::Duration;

/// From the relay to a direct road; that is cut: back to the relay; that is killed: on to the other relay. Numbered
/// tells and asks arrive complete and in order all the while; how long each change held them up is printed.
pub(crate) fn nothing_is_lost_when_the_road_changes(internet: &Internet) {
    let servers = [internet.site(Kind::Public), internet.site(Kind::Public)];
    let mut nodes: Vec<(String, Node)> = servers
        .iter()
        .map(|site| {
            let address = format!("{}:4433", site.outside[0]);
            (address.clone(), Node::start(site.host(), &["--listen", &address]))
        })
        .collect();
    let (here, there) = (internet.site(Kind::PortRestricted), internet.site(Kind::FullCone));
    let (_counter, peer_ref) = Player::counter(there.host(), &[&nodes[0].1, &nodes[1].1]);
    let mut sender = Player::sender(here.host(), &peer_ref);
    sender.until(&["punched"], "");
    // Both have been on the direct road for a while.
    std::thread::sleep(Duration::from_secs(2));
    println!("relay to direct: {:?}", sender.report());
    let cut = internet.cut(here.outside[0], there.outside[0]);
    sender.until(&["relay-udp"], "");
    std::thread::sleep(Duration::from_secs(2));
    println!("direct cut: {:?}", sender.report());
    // By now both sides use the same one.
    let relay = sender.via();
    nodes.retain(|(address, _)| *address != relay);
    assert_eq!(nodes.len(), 1, "{relay}");
    let other = sender.until(&["relay-udp"], &relay);
    assert_eq!(other, nodes[0].0);
    std::thread::sleep(Duration::from_secs(2));
    println!("relay killed: {:?}", sender.report());
    drop(cut);
}

/// QUIC has found out what the relayed road takes when a direct one is found that takes less.
pub(crate) fn a_direct_road_that_takes_less_than_the_relay_holds_nothing_up(internet: &Internet) {
    let server = internet.site(Kind::Public);
    let address = format!("{}:4433", server.outside[0]);
    let node = Node::start(server.host(), &["--listen", &address]);
    let (here, there) = (internet.site(Kind::PortRestricted), internet.site(Kind::FullCone));
    let _narrow = internet.narrow(here.outside[0], there.outside[0]);
    let cut = internet.cut(here.outside[0], there.outside[0]);
    let (_counter, peer_ref) = Player::counter(there.host(), &[&node]);
    let mut sender = Player::sender(here.host(), &peer_ref);
    sender.until(&["relay-udp"], "");
    std::thread::sleep(Duration::from_secs(2));
    println!("relayed: {:?}", sender.report());
    drop(cut);
    sender.until(&["punched"], "");
    std::thread::sleep(Duration::from_secs(2));
    println!("relay of 1,500 to direct of 1,280 bytes: {:?}", sender.report());
}

/// A host whose address changes, as when it moves to another network, is followed; so is one whose NAT forgets it.
pub(crate) fn a_host_that_moves_is_followed(internet: &Internet) {
    let server = internet.site(Kind::Public);
    let address = format!("{}:4433", server.outside[0]);
    let node = Node::start(server.host(), &["--listen", &address]);
    let (here, there) = (internet.site(Kind::PortRestricted), internet.site(Kind::FullCone));
    let (_counter, peer_ref) = Player::counter(there.host(), &[&node]);
    let mut sender = Player::sender(here.host(), &peer_ref);
    sender.until(&["punched"], "");
    std::thread::sleep(Duration::from_secs(1));
    println!("before: {:?}", sender.report());
    here.host().ip(
        "addr del 192.168.1.10/24 dev eth0\naddr add 192.168.1.77/24 dev eth0\nroute add default via 192.168.1.1",
    );
    std::thread::sleep(Duration::from_secs(4));
    println!("the sender moved: {:?}", sender.report());
    there.host().ip(
        "addr del 192.168.1.10/24 dev eth0\naddr add 192.168.1.78/24 dev eth0\nroute add default via 192.168.1.1",
    );
    std::thread::sleep(Duration::from_secs(4));
    println!("the counter moved: {:?}", sender.report());
}
