//! Handshakes: dialling a peer along all of its addresses, and accepting who dials us.
//!
//! docs/architecture.md: the first packet goes to the most likely addresses at once, and to the next ones while nobody has
//! answered. When a handshake ends by anything unauthenticated (another host at one of the addresses, a forged Close), one handshake per
//! road starts, and the first that completes is taken.
//!
//! - `connect`: the link to a peer: the one that stands, or a dial
//! - `tunnels`: those that are tried when UDP stays silent
//! - `refused`: what the system says of addresses of its own where nobody listens
//! - `path_mtu`: whether the way to who doesn't answer takes what QUIC needs

mod connect;
mod path_mtu;
mod refused;
pub(crate) mod tunnels;

use std::{
    net::SocketAddr,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use futures_util::{StreamExt, stream::FuturesUnordered};
use tokio::sync::{mpsc, watch};

use crate::{
    dial::refused::refused,
    ground::sanitize::{Excerpt, printable},
    identity::PeerId,
    limits::{Slot, prefix},
    link::{authenticated::Authenticated, cid_guard::Lease, connect_error::ConnectError},
    path::{
        candidates::{self, CANDIDATES_MAX},
        pulse::Secrets,
    },
    placement::inline::Inline,
    quic::tls,
    shared::Shared,
    wire::{closing::code, hello, road::Road},
};

/// After this long without a result, the handshake that races over all roads gets company by one per
/// road: a wrong host may have answered first and fallen silent. A guess; three times the usual
/// handshake over a satellite.
const RACE_TIME: Duration = Duration::from_secs(2);

/// After this long without a result, the next addresses are tried beside those before: as long as UDP has before
/// tunnels are tried. A guess, beyond most round trips.
const WAVE_EVERY: Duration = Duration::from_millis(300);

/// How long a dial beside a link waits, when its handshake is complete, for the link to answer after all: it was asked before the
/// handshake began, and works as a rule. A guess; with HELLO the peer takes the new connection for a link.
const GRACE: Duration = Duration::from_millis(50);
/// Between handshakes with a rendezvous that may just be coming back. QUIC repeats its first packet after 1, 3 and 7 s: one of several
/// handshakes then says something about once a second. A guess.
const AFRESH_EVERY: Duration = Duration::from_secs(2);

/// What is learnt while a dial is under way.
#[derive(Debug)]
pub(crate) enum Late {
    /// One more road that leads to the peer.
    Road(Road),
    /// Every rendezvous of the peer says that it isn't there.
    Absent,
    /// Those that introduced this host to the peer don't relay: no further road will be found.
    Unrelayed,
    /// The proxy of this host gives no tunnel, for this reason.
    NoTunnel(String),
}

/// How long the addresses of a peer still have to answer after that: its rendezvous may be the ones who are wrong. A guess; three
/// first packets are lost in it.
const ABSENT_TIME: Duration = Duration::from_secs(3);

/// How long the roads to a peer that is there have, if no relay lends another one: QUIC's first packets go out after 0, 1 and 3 s, and what they
/// draw comes back. A guess.
const UNRELAYED_TIME: Duration = Duration::from_millis(3500);

/// A connection whose peer proved its key.
struct Proven {
    connection: quinn::Connection,
    driver: Inline,
    lease: Lease,
    secrets: Secrets,
    peer: PeerId,
}

/// Dials `peer`, or whoever answers, along `addresses`; again and again within the time of one dial, if it is to insist. The dial is
/// given up when `wanted` closes, unless it has come so far that the peer may take it for a link.
pub(crate) async fn dial(
    shared: &Arc<Shared>,
    peer: Option<PeerId>,
    (addresses, insist): (Vec<SocketAddr>, bool),
    late: mpsc::UnboundedReceiver<Late>,
    wanted: Option<watch::Receiver<()>>,
) -> Result<Authenticated, ConnectError> {
    let limit = shared.config.limits.handshake_time_max;
    let sleep = shared.socket.sleep(limit);
    let mut worst = None;
    let (named, begun) = (addresses.clone(), tokio::time::Instant::now().into_std());
    let mut narrow = None;
    let outcome = {
        let authenticated =
            authenticate(shared, peer, (addresses, insist), late, wanted, &mut worst);
        let mut authenticated = std::pin::pin!(authenticated);
        let mut sleep = std::pin::pin!(sleep);
        let mut width = std::pin::pin!(path_mtu::too_narrow(shared, &named));
        let mut asking = true;
        loop {
            tokio::select! {
                biased;
                outcome = &mut authenticated => break Some(outcome),
                () = &mut sleep => break None,
                // Whatever is found, the dial goes on: there may be other roads.
                found = &mut width, if asking => (asking, narrow) = (false, found),
            }
        }
    };
    let outcome = outcome.unwrap_or_else(|| {
        // That somebody else lives there says more than that nobody answered elsewhere.
        let worst = worst.filter(ConnectError::is_telling);
        Err(worst.unwrap_or(ConnectError::Timeout(limit)))
    });
    outcome.map_err(|error| {
        let narrow = || narrow.or_else(|| shared.socket.too_narrow(&named, begun));
        let narrow = if error.is_telling() { None } else { narrow() };
        narrow.map_or(error, ConnectError::TooNarrow)
    })
}

async fn authenticate(
    shared: &Arc<Shared>,
    peer: Option<PeerId>,
    (addresses, insist): (Vec<SocketAddr>, bool),
    late: mpsc::UnboundedReceiver<Late>,
    wanted: Option<watch::Receiver<()>>,
    worst: &mut Option<ConnectError>,
) -> Result<Authenticated, ConnectError> {
    let is_beside = wanted.is_some();
    let mut unwanted = std::pin::pin!(unwanted(wanted));
    shared.nat64_known().await;
    let addresses = shared.by_way(shared.translated(addresses));
    let roads = candidates::roads(&shared.socket.handles(), addresses);
    let Proven { connection, driver, lease, secrets, peer } = tokio::select! {
        biased;
        proven = race(shared, peer, (roads, insist), late, worst) => proven?,
        () = &mut unwanted => return Err(ConnectError::Closed),
    };
    if is_beside {
        let grace = shared.socket.sleep(GRACE);
        tokio::select! {
            biased;
            () = unwanted => {
                connection.close(code::UNWANTED, b"another link works");
                return Err(ConnectError::Closed);
            }
            () = grace => {}
        }
    }
    let begun = hello::begin(&connection, &shared.hello()).await;
    let begun = begun.and_then(|(hello, stream)| Ok((hello.check(peer)?, stream)));
    let (hello, stream) = match begun {
        Ok(begun) => begun,
        Err(e) => {
            connection.close(code::PROTOCOL, e.to_string().as_bytes());
            return Err(ConnectError::Hello(Arc::new(e)));
        }
    };
    Ok(Authenticated { connection, driver, lease, secrets, peer, hello, stream, dialled: true })
}

/// Resolves when a dial is no longer wanted.
async fn unwanted(wanted: Option<watch::Receiver<()>>) {
    match wanted {
        Some(mut wanted) => while wanted.changed().await.is_ok() {},
        None => std::future::pending().await,
    }
}

/// First one handshake over the first roads, and one over the next ones while nobody answers, then one per road, and one for each
/// road that is found later. `worst` is the most telling failure so far.
async fn race(
    shared: &Arc<Shared>,
    peer: Option<PeerId>,
    (roads, insist): (Vec<Road>, bool),
    mut late: mpsc::UnboundedReceiver<Late>,
    worst: &mut Option<ConnectError>,
) -> Result<Proven, ConnectError> {
    let mut attempts = FuturesUnordered::new();
    // The roads that a wrong host may have been the first to answer on.
    let mut again = Vec::new();
    let several = roads.len() > 1;
    let mut waves = roads.chunks(CANDIDATES_MAX).map(<[Road]>::to_vec);
    let mut wave = waves.next();
    let pause = || Some(Box::pin(shared.socket.sleep(AFRESH_EVERY)));
    let first = wave.clone().filter(|_| insist);
    let mut afresh = if first.is_some() { pause() } else { None };
    let (mut more, mut absent) = (true, None);
    let mut patience = std::pin::pin!(shared.socket.sleep(RACE_TIME));
    let mut silence = Box::pin(shared.socket.sleep(WAVE_EVERY));
    let mut due = true;
    while more || !attempts.is_empty() || !again.is_empty() || wave.is_some() {
        if std::mem::take(&mut due)
            && let Some(roads) = std::mem::replace(&mut wave, waves.next())
        {
            if several {
                again.extend_from_slice(&roads);
            }
            attempts.push(Box::pin(attempt(shared, peer, (roads, insist))));
            silence = Box::pin(shared.socket.sleep(WAVE_EVERY));
        }
        let one_by_one = tokio::select! {
            biased;
            Some(outcome) = attempts.next() => match outcome {
                // Dropping the others ends them.
                Ok(proven) => return Ok(proven),
                Err(e) => {
                    let telling = worst.as_ref().is_some_and(ConnectError::is_telling);
                    if worst.as_ref().is_none_or(|worst| worst.yields_to(&e))
                        && (e.is_telling() || !telling)
                    {
                        *worst = Some(e);
                    }
                    true
                }
            },
            news = late.recv(), if more => {
                match news {
                    Some(Late::Road(road)) => {
                        attempts.push(Box::pin(attempt(shared, peer, (vec![road], insist))));
                    }
                    Some(Late::NoTunnel(why)) => {
                        worst.get_or_insert(ConnectError::Proxy(why));
                    }
                    Some(Late::Absent) => absent = Some(Box::pin(shared.socket.sleep(ABSENT_TIME))),
                    Some(Late::Unrelayed) => {
                        absent = Some(Box::pin(shared.socket.sleep(UNRELAYED_TIME)));
                    }
                    None => more = false,
                }
                false
            }
            () = &mut silence, if wave.is_some() => {
                due = true;
                false
            }
            () = over(&mut absent) => break,
            () = over(&mut afresh) => {
                afresh = pause();
                let roads = first.clone().unwrap_or_default();
                attempts.push(Box::pin(attempt(shared, peer, (roads, insist))));
                false
            }
            () = &mut patience, if !again.is_empty() => true,
        };
        if one_by_one {
            let each = again.drain(..);
            let each = each.map(|road| Box::pin(attempt(shared, peer, (vec![road], insist))));
            attempts.extend(each);
        }
    }
    let nothing =
        if absent.is_some() { ConnectError::Timeout(ABSENT_TIME) } else { ConnectError::NoAddress };
    Err(worst.take().unwrap_or(nothing))
}

/// The end of a sleep that may not have begun.
async fn over(sleep: &mut Option<std::pin::Pin<Box<tokio::time::Sleep>>>) {
    match sleep {
        Some(sleep) => sleep.await,
        None => std::future::pending().await,
    }
}

/// One handshake along `roads`. One that insists is for somebody who may come back there in a moment.
async fn attempt(
    shared: &Arc<Shared>,
    peer: Option<PeerId>,
    (roads, insists): (Vec<Road>, bool),
) -> Result<Proven, ConnectError> {
    let handle = shared.socket.handles().dial(roads.clone());
    let quic = &shared.quic;
    let ((connecting, driver), cid) = shared.cids.watch(|| {
        let name = tls::server_name(peer);
        quic.watch(|| quic.endpoint.connect_with(quic.client(peer.is_some()), handle, &name))
    });
    let (connecting, driver, lease) = match (connecting, driver, cid) {
        (Ok(connecting), Some(driver), Some(cid)) => {
            (connecting, driver, Lease::new(&shared.socket, cid, handle, None))
        }
        (outcome, ..) => {
            shared.socket.handles().abandon(handle);
            return Err(match outcome {
                Err(quinn::ConnectError::EndpointStopping) => ConnectError::Closed,
                Err(e) => ConnectError::Handshake(e.to_string()),
                Ok(_) => ConnectError::Handshake("no connection id was given out".into()),
            });
        }
    };
    let connected = tokio::select! {
        biased;
        connected = connecting => connected,
        address = refused(shared, &roads), if !insists => return Err(ConnectError::Refused(address)),
    };
    let connection = connected.map_err(|e| match (peer, tls::wrong_peer(&e)) {
        (Some(expected), Some(found)) => ConnectError::WrongPeer { expected, found },
        _ => ConnectError::Handshake(printable(&e.to_string())),
    })?;
    let refused = |text: &str| {
        connection.close(code::UNWANTED, text.as_bytes());
        ConnectError::Handshake(text.to_owned())
    };
    // Asked after every handshake, whatever the verifier said.
    let found = tls::peer_of(&connection).ok_or_else(|| refused("no key was shown"))?;
    if let Some(expected) = peer
        && expected != found
    {
        refused("another peer was dialled");
        return Err(ConnectError::WrongPeer { expected, found });
    }
    if found == shared.peer_id() {
        refused("that is this host itself");
        return Err(ConnectError::Myself);
    }
    let secrets = Secrets::export(&connection).ok_or_else(|| refused("no keys to export"))?;
    lease.settle();
    Ok(Proven { connection, driver, lease, secrets, peer: found })
}

/// Takes a handshake that somebody began as far as its HELLO. `slot` counts it as half open meanwhile.
pub(crate) async fn accept(
    shared: &Arc<Shared>,
    incoming: quinn::Incoming,
    slot: Slot,
) -> Option<Authenticated> {
    let sleep = shared.socket.sleep(shared.config.limits.handshake_time_max);
    let from = incoming.remote_address();
    let outcome = tokio::select! {
        biased;
        outcome = welcome(shared, incoming) => outcome,
        () = sleep => Err("the handshake took too long".to_owned()),
    };
    drop(slot);
    match outcome {
        Ok(authenticated) => Some(authenticated),
        Err(e) => {
            shared.refused.handshakes.fetch_add(1, Ordering::Relaxed);
            if let Some(left_out) = shared.log_quota.take(prefix(from.ip().to_canonical())) {
                tracing::debug!(%from, why = %Excerpt(&e), left_out, "a handshake from outside failed");
            }
            None
        }
    }
}

async fn welcome(shared: &Arc<Shared>, incoming: quinn::Incoming) -> Result<Authenticated, String> {
    let (handle, local) = (incoming.remote_address(), incoming.local_ip());
    let ((connecting, driver), cid) = shared.cids.watch(|| shared.quic.watch(|| incoming.accept()));
    let connecting = connecting.map_err(|e| e.to_string())?;
    let driver = driver.ok_or("nothing drives the connection")?;
    let cid = cid.ok_or("no connection id was given out")?;
    let lease = Lease::new(&shared.socket, cid, handle, local);
    let connection = connecting.await.map_err(|e| e.to_string())?;
    let refuse = |text: &str| {
        connection.close(code::PROTOCOL, text.as_bytes());
        text.to_owned()
    };
    let peer = tls::peer_of(&connection).ok_or_else(|| refuse("no key was shown"))?;
    if peer == shared.peer_id() {
        return Err(refuse("this is your own key"));
    }
    let secrets = Secrets::export(&connection).ok_or_else(|| refuse("no keys to export"))?;
    lease.settle();
    let greeted = hello::answer(&connection, &shared.hello()).await;
    let greeted = greeted.and_then(|(hello, stream)| Ok((hello.check(peer)?, stream)));
    let (hello, stream) = greeted.map_err(|e| refuse(&e.to_string()))?;
    Ok(Authenticated { connection, driver, lease, secrets, peer, hello, stream, dialled: false })
}
