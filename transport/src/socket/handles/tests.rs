use std::time::Duration;

use super::*;

const CID: Cid = [1; crate::quic::cid::CID_LEN];

fn address(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

fn table() -> Handles {
    Handles::new(vec![address("0.0.0.0:1"), address("[::]:1"), address("0.0.0.0:2")], Some(1))
}

fn road(remote: &str) -> Road {
    Road { wire: 0, remote: address(remote), local: None, flow: None }
}

fn from(wire: usize, remote: SocketAddr) -> Source {
    Source { wire, remote, flow: None }
}

#[test]
fn a_literal_handle_leads_back_to_its_source_and_socket_and_stores_nothing() {
    let handles = table();
    for (wire, source) in [(0, "1.2.3.4:5"), (1, "[2001:db8::1]:5"), (2, "1.2.3.4:5")] {
        let source = address(source);
        let literal = handles.literal(from(wire, source), b"1").unwrap();
        assert!(literal.is_ipv6());
        let road = Road { wire, remote: source, local: None, flow: None };
        assert_eq!(handles.way(literal, None), Way::One(road));
    }
    assert!(handles.is_empty());
    assert_eq!(handles.literal(from(1, address("[fd77:6562:6d00::1]:1")), b"1"), None);
}

#[test]
fn a_dial_races_until_the_first_answer_and_its_entries_go_with_the_connection() {
    let mut handles = table();
    let roads = [road("1.1.1.1:1"), road("2.2.2.2:2")];
    let handle = handles.dial(roads.to_vec());
    handles.attach(CID, handle, None);
    assert_eq!(handles.way(handle, None), Way::Each(&roads));
    let source = from(0, address("2.2.2.2:2"));
    assert_eq!(handles.long(&CID, source, false), Match::Handle(handle));
    assert_eq!(handles.way(handle, None), Way::One(roads[1]));
    handles.settle(&CID);
    assert_eq!(handles.at(from(0, address("2.2.2.2:2"))), &[handle]);
    handles.release(&CID);
    assert!(handles.is_empty());
}

#[test]
fn a_retry_pins_its_road_and_other_roads_cannot_disturb_it() {
    let mut handles = table();
    let handle = handles.dial(vec![road("1.1.1.1:1"), road("2.2.2.2:2")]);
    handles.attach(CID, handle, None);
    let (one, two) = (from(0, address("1.1.1.1:1")), from(0, address("2.2.2.2:2")));
    assert_eq!(handles.long(&CID, one, true), Match::Handle(handle));
    assert_eq!(handles.long(&CID, two, true), Match::Refused);
    assert_eq!(handles.long(&CID, one, true), Match::Refused);
    assert_eq!(handles.long(&CID, two, false), Match::Refused);
    assert_eq!(handles.long(&CID, one, false), Match::Handle(handle));
}

#[test]
fn a_peer_is_recognised_on_each_road_that_it_proved_whichever_is_in_use() {
    let mut handles = table();
    let handle = handles.dial(vec![road("1.1.1.1:1")]);
    handles.attach(CID, handle, None);
    handles.settle(&CID);
    assert_eq!(handles.recognise(handle, road("2.2.2.2:2")), Some(1));
    let source = from(0, address("2.2.2.2:2"));
    assert_eq!(handles.at(source), &[handle], "QUIC gave the peer an id that isn't in the table");
    assert_eq!(handles.way(handle, None), Way::One(road("1.1.1.1:1")));
    for n in 0..2 * ROADS_MAX {
        handles.recognise(handle, road(&format!("3.3.3.3:{}", n + 1)));
    }
    assert_eq!(handles.way(handle, None), Way::One(road("1.1.1.1:1")), "never forgotten");
    assert!(handles.at(source).is_empty());
    assert!(handles.sources.len() <= ROADS_MAX);
    handles.release(&CID);
    assert!(handles.is_empty());
}

#[test]
fn a_newcomer_at_an_address_that_a_connection_has_gets_a_handle_of_its_own() {
    let mut handles = table();
    let source = from(0, address("1.2.3.4:5"));
    let old = handles.literal(source, b"1").unwrap();
    handles.attach(CID, old, None);
    assert_eq!(handles.literal(source, b"1"), Some(old), "its handshake goes on");
    handles.settle(&CID);
    handles.set_whole(old, false);
    let mirror = Mirror::new(road("2.2.2.2:2"), true, Duration::from_secs(1), now());
    handles.mirror(old, Some(mirror));
    // A host that restarted, or one to which a NAT gave the port, before the former owner is seen elsewhere.
    let newcomer = handles.literal(source, b"2").unwrap();
    assert_ne!(newcomer, old);
    assert_eq!(handles.literal(source, b"2"), Some(newcomer), "its packets again");
    assert_ne!(handles.literal(source, b"3"), Some(newcomer), "yet another one");
    assert_eq!(handles.way(newcomer, None), Way::One(road("1.2.3.4:5")));
    let other: Cid = [2; crate::quic::cid::CID_LEN];
    handles.attach(other, newcomer, None);
    handles.settle(&other);
    assert!(handles.is_whole(newcomer), "what is known of the other doesn't count for it");
    handles.switch(old, road("1.2.3.4:99"));
    assert_eq!(handles.way(newcomer, None), Way::One(road("1.2.3.4:5")), "it doesn't follow");
    assert_eq!(handles.way(old, None), Way::One(road("1.2.3.4:99")));
    handles.release(&CID);
    handles.release(&other);
    assert!(handles.is_empty());
}

#[test]
fn a_local_address_is_refreshed_when_the_peer_is_heard_at_another_and_forgotten_when_it_is_lost() {
    let mut handles = table();
    let (here, there) = (address("9.9.9.9:1").ip(), address("8.8.8.8:1").ip());
    let source = from(0, address("1.2.3.4:5"));
    let handle = handles.literal(source, b"1").unwrap();
    handles.attach(CID, handle, Some(here));
    handles.settle(&CID);
    let from = |local| Road { local, ..road("1.2.3.4:5") };
    assert_eq!(handles.way(handle, None), Way::One(from(Some(here))));
    handles.recognise(handle, from(Some(there)));
    assert_eq!(handles.way(handle, None), Way::One(from(Some(there))));
    handles.recognise(handle, from(None));
    handles.forget_local(here);
    assert_eq!(handles.way(handle, None), Way::One(from(Some(there))));
    handles.forget_local(there);
    assert_eq!(handles.way(handle, None), Way::One(from(None)));
}

#[test]
fn two_connections_at_one_source_are_matched_by_their_ids() {
    let mut handles = table();
    let other: Cid = [2; crate::quic::cid::CID_LEN];
    let dialled = handles.dial(vec![road("1.1.1.1:1")]);
    handles.attach(CID, dialled, None);
    handles.settle(&CID);
    let source = from(0, address("1.1.1.1:1"));
    let accepted = handles.literal(source, b"1").unwrap();
    handles.attach(other, accepted, None);
    handles.settle(&other);
    assert_eq!(handles.short(&CID), Match::Handle(dialled));
    assert_eq!(handles.short(&other), Match::Handle(accepted));
    assert_eq!(handles.at(from(0, address("1.1.1.1:1"))), &[dialled, accepted]);
    handles.release(&CID);
    assert_eq!(handles.at(from(0, address("1.1.1.1:1"))), &[accepted]);
    handles.release(&other);
    assert!(handles.is_empty());
}

#[test]
fn a_source_beyond_a_relay_is_its_flow_and_leads_back_through_it() {
    let mut handles = table();
    let (relay, token) = (address("9.9.9.9:9"), FlowToken(0x1234_5678_9abc_def0));
    let source = Source { wire: 2, remote: relay, flow: Some(token) };
    let literal = handles.literal(source, b"1").unwrap();
    assert_eq!(handles.way(literal, None), Way::Nowhere, "no such flow");
    let by = crate::identity::SecretKey::from_bytes([1; 32]).peer_id();
    let to_relay = Road { wire: 2, remote: relay, local: None, flow: None };
    handles.legs.open(token, [0; 32], by, to_relay);
    let road = Road::back(source, None);
    assert_eq!(handles.way(literal, None), Way::One(road));
    handles.attach(CID, literal, None);
    handles.settle(&CID);
    assert_eq!(handles.at(source), &[literal]);
    assert_eq!(handles.at(from(2, relay)), &[] as &[SocketAddr]);
    handles.switch(literal, self::road("1.2.3.4:5"));
    assert_ne!(handles.literal(source, b"1"), Some(literal), "a newcomer through the same flow");
    handles.release(&CID);
    assert!(handles.is_empty());
    assert_eq!(handles.literal(from(1, address("[fd77:6562:6d01::1]:1")), b"1"), None);
}

#[test]
fn in_doubt_a_few_datagrams_a_round_trip_go_along_another_road_and_a_switch_repeats_the_others() {
    let mut handles = table();
    let (used, other, third) = (road("1.1.1.1:1"), road("2.2.2.2:2"), road("3.3.3.3:3"));
    let handle = handles.dial(vec![used]);
    handles.attach(CID, handle, None);
    handles.settle(&CID);
    let contents: Vec<u8> = (0..10).flat_map(|n| [0x40 + n; 100]).collect();
    let (ecn, src_ip, segment_size) = (None, None, Some(100));
    let batch = Transmit { destination: handle, ecn, contents: &contents, segment_size, src_ip };
    assert_eq!(handles.sending(&batch).1, Sending::default());
    assert_eq!(handles.echo(handle), None, "nothing is kept while there is no doubt");
    let now = now();
    let hour = Duration::from_secs(3600);
    let acks = Arc::new(Acks::new(now - hour));
    handles.heed(handle, acks.clone());
    // For a while it isn't known what arrived: what is sent from then on is kept, until that is known.
    handles.watch(handle, true);
    handles.set_patience(handle, hour);
    assert!(handles.sending(&batch).1.look);
    assert_eq!(handles.unproven(now), (vec![], true));
    assert_eq!(handles.unproven(now + hour * 3 / 4), (vec![], true));
    handles.sending(&batch);
    assert_eq!(handles.echo(handle).unwrap().1.len(), ECHO_MAX);
    acks.acked(super::now(), super::now());
    assert_eq!(handles.unproven(now + hour * 3 / 4), (vec![], false));
    assert_eq!(handles.echo(handle), None);
    assert!(handles.sending(&batch).1.look);
    let later = super::now() + hour * 3 / 4;
    assert_eq!(handles.unproven(later), (vec![], true));
    handles.sending(&batch);
    let later = super::now() + hour;
    let (questions, true) = handles.unproven(later) else { panic!("it still waits") };
    assert!(matches!(questions[..], [(about, Some(_))] if about == handle), "a question is asked");
    assert_eq!(handles.unproven(later), (vec![], true), "once");
    let last = handles.mirror(handle, Some(Mirror::new(other, false, hour, now)));
    assert_eq!(last.len(), ECHO_MAX);
    let mirrored = (0..20).filter(|_| {
        let mirror = handles.sending(&batch).1.mirror;
        assert!(mirror.is_none_or(|to| to == (other, false)));
        mirror.is_some()
    });
    assert_eq!(mirrored.count(), MIRRORED_MAX / 10);
    let last = Transmit { contents: &[0x41; 9], segment_size: None, ..batch };
    assert_eq!(handles.sending(&last).1.mirror, Some((other, false)), "there is room for four");
    let repeated = |handles: &Handles| handles.echo(handle).unwrap().1.len();
    assert_eq!(repeated(&handles), ECHO_MAX);
    // Along the road that has had the last one already, that isn't sent again.
    handles.switch(handle, other);
    assert_eq!(repeated(&handles), ECHO_MAX - 1);
    handles.switch(handle, third);
    assert_eq!(repeated(&handles), ECHO_MAX);
    handles.mirror(handle, None);
    assert_eq!(handles.echo(handle), None);
    handles.keep_echo(handle, true);
    handles.mirror(handle, Some(Mirror::new(other, true, hour, now)));
    handles.sending(&last);
    handles.mirror(handle, None);
    assert_eq!(repeated(&handles), 1, "somebody else wants it");
}

#[test]
fn each_round_trip_has_room_for_as_many_mirrored_datagrams() {
    let (start, rtt) = (Instant::now(), Duration::from_millis(100));
    let mut mirror = Mirror::new(road("1.1.1.1:1"), true, rtt, start);
    let mut count = |at| (0..1000).filter(|_| mirror.takes(1, at)).count();
    assert_eq!(count(start), MIRRORED_MAX);
    assert_eq!(count(start + rtt / 2), 0);
    assert_eq!(count(start + rtt), MIRRORED_MAX);
}

#[test]
fn a_socket_on_loopback_is_used_for_this_machine_alone() {
    let locals = ["127.0.0.1:1", "[::]:2"].map(address).to_vec();
    let handles = Handles::new(locals, Some(1));
    assert_eq!(handles.wire_to(address("127.0.0.2:5")), Some(0));
    assert_eq!(handles.wire_to(address("192.0.2.7:4433")), None, "the system would refuse to send");
    assert_eq!(handles.wire_to(address("[2001:db8::1]:5")), Some(1));
    for own in crate::interfaces::addresses().unwrap().all.into_iter().filter(IpAddr::is_ipv4) {
        assert_eq!(handles.wire_to(SocketAddr::new(own, 5)), Some(0), "{own} is this machine");
    }
    let handles = Handles::new(["127.0.0.1:1", "10.0.0.5:2"].map(address).to_vec(), Some(1));
    assert_eq!(handles.wire_to(address("192.0.2.7:4433")), Some(1), "one that isn't so confined");
}

#[test]
fn of_many_connections_at_one_source_a_few_get_what_might_be_for_any() {
    let mut handles = table();
    let source = from(0, address("1.2.3.4:5"));
    for n in 0..100u8 {
        let cid: Cid = [n; crate::quic::cid::CID_LEN];
        let handle = handles.literal(source, &[n]).unwrap();
        handles.attach(cid, handle, None);
        handles.settle(&cid);
        assert!(handles.at(source).len() <= OWNERS_MAX);
        assert_eq!(handles.short(&cid), Match::Handle(handle), "each is known by its id");
    }
}
