//! Hosts that lose some of what arrives: a road that works is kept all the same.

use crate::{
    internet::Internet,
    kind::Kind,
    namespace::Namespace,
    process::{Node, ping},
};

/// Of each host's arriving datagrams.
const LOSS_PERCENT: u8 = 3;

const PINGS: &str = "300";
const PING_EVERY_MS: &str = "50";

/// So many replies say something about the road. Of 300, 18 are lost on the way as a rule, and 29 were at most.
const RECEIVED_MIN: u64 = 240;

/// Pairs that are measured at a time: they mostly wait, but the machine should not be busy.
const AT_A_TIME: usize = 3;

/// Each side loses datagrams, and a relay stands by. Once the first road to the other is direct, it stays.
pub(crate) fn a_working_road_is_kept_where_both_ends_lose_datagrams(internet: &Internet) {
    let server = internet.site(Kind::Public);
    let listen = format!("{}:4433", server.outside[0]);
    let relay = &Node::start(server.host(), &["--listen", &listen]);
    let pairs = [
        (Kind::FullCone, Kind::FullCone),
        (Kind::FullCone, Kind::Public),
        (Kind::Public, Kind::FullCone),
        (Kind::PortRestricted, Kind::FullCone),
        (Kind::FullCone, Kind::PortRestricted),
        (Kind::Public, Kind::PortRestricted),
        (Kind::PortRestricted, Kind::Public),
        (Kind::PortRestricted, Kind::PortRestricted),
    ];
    let mut wrong = Vec::new();
    for some in pairs.chunks(AT_A_TIME) {
        std::thread::scope(|scope| {
            let measured: Vec<_> = some
                .iter()
                .map(|(from, to)| scope.spawn(|| pair(internet, relay, *from, *to)))
                .collect();
            wrong.extend(measured.into_iter().filter_map(|pair| pair.join().unwrap()));
        });
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

/// Pings from one to the other, and says what was wrong.
fn pair(internet: &Internet, relay: &Node, from: Kind, to: Kind) -> Option<String> {
    let (here, there) = (internet.site(from), internet.site(to));
    [&here, &there].into_iter().for_each(|site| lose(site.host()));
    let node = Node::start(there.host(), &["--private", "--join", &relay.peer_ref]);
    let lines =
        ping(here.host(), &[&node.peer_ref, "--count", PINGS, "--interval-ms", PING_EVERY_MS]);
    let lost = [&here, &there].map(|site| dropped(site.host()));
    let summary = lines.last().unwrap();
    let unanswered = lines.iter().filter(|line| line["event"] == "lost");
    let unanswered: Vec<_> = unanswered.filter_map(|line| line["seq"].as_u64()).collect();
    println!("{from} to {to}, {lost:?} datagrams dropped, no reply to {unanswered:?}: {summary}");
    assert!(lost.into_iter().all(|lost| lost > 0), "{from} to {to}: nothing was dropped");
    // A ping that is lost on the way isn't sent again.
    let last = lines.iter().rfind(|line| line["event"] == "pong");
    let last = last.and_then(|pong| pong["path"].as_str());
    let right = matches!(last, Some("direct" | "punched"))
        && summary["changes"] == 0
        && summary["received"].as_u64() >= Some(RECEIVED_MIN);
    (!right).then(|| format!("{from} to {to}, at last {last:?}: {summary}"))
}

/// Some of what arrives at this host doesn't, from now on.
fn lose(host: &Namespace) {
    host.nft(&format!(
        "add table inet lossy\n\
         add chain inet lossy arriving {{ type filter hook input priority filter; }}\n\
         add rule inet lossy arriving meta l4proto udp numgen random mod 100 < {LOSS_PERCENT} counter drop"
    ));
}

/// How many datagrams that was.
fn dropped(host: &Namespace) -> u64 {
    let rules = host.nft("list chain inet lossy arriving");
    let count = rules.split("counter packets ").nth(1).and_then(|rest| rest.split(' ').next());
    count.and_then(|count| count.parse().ok()).unwrap_or_else(|| panic!("{rules}"))
}
