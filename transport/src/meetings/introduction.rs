//! Meeting a peer: the rendezvous that it is attached to are asked to introduce this host, all at once.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use futures_util::{StreamExt, stream::FuturesUnordered};
use tokio::sync::oneshot;

use crate::{
    identity::PeerId,
    path::candidates,
    peer_ref::RendezvousPoint,
    shared::{
        Shared,
        dial_targets::Places,
        order::{Meeting, Order},
    },
    wire::{
        relay_frame::FlowToken,
        rendezvous::{Grant, Message, Refusal},
        road::Road,
    },
};

/// Rendezvous that are asked for one peer. A guess: what a careful host keeps, and as many of this host's own.
const ASKED_MAX: usize = 8;

/// The rendezvous to ask for `peer`: those that it names, and those that this host is attached to.
pub(crate) fn whom_to_ask(
    shared: &Shared,
    peer: PeerId,
    mut points: Vec<RendezvousPoint>,
) -> Vec<RendezvousPoint> {
    // Where there isn't room for all, those that lead to the peer from everywhere.
    points.sort_by_key(|point| !point.relays());
    let usable = |point: &RendezvousPoint| point.peer != peer && point.peer != shared.peer_id();
    let own = shared.attached_to();
    // Anybody may have named the others: a crowd of them leaves room for those that this host chose itself.
    let kept = own.iter().filter(|point| usable(point)).count().min(ASKED_MAX / 2);
    let mut asked: Vec<RendezvousPoint> = Vec::new();
    for (room, points) in [(ASKED_MAX - kept, points), (ASKED_MAX, own)] {
        for point in points {
            let known = asked.iter().any(|known| known.peer == point.peer);
            if usable(&point) && !known && asked.len() < room {
                asked.push(point);
            }
        }
    }
    asked
}

/// What came of asking them all.
#[derive(Debug, Default)]
pub(crate) struct Outcome {
    /// Why the last one refused.
    pub(crate) refusal: Option<Refusal>,
    /// All of them say that the peer isn't there.
    pub(crate) absent: bool,
    /// The peer was met, and nobody who introduced this host relays.
    pub(crate) unrelayed: bool,
}

/// Has all of them introduce this host to `peer`. Each success goes to `met`.
pub(crate) async fn meet(
    shared: &Arc<Shared>,
    peer: PeerId,
    asked: Vec<RendezvousPoint>,
    met: impl Fn(Meeting),
) -> Outcome {
    let mut answers: FuturesUnordered<_> =
        asked.into_iter().map(|point| introduce(shared, peer, point)).collect();
    let (mut refusal, mut absent, mut unrelayed) = (None, true, None);
    while let Some(answer) = answers.next().await {
        match answer {
            Some(Ok(meeting)) => {
                absent = false;
                unrelayed = Some(unrelayed.unwrap_or(true) && meeting.road.is_none());
                met(meeting);
            }
            Some(Err(why)) => {
                absent &= why == Refusal::NotHere;
                refusal = Some(why);
            }
            None => absent = false,
        }
    }
    Outcome { refusal, absent, unrelayed: unrelayed.unwrap_or(false) }
}

/// Before a rendezvous is asked once more that didn't introduce this host, or wasn't reached: at first the pause is short, for the peer
/// may be coming back to it in this moment. Guesses: half of the questions that one host may ask in a minute, by default, and no
/// more than a minute's.
const AGAIN_SOON: Duration = Duration::from_millis(500);
const AGAIN_SOON_TIMES: u32 = 8;
const AGAIN_MAX: Duration = Duration::from_secs(16);
const AGAIN_TIMES: u32 = 16;

/// Dials to rendezvous that only peers named and nobody here asked for: so many at once over all peers, and then one in two seconds. A
/// guess: two such rendezvous are asked to the end.
pub(crate) const UNASKED_MAX: u64 = 32;
const UNASKED_RATE: f64 = 0.5;

/// The same for a peer to whom a flow was lost: each of them is asked until it introduces this host, each on its own, lest a dead one hold
/// up the others.
pub(crate) async fn meet_again(
    shared: &Arc<Shared>,
    peer: PeerId,
    asked: Vec<RendezvousPoint>,
    met: impl Fn(Meeting),
) {
    let own: Vec<PeerId> = shared.attached_to().into_iter().map(|point| point.peer).collect();
    let ask = async |point: RendezvousPoint| {
        for time in 1..=AGAIN_TIMES {
            // The peer chose the others' addresses, and may have named somebody else's.
            let trusted = own.contains(&point.peer) || shared.up.contains_key(&point.peer);
            let now = tokio::time::Instant::now().into_std();
            let may = trusted || shared.unasked.lock().take_one(UNASKED_MAX, UNASKED_RATE, now);
            if may && let Some(Ok(meeting)) = introduce(shared, peer, point.clone()).await {
                return met(meeting);
            }
            let longer = AGAIN_SOON * (1 << time.saturating_sub(AGAIN_SOON_TIMES).min(6));
            shared.socket.sleep(longer.min(AGAIN_MAX)).await;
        }
    };
    let mut answers: FuturesUnordered<_> = asked.into_iter().map(ask).collect();
    while answers.next().await.is_some() {}
}

async fn introduce(
    shared: &Arc<Shared>,
    peer: PeerId,
    point: RendezvousPoint,
) -> Option<Result<Meeting, Refusal>> {
    // Its own addresses only: a rendezvous that must be met itself is none.
    if let Err(e) = shared.connect(point.peer, Places::of(&point)).await {
        tracing::debug!(rendezvous = %point.peer, "a rendezvous of the peer isn't reached: {e}");
        return None;
    }
    let (waiter, answer) = oneshot::channel();
    let order = Order::Ask { target: peer, candidates: shared.candidates(), waiter };
    shared.order(point.peer, order);
    let limit = shared.socket.sleep(shared.config.limits.handshake_time_max);
    let (said, road) = tokio::select! {
        biased;
        answer = answer => answer.ok()?,
        () = limit => return None,
    };
    match said {
        Message::Introduced { candidates, grant, .. } => {
            let road = grant.and_then(|grant| flow(shared, &grant, (point.peer, road)));
            Some(Ok(Meeting { by: point.peer, road, addresses: candidates.addresses }))
        }
        Message::Unavailable { why, .. } => Some(Err(why)),
        _ => None,
    }
}

/// The road through the relay `by`, which granted a flow and is reached along `relay`.
pub(crate) fn flow(shared: &Shared, grant: &Grant, (by, relay): (PeerId, Road)) -> Option<Road> {
    if relay.flow.is_some() {
        return None;
    }
    let token = FlowToken(grant.token);
    let opened = shared.socket.open_flow(token, grant.key, (by, relay));
    opened.then_some(Road { flow: Some(token), ..relay })
}

/// The roads to addresses that a peer, or a rendezvous for it, claims to be its own, the most likely ones first. `by` is where whoever says so is
/// seen: its loopback is another one, unless it is on this host.
pub(crate) fn roads(
    shared: &Shared,
    claimed: impl IntoIterator<Item = SocketAddr>,
    by: SocketAddr,
) -> Vec<Road> {
    let local = by.ip().to_canonical().is_loopback();
    let claimed =
        claimed.into_iter().filter(|address| local || !address.ip().to_canonical().is_loopback());
    let claimed = shared.by_way(shared.translated(claimed));
    candidates::roads(&shared.socket.handles(), claimed)
}
