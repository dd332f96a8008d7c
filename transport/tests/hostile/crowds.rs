//! Crowds that ask a rendezvous for sessions and introductions as fast as they can, over connections of their own, while
//! what they sent is sent again from everywhere.
//!
//! The shares of honest traffic are printed: at least 0.8 is promised on a machine that does nothing else.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use crate::{
    Dice,
    alone::{is_alone, resident},
    attacker::Attacker,
    common::host,
    flood::{Flood, PER_SECOND, share_amid},
    forwarders::{Between, Conduct},
    guests::{greet, introduce},
    liars::next,
    serves, serves_in_the_end,
};

/// Hosts with keys of their own among the crowd; every other one never reads an answer.
const CROWD: u8 = 6;

/// The flood amid which newcomers are let in. Without optimisation two CPUs that also make the flood aren't through with more,
/// and of what nobody reads the kernel drops whatever comes, newcomers included.
const AMID: u64 = if cfg!(debug_assertions) { 10_000 } else { PER_SECOND };

/// One write of theirs.
const CHUNK: usize = 64 << 10;

/// What the crowd asked, and what it was answered.
#[derive(Default)]
struct Tally {
    came: AtomicU64,
    asked: AtomicU64,
    answered: AtomicU64,
}

/// Has a host ask the same for ever, as much at a time as QUIC takes, and come back whenever it is cut off.
fn press(n: u8, server: SocketAddr, question: &[u8], reads: bool, tally: Arc<Tally>) {
    let note = [&[0x10], &(question.len() as u16).to_be_bytes()[..], question].concat();
    let count = CHUNK / note.len();
    let chunk = note.repeat(count);
    tokio::spawn(async move {
        let attacker = Attacker::with_key(n).keeping_little();
        loop {
            let Some((_connection, mut tx, mut rx, _)) = greet(&attacker, server).await else {
                tokio::time::sleep(Duration::from_millis(20)).await;
                continue;
            };
            tally.came.fetch_add(1, Ordering::Relaxed);
            let ask = async {
                while tx.write_all(&chunk).await.is_ok() {
                    tally.asked.fetch_add(count as u64, Ordering::Relaxed);
                }
            };
            let hear = async {
                while reads && let Some(body) = next(&mut rx).await {
                    // Reserved, Refused, Introduced, Unavailable.
                    let answer = matches!(body[0], 2 | 3 | 7 | 8);
                    tally.answered.fetch_add(answer.into(), Ordering::Relaxed);
                }
                std::future::pending::<()>().await;
            };
            tokio::select! {
                () = ask => {}
                () = hear => {}
            }
        }
    });
}

async fn amid_a_crowd(what: &str, question: Vec<u8>) {
    let (server, guest) = (host(1).await, host(2).await);
    let keeper = Between::before(server.address(), Conduct::Keeping).await;
    let (begun, tally) = (Instant::now(), Arc::new(Tally::default()));
    for n in 0..CROWD {
        press(30 + n, keeper.front, &question, n % 2 == 0, tally.clone());
    }
    // Whatever QUIC lets them have on the way is on the way.
    let all = async {
        while keeper.kept.lock().len() < 64 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        tokio::time::sleep(Duration::from_millis(500)).await;
    };
    tokio::time::timeout(Duration::from_secs(20), all).await.expect("the crowd is too quiet");
    let kept: &'static [Vec<u8>] = Box::leak(keeper.kept.lock().clone().into_boxed_slice());
    let before = resident();
    let again = move |dice: &Dice| kept[dice.roll() as usize % kept.len()].clone();
    let share = share_amid(&server, &guest, what, again).await;
    assert!(share > 0.0, "nothing got through");
    // Newcomers are served amid it and afterwards.
    let flood = Flood::start(server.address(), Some(AMID), again);
    tokio::time::sleep(Duration::from_millis(500)).await;
    let newcomer = host(3).await;
    serves_in_the_end(&server, &newcomer).await;
    let grown = resident().saturating_sub(before);
    drop(flood);
    serves(&server, &host(4).await).await;
    let [came, asked, answered] =
        [&tally.came, &tally.asked, &tally.answered].map(|count| count.load(Ordering::Relaxed));
    // 40 at once and 20 a second on each connection (docs/wire-transport.md).
    let due = 40 * came + 20 * (begun.elapsed().as_secs() + 1) * u64::from(CROWD);
    println!(
        "{what}: over {came} connections {asked} were written, {answered} answers read; \
         memory grew by {} KiB",
        grown >> 10
    );
    assert!(answered > 0 && answered <= due, "{answered} answers, {due} were due");
    assert!(grown < 96 << 20, "memory grew by {} MiB", grown >> 20);
}

#[tokio::test]
async fn honest_traffic_goes_on_amid_a_crowd_that_wants_introductions() {
    if !is_alone("crowds::honest_traffic_goes_on_amid_a_crowd_that_wants_introductions") {
        return;
    }
    amid_a_crowd("introductions, and what bore them once more", introduce(9)).await;
}

#[tokio::test]
async fn honest_traffic_goes_on_amid_a_crowd_that_wants_sessions() {
    if !is_alone("crowds::honest_traffic_goes_on_amid_a_crowd_that_wants_sessions") {
        return;
    }
    amid_a_crowd("reservations, and what bore them once more", vec![1]).await;
}
