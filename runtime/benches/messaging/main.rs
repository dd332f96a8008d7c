//! What a message costs, against raw quinn moving the same bytes in the same run.
//!
//! `cargo bench -p webmesh --bench messaging` prints a table, `-- --json` one JSON object a line; a word
//! (`-- tell`) runs only the cases whose name contains it, `-- --rounds 9` sets the number of interleaved rounds.
//!
//! Each figure of a round comes from two fresh processes on loopback, server and client, first for the reference and
//! then for Webmesh (the order alternates), and a ratio is the median of the rounds' paired ratios. Latency cases run
//! beside one busy loop of idle priority per CPU for every system alike: otherwise an idle CPU's wake-up, which varies
//! threefold, would be most of what is measured.

#![allow(clippy::unwrap_used, reason = "a benchmark that fails should say so and end")]

mod busy;
mod flood;
mod link_side;
mod local;
mod mesh_side;
mod process;
mod quinn_side;
mod report;

use process::{Role, Task};
use report::{Better, Case};

#[global_allocator]
static ALLOCATOR: cap::Cap<std::alloc::System> = cap::Cap::new(std::alloc::System, usize::MAX);

/// Every case: its name, unit, direction, what it is held against and the workload of both sides. `webmesh` is the
/// default placement, in which a message crosses threads twice on its way; `webmesh-in-place` has one thread a process,
/// as the reference at its best has.
fn cases() -> Vec<Case> {
    use Better::{Higher, Lower};
    let case = |name, unit, better, workload, webmesh, reference| Case {
        name,
        unit,
        better,
        workload,
        webmesh,
        reference,
        quiet_cpu: workload == "ping",
    };
    let flooded =
        "ask 64 B, 64 in flight, under 50,000 garbage datagrams/s (reference: aimed elsewhere)";
    vec![
        case("ask 64 B, one in flight, p50", "µs", Lower, "ping", "webmesh-in-place", "quinn"),
        case(
            "ask 64 B, one in flight, p50, threads",
            "µs",
            Lower,
            "ping",
            "webmesh",
            "quinn-multi-thread",
        ),
        case("tell 100 B, ordered", "messages/s", Higher, "stream", "webmesh", "quinn"),
        case(
            "tell 100 B, ordered, in place",
            "messages/s",
            Higher,
            "stream",
            "webmesh-in-place",
            "quinn",
        ),
        case("ask 64 B, 64 in flight", "asks/s", Higher, "pipeline", "webmesh-in-place", "quinn"),
        case(
            "ask 64 B, 64 in flight, threads",
            "asks/s",
            Higher,
            "pipeline",
            "webmesh",
            "quinn-multi-thread",
        ),
        case("1 MiB bodies", "MiB/s", Higher, "bulk", "webmesh", "quinn"),
        case("1 MiB bodies, in place", "MiB/s", Higher, "bulk", "webmesh-in-place", "quinn"),
        case("transport alone, 1 MiB bodies", "MiB/s", Higher, "bulk", "transport", "quinn"),
        case(flooded, "asks/s", Higher, "flood", "webmesh", "webmesh-beside-flood"),
        case("memory per idle connection, server", "KiB", Lower, "idle", "webmesh", "quinn"),
        case(
            "memory per rendezvous session, server",
            "KiB",
            Lower,
            "idle",
            "webmesh-session",
            "quinn",
        ),
    ]
}

fn main() {
    if let Some(task) = Task::from_args() {
        match (task.role, task.system.as_str()) {
            (Role::Busy, _) => busy::burn(),
            (Role::Flood, _) => flood::run(&task),
            (_, "transport") => link_side::run(&task),
            (_, "webmesh" | "webmesh-in-place" | "webmesh-beside-flood" | "webmesh-session") => {
                mesh_side::run(&task)
            }
            (_, _) => quinn_side::run(&task),
        }
        return;
    }
    let options = report::Options::from_args();
    options.print_machine();
    for case in cases().iter().filter(|case| options.wants(case.name)) {
        let rounds = process::rounds(case, options.rounds);
        options.print(case, &rounds);
    }
    if options.wants(local::TELL) {
        local::tell(&options);
    }
    if options.wants(local::ACTOR_MEMORY) {
        local::actor_memory(&options, &ALLOCATOR);
    }
}
