//! Memory for the large replies that this mesh's asks bring: what hostile hosts answer, all of them at once, must fit into a stated bound, and
//! what honest ones answer waits for its turn.
//!
//! A reply that waits is not read, so QUIC holds what it lets the peer send of it. That must not keep the other streams of the
//! link from going on, or from being opened, one of which may be that of the reply whose turn it is: the link's window is widened by as much,
//! and one more stream is allowed for each of the first that wait ([`Parking`]).

mod core;

pub(crate) use self::core::Limits;

use self::core::{Core, Ticket};
use crate::net::inbound::budget::Budget;
use parking_lot::Mutex;
use std::collections::HashMap;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use webmesh_transport::{Link, PeerId};

/// Bytes by which all links' windows may be widened together: as much as the streams of two links can hold. A guess.
const PARKED_MAX: u64 = 512 << 20;

/// Streams of one link that are allowed in place of those that wait, as long as nobody waits for one that isn't here. A guess: with the 16 that there are
/// anyway, more than an application begins together and then awaits in another order.
const STREAMS_MAX: u32 = 32;

/// The share of a link's window that replies which wait may fill before it is widened: one half.
const PARKED_IN_WINDOW: u64 = 2;

/// The large replies of one mesh.
#[derive(Debug)]
pub(crate) struct Room {
    state: Mutex<State>,
    parked: Arc<Budget>,
}

#[derive(Debug)]
struct State {
    core: Core<PeerId>,
    wakers: HashMap<Ticket, Waker>,
}

impl State {
    fn wakers_of(&mut self, admitted: Vec<Ticket>) -> Vec<Waker> {
        admitted.iter().filter_map(|ticket| self.wakers.remove(ticket)).collect()
    }
}

impl Room {
    pub(crate) fn new(limits: Limits) -> Arc<Self> {
        let state = State { core: Core::new(limits), wakers: HashMap::new() };
        Arc::new(Self { state: Mutex::new(state), parked: Budget::new(PARKED_MAX, 0, None) })
    }

    /// A reply of so many bytes is about to come.
    pub(crate) fn enter(self: &Arc<Self>, peer: PeerId, bytes: u64) -> Place {
        // Whatever else there is room for has been admitted before.
        let (ticket, _) = self.state.lock().core.enter(peer, bytes);
        Place { room: self.clone(), ticket }
    }

    /// Whether any reply waits.
    pub(crate) fn is_waited_for(&self) -> bool {
        self.state.lock().core.is_waited_for()
    }

    /// The housekeeping's round.
    pub(crate) fn round(&self) {
        self.change(Core::round);
    }

    fn change(&self, change: impl FnOnce(&mut Core<PeerId>) -> Vec<Ticket>) {
        let wakers = {
            let mut state = self.state.lock();
            let admitted = change(&mut state.core);
            state.wakers_of(admitted)
        };
        wakers.into_iter().for_each(Waker::wake);
    }
}

/// The place of one reply; dropped, it leaves it.
#[derive(Debug)]
pub(crate) struct Place {
    room: Arc<Room>,
    ticket: Ticket,
}

impl Place {
    /// Ready when there is room for it.
    pub(crate) fn poll_admitted(&self, cx: &Context<'_>) -> Poll<()> {
        let mut state = self.room.state.lock();
        if state.core.is_admitted(self.ticket) {
            return Poll::Ready(());
        }
        state.wakers.insert(self.ticket, cx.waker().clone());
        Poll::Pending
    }

    pub(crate) fn is_admitted(&self) -> bool {
        self.room.state.lock().core.is_admitted(self.ticket)
    }

    /// Its asker waits for it.
    pub(crate) fn awaited(&self) {
        self.room.change(|core| core.awaited(self.ticket));
    }

    /// All of it is here.
    pub(crate) fn arrived(&self) {
        self.room.state.lock().core.arrived(self.ticket);
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.room.state.lock().wakers.remove(&self.ticket);
        self.room.change(|core| core.leave(self.ticket));
    }
}

/// What waits on one link, unread.
#[derive(Debug, Default)]
pub(crate) struct Parking(Mutex<Parked>);

#[derive(Debug, Default)]
struct Parked {
    bytes: u64,
    streams: u32,
    widened: u64,
    /// Replies that are waited for and whose streams aren't here.
    starving: u32,
}

impl Parked {
    /// Streams that the peer may open beyond what it always may.
    fn more_streams(&self) -> u32 {
        // One that is waited for gets here, however many there are before it: each of those is let in, and waits, or is dropped
        // where there is no room for that.
        if self.starving > 0 { self.streams } else { self.streams.min(STREAMS_MAX) }
    }

    /// What the link's window lacks.
    fn lacks(&self, window: u64) -> u64 {
        self.bytes.saturating_sub(window / PARKED_IN_WINDOW)
    }
}

impl Parking {
    /// A reply of so many bytes waits on the link. `None`: too much waits on all links, and it isn't the only one on this.
    pub(crate) fn park<'a>(
        &'a self,
        link: &'a Link,
        room: &'a Room,
        bytes: u64,
    ) -> Option<ParkedReply<'a>> {
        let (window, of_stream) = link.receive_windows();
        let bytes = bytes.min(of_stream);
        let mut parked = self.0.lock();
        let alone = parked.bytes == 0;
        parked.bytes += bytes;
        let more = parked.lacks(window).saturating_sub(parked.widened);
        if room.parked.take_for_need(more) {
            parked.widened += more;
        } else if !alone {
            parked.bytes -= bytes;
            return None;
        }
        parked.streams += 1;
        link.widen(parked.widened, parked.more_streams());
        Some(ParkedReply { parking: self, link, room, bytes })
    }

    /// A reply is waited for whose stream isn't here: while this lives, those that wait don't keep it out.
    pub(crate) fn starve<'a>(&'a self, link: &'a Link) -> Starving<'a> {
        self.change_starving(link, |starving| starving + 1);
        Starving { parking: self, link }
    }

    fn change_starving(&self, link: &Link, change: impl FnOnce(u32) -> u32) {
        let mut parked = self.0.lock();
        let before = parked.more_streams();
        parked.starving = change(parked.starving);
        if parked.more_streams() != before {
            link.widen(parked.widened, parked.more_streams());
        }
    }
}

/// See [`Parking::starve`].
pub(crate) struct Starving<'a> {
    parking: &'a Parking,
    link: &'a Link,
}

impl Drop for Starving<'_> {
    fn drop(&mut self) {
        self.parking.change_starving(self.link, |starving| starving - 1);
    }
}

/// Dropped when its turn has come, or when it is given up.
pub(crate) struct ParkedReply<'a> {
    parking: &'a Parking,
    link: &'a Link,
    room: &'a Room,
    bytes: u64,
}

impl Drop for ParkedReply<'_> {
    fn drop(&mut self) {
        let mut parked = self.parking.0.lock();
        parked.bytes -= self.bytes;
        parked.streams -= 1;
        let less = parked.widened.saturating_sub(parked.lacks(self.link.receive_windows().0));
        parked.widened -= less;
        self.link.widen(parked.widened, parked.more_streams());
        drop(parked);
        self.room.parked.give_back(less);
    }
}
