//! Nothing is lost when the road changes.

use crate::{
    internet::Internet,
    kind::Kind,
    process::{Node, webmesh},
    stream::Player,
};
use std::{
    io::{BufRead, BufReader},
    process::Stdio,
    time::{Duration, Instant},
};

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

/// The system's word is enough: nobody waits for the next look, each of which would come two seconds after the one that noticed
/// the change before. How long each change took to be noticed is printed.
pub(crate) fn a_change_of_address_or_route_is_noticed_when_it_happens(internet: &Internet) {
    let site = internet.site(Kind::PortRestricted);
    let identity = tempfile::tempdir().unwrap();
    let mut process = webmesh(site.host(), &["node", "--data", identity.path().to_str().unwrap()])
        .env("RUST_LOG", "webmesh_transport=info")
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let (say, said) = std::sync::mpsc::channel();
    for output in [
        Box::new(process.stdout.take().unwrap()) as Box<dyn std::io::Read + Send>,
        Box::new(process.stderr.take().unwrap()),
    ] {
        let say = say.clone();
        std::thread::spawn(move || {
            BufReader::new(output).lines().map_while(Result::ok).for_each(|line| {
                let _ = say.send(line);
            });
        });
    }
    let wait_for = |words: &str| {
        let begun = Instant::now();
        while !said.recv_timeout(Duration::from_secs(30)).expect(words).contains(words) {}
        begun.elapsed()
    };
    wait_for("peer_ref");
    let (addresses, way) = ("the addresses of this host", "the way from this host");
    let changes = [
        ("addr add 192.168.1.77/24 dev eth0", addresses),
        ("route replace default via 192.168.1.2", way),
        ("addr add 192.168.1.78/24 dev eth0", addresses),
        ("route replace default via 192.168.1.1", way),
        ("addr del 192.168.1.78/24 dev eth0", addresses),
        ("addr add fd00::77/64 dev eth0", addresses),
        ("route del default", way),
    ];
    let mut took: Vec<_> = changes
        .map(|(change, words)| {
            site.host().ip(change);
            let took = wait_for(words);
            println!("{change}: {took:?}");
            took
        })
        .into();
    process.kill().unwrap();
    process.wait().unwrap();
    took.sort();
    assert!(took[took.len() / 2] < Duration::from_secs(1), "{took:?}");
}
