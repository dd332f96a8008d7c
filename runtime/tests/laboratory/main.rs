//! The NAT laboratory: real `webmesh` processes in network namespaces, behind real NATs made of nftables rules.
//!
//! docs/reachability.md describes it and shows what it found. [`enter`] goes into namespaces of our own, as root or as
//! anybody; [`namespace`] is one computer or router, held by an [`agent`]; [`kind`] has the kinds of routers and
//! [`internet`] puts them together. [`checks`] proves that each is what it claims; [`dial`] and [`matrix`] run today's binaries.
//!
//! Where the machine cannot have a laboratory, every test is counted as ignored and standard error says why.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

mod addresses;
mod agent;
mod chat;
mod checks;
mod dial;
mod enter;
mod internet;
mod kind;
mod lossy;
mod matrix;
mod namespace;
mod narrow;
mod neighbours;
mod process;
mod relays;
mod restarts;
mod stream;
mod switches;

use internet::Internet;
use kind::Kind;
use libtest_mimic::{Arguments, Trial};
use std::process::ExitCode;

fn main() -> ExitCode {
    let role = std::env::args().nth(1);
    let result = match role.as_deref() {
        Some(agent::ROLE) => agent::run(),
        Some(enter::PROBE) => enter::probe(),
        Some(part @ (stream::COUNTER | stream::SENDER)) => {
            let args: Vec<String> = std::env::args().skip(2).collect();
            stream::play(part, &args)
        }
        Some(part @ (restarts::KEEPER | restarts::CALLER)) => {
            let args: Vec<String> = std::env::args().skip(2).collect();
            restarts::play(part, &args)
        }
        _ => return tests(),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

fn tests() -> ExitCode {
    let arguments = Arguments::from_args();
    let impossible = if arguments.list { None } else { enter::enter().err() };
    if let Some(reason) = &impossible {
        let line = "=".repeat(100);
        eprintln!("{line}\nTHE NAT LABORATORY IS SKIPPED: {reason}");
        eprintln!(
            "It needs iproute2, nftables and util-linux, and root or user namespaces.\n{line}"
        );
    }
    let trials = trials().into_iter().map(|trial| {
        let ignored = trial.has_ignored_flag() || impossible.is_some();
        trial.with_ignored_flag(ignored)
    });
    libtest_mimic::run(&arguments, trials.collect()).exit_code()
}

fn trials() -> Vec<Trial> {
    let mut trials: Vec<Trial> = Vec::new();
    for kind in Kind::MATRIX.into_iter().chain([Kind::Lan, Kind::Hairpin]) {
        if kind != Kind::UdpBlocked {
            let name = format!("{}_is_what_it_claims", sentence(kind));
            trials
                .push(trial(name, move |internet| checks::kind_is_what_it_claims(internet, kind)));
        }
    }
    macro_rules! named {
        ($($module:ident::$name:ident),* $(,)?) => {
            $(trials.push(trial(stringify!($name).to_owned(), $module::$name));)*
        };
    }
    named!(
        checks::ipv6_is_open_or_firewalled,
        checks::udp_is_blocked_and_tcp_passes,
        checks::an_accepting_router_displaces_later_mappings,
        checks::an_accepting_neighbour_gives_a_port_back_after_half_a_minute,
        checks::two_hosts_behind_one_router_meet_on_the_lan,
        checks::some_routers_turn_packets_round,
        checks::roads_are_cut_and_lossy_on_demand,
        checks::nothing_private_travels_outside,
        dial::every_kind_reaches_a_public_node,
        addresses::a_host_with_twelve_interfaces_is_reached_by_the_only_address_that_leads_to_it,
        restarts::a_peer_killed_and_started_anew_elsewhere_is_reached_by_its_new_reference,
        lossy::a_working_road_is_kept_where_both_ends_lose_datagrams,
        matrix::every_pair_meets_through_one_public_node,
        matrix::explain_says_why_a_road_is_not_direct,
        switches::nothing_is_lost_when_the_road_changes,
        switches::a_direct_road_that_takes_less_than_the_relay_holds_nothing_up,
        narrow::a_way_that_is_narrow_beyond_the_second_router_is_told,
        switches::a_host_that_moves_is_followed,
        switches::a_change_of_address_or_route_is_noticed_when_it_happens,
        neighbours::two_hosts_behind_one_router_exchange_messages,
        neighbours::hosts_of_ipv6_exchange_messages,
        neighbours::neighbours_whose_routers_accept_are_punched,
        neighbours::hosts_behind_accepting_routers_exchange_messages,
        relays::a_relay_with_two_addresses_serves_symmetric_hosts_by_either,
        relays::hosts_are_punched_though_no_node_relays,
        relays::pings_go_on_after_the_only_public_node_was_restarted,
        matrix::a_symmetric_nat_is_got_through_by_the_birthday_attempt,
    );
    let chat = chat::binary().is_some();
    if !chat {
        eprintln!(
            "THE CHAT BETWEEN NATS IS SKIPPED: the example isn't built (cargo build -p chat)"
        );
    }
    let name = "two_hosts_behind_nats_chat_by_the_printed_invite_alone".to_owned();
    let between = trial(name, chat::two_hosts_behind_nats_chat_by_the_printed_invite_alone);
    trials.push(between.with_ignored_flag(!chat));
    trials
}

fn trial(name: String, check: impl FnOnce(&Internet) + Send + 'static) -> Trial {
    Trial::test(name, move || {
        // One for each: it has addresses for 245 sites, and all tests together need more.
        check(&Internet::new());
        Ok(())
    })
}

fn sentence(kind: Kind) -> String {
    kind.to_string().replace([' ', '-'], "_").replace(',', "").to_lowercase()
}
