//! What a `Connection` does when its peer may be elsewhere than its link leads, and when the link is no longer wanted.
//!
//! A reference that the peer signed after the one by which a link knows it, and that names other places, is dialled at once,
//! beside the link, which is asked meanwhile whether it still works. If it answers, the dial is given up, and nothing has changed. If
//! the dial is done first, the new link takes over: at once from one to a process that is no more, and as duplicates are settled
//! otherwise.

use futures_util::{StreamExt, stream::FuturesUnordered};
use tokio::sync::watch;

use super::*;
use crate::limits::bucket::Bucket;

/// Dials beside a link that may be begun at once, and how many more a second. A guess: a server that restarts again and again does
/// so less often, and a peer that signs without end has nobody dialled more often than that.
pub(super) const BESIDE_AT_ONCE: u64 = 3;
const BESIDE_PER_SECOND: f64 = 0.1;

/// Between the pings that ask the link, and how many there are at most: some may be lost. A guess.
const ASK_EVERY: Duration = Duration::from_millis(100);
const ASKS_MAX: usize = 50;

/// A dial beside a link.
pub(super) struct Beside {
    link: u64,
    version: Option<u64>,
    /// By which version, naming what, the link knew its peer before: a dial that fails may be tried again.
    before: (u64, u64),
    /// Ends the dial, and the pings, when it is dropped.
    wanted: watch::Sender<()>,
}

impl Connection {
    /// The peer may be elsewhere. `waiter` gets a link that works, as far as is known by then.
    pub(super) fn renew(&mut self, newer: Newer, waiter: Option<Waiter>, ctx: &mut Context<Self>) {
        let Some(index) = self.up.and_then(|id| self.position(id)) else {
            if let Some(waiter) = waiter {
                self.dial(newer.places, waiter, ctx);
            }
            return;
        };
        let link = self.entries[index].link.clone();
        if let Some(beside) = self.beside.as_mut().filter(|beside| beside.link == link.id()) {
            if newer.version > beside.version {
                // The peer's own word doesn't wait until what others say has come to nothing: that dial ends here.
                let hearsay = beside.version.is_none() && waiter.is_some();
                let rx = hearsay.then(|| {
                    let (wanted, rx) = watch::channel(());
                    beside.wanted = wanted;
                    rx
                });
                beside.version = newer.version;
                self.entries[index].digest = newer.digest;
                link.set_known_version(newer.version.unwrap_or_default());
                self.keep_untried(newer.places);
                if let Some(rx) = rx {
                    self.ask_whether_it_works(link, rx, ctx);
                }
            }
            self.waiters.extend(waiter);
            return;
        }
        let entry = &mut self.entries[index];
        let before = (link.known_version(), entry.digest);
        let wanted = match newer.version {
            Some(version) if version > before.0 && newer.digest == before.1 => {
                link.set_known_version(version);
                false
            }
            Some(version) => version > before.0,
            None => entry.liveness.is_silent(),
        };
        let may = |bucket: &mut Bucket| bucket.take_one(BESIDE_AT_ONCE, BESIDE_PER_SECOND, now());
        if !wanted || self.dialling || !may(&mut self.besides) {
            if let Some(waiter) = waiter {
                let _ = waiter.send(Ok(link));
            }
            return;
        }
        tracing::debug!(peer = %self.peer, "the peer may be elsewhere: it is dialled there");
        if let Some(version) = newer.version {
            entry.digest = newer.digest;
            link.set_known_version(version);
            // If it has merely moved, its link can go there too.
            if let Some(road) = link.lease().road() {
                let there = newer.places.addresses.iter().copied();
                let roads = introduction::roads(&self.shared, there, road.remote);
                link.pulse().add(roads.into_iter().take(CANDIDATES_MAX));
            }
        }
        self.waiters.extend(waiter);
        let (wanted, rx) = watch::channel(());
        let version = newer.version;
        self.beside = Some(Beside { link: link.id(), version, before, wanted });
        self.ask_whether_it_works(link, rx, ctx);
        self.start_dial(newer.places, ctx);
    }

    /// Asks a link, beside which its peer is dialled, again and again whether it works.
    fn ask_whether_it_works(
        &self,
        link: Link,
        wanted: watch::Receiver<()>,
        ctx: &mut Context<Self>,
    ) {
        let (socket, actor) = (self.shared.socket.clone(), ctx.address());
        self.shared.socket.spawn(async move {
            let mut wanted = wanted;
            let mut asks = FuturesUnordered::new();
            for _ in 0..ASKS_MAX {
                asks.push(link.ping());
                let next = socket.sleep(ASK_EVERY);
                tokio::select! {
                    biased;
                    _ = wanted.changed() => return,
                    Some(Ok(_)) = asks.next() => {
                        actor.do_send(Order::Works { link: link.id() });
                        return;
                    }
                    () = next => {}
                }
            }
        });
    }

    /// The link beside which the peer is dialled works: it needs no other. If the dial has gone too far to be given up, its link
    /// becomes a duplicate.
    pub(super) fn works(&mut self, id: u64) {
        if let Some(index) = self.position(id)
            && self.beside.take_if(|beside| beside.link == id).is_some()
        {
            self.untried = Places::default();
            let link = self.entries[index].link.clone();
            for waiter in self.waiters.drain(..) {
                let _ = waiter.send(Ok(link.clone()));
            }
        }
    }

    /// The dial under way ends when nobody wants it any more, if it is beside a link.
    pub(super) fn dial_wanted(&self) -> Option<watch::Receiver<()>> {
        self.beside.as_ref().map(|beside| beside.wanted.subscribe())
    }

    /// The dial beside a link failed.
    pub(super) fn beside_failed(&mut self) {
        if let Some(Beside { link, version: Some(_), before: (version, digest), .. }) =
            self.beside.take()
            && let Some(index) = self.position(link)
        {
            self.entries[index].digest = digest;
            self.entries[index].link.set_known_version(version);
        }
    }

    /// Ends every link to the peer.
    pub(super) fn disconnect(&mut self, reason: &str) {
        let why = LinkDown::Local { reason: reason.to_owned() };
        for entry in &mut self.entries {
            entry.ending.get_or_insert_with(|| why.clone());
        }
        let up = self.up;
        let mut links: Vec<_> = self.entries.iter().map(|entry| entry.link.clone()).collect();
        // The one that is up last: until then the others' work isn't at its end.
        links.sort_by_key(|link| Some(link.id()) == up);
        for link in links {
            link.end(why.clone());
            // Said here and now: a silent peer doesn't confirm anything.
            self.down(link.id(), why.clone());
        }
    }
}
