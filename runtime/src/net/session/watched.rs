//! The peer's watches on actors of this mesh.

use super::Session;
use crate::codec::frame::FrameError;
use crate::codec::frame::control::{Control, DownCode};
use crate::codec::wire_ref::ObjectId;
use crate::net::objects::Admitted;
use crate::net::refusals::Reason;
use crate::net::rights::{Holder, Losing, Right};
use crate::net::shared::Shared;
use crate::refs::exposed::Exposed;
use crate::refs::watch::{DownReason, Event, Notice, WatchId, WatchSink};
use std::fmt::Display;
use std::sync::{Arc, Weak};
use webmesh_transport::FEATURE_WATCHING;

/// Watches that one peer may keep on this mesh's actors. A guess: far more than a program with sense has, and ~1 MB.
const WATCHES_MAX: usize = 4096;

/// One of them.
pub(super) struct Watched {
    id: WatchId,
    /// By which the peer asked for it.
    object: ObjectId,
    /// The actor; none while the peer's right to it is being looked at.
    actor: Option<Arc<dyn Exposed>>,
    /// The peer's right, if it watches by a published name.
    _right: Option<Right>,
}

impl Session {
    pub(super) fn watch_for_peer(
        self: &Arc<Self>,
        shared: &Shared,
        watch: u64,
        object: ObjectId,
        epoch: u64,
        before: Option<u64>,
    ) -> Result<(), FrameError> {
        let Some(host) = shared.host() else { return Ok(()) };
        let id = WatchId::next();
        {
            let mut watched = self.watched.lock();
            match watched.get(&watch) {
                // The peer had another link meanwhile, which has ended, and says again what it wants.
                Some(known) if known.object == object => return Ok(()),
                Some(_) => {
                    return Err(FrameError::Unexpected("a second watch of the same number"));
                }
                None if watched.len() >= WATCHES_MAX => {
                    drop(watched);
                    self.watch_refused(Reason::TooManyWatches);
                    self.say(&Control::Down { watch, reason: DownCode::TooMany });
                    return Ok(());
                }
                None => watched.insert(watch, Watched { id, object, actor: None, _right: None }),
            };
        }
        let (objects, caller) = (host.objects(), self.link.peer());
        // A name may have passed to another actor while the watch was without a link: that isn't the one it was about.
        let admitted = objects.admit(&object, caller).map(|admitted| {
            let number = host.actor_number(&admitted.object.clone().local().key());
            (admitted, number)
        });
        let is_the_same = |number: u64| before.is_none_or(|before| before == number);
        match admitted.filter(|(_, number)| is_the_same(*number)) {
            Some((Admitted { object: actor, by_name }, number)) => {
                if let Some(left_out) = self.refusals.quota(caller) {
                    let (peer, protocol) = (caller, actor.protocol());
                    tracing::debug!(%peer, watch, protocol, left_out, "a peer watches an actor");
                }
                let sink = Arc::new(PeerWatch { session: Arc::downgrade(self), watch });
                let own = actor.clone().local().key();
                let right = by_name.then(|| {
                    let holder: Weak<PeerWatch> = Arc::downgrade(&sink);
                    objects.rights().hold(object, caller, own, holder)
                });
                if let Some(watched) = self.watched.lock().get_mut(&watch) {
                    (watched.actor, watched._right) = (Some(actor.clone()), right);
                }
                if by_name && self.link.has_feature(FEATURE_WATCHING) {
                    self.say(&Control::Watching { watch, actor: number });
                }
                actor.watch(id, sink);
                // The link may have ended while this frame waited to be read, and looked in vain for the watch.
                if self.down.borrow().is_some() {
                    self.forget_watch(watch);
                }
            }
            None => {
                self.watched.lock().remove(&watch);
                self.watch_refused(objects.why_hidden(&object));
                let reason = match host.absent(epoch) {
                    DownReason::Stale => DownCode::Stale,
                    _ => DownCode::NoSuchActor,
                };
                self.say(&Control::Down { watch, reason });
            }
        }
        Ok(())
    }

    /// The peer has no more use for a watch. Says whether it had it still.
    pub(super) fn forget_watch(&self, watch: u64) -> bool {
        let watched = self.watched.lock().remove(&watch);
        self.control.forget_watch(watch);
        watched.map(Watched::end).is_some()
    }

    /// Nor for any.
    pub(super) fn forget_all_watches(&self) {
        let watched: Vec<_> = self.watched.lock().drain().collect();
        watched.into_iter().for_each(|(_, watched)| watched.end());
    }

    fn watch_refused(&self, reason: Reason) {
        self.refusals.refuse(self.link.peer(), "a watch", reason);
    }

    pub(super) fn watch_ended(&self, watch: u64, why: impl Display) {
        let peer = self.link.peer();
        if let Some(left_out) = self.refusals.quota(peer) {
            tracing::debug!(%peer, watch, %why, left_out, "a peer's watch ended");
        }
    }
}

impl Watched {
    fn end(self) {
        if let Some(actor) = &self.actor {
            actor.unwatch(self.id);
        }
    }
}

/// A peer that watches an actor of this mesh.
struct PeerWatch {
    session: Weak<Session>,
    watch: u64,
}

impl Holder for PeerWatch {
    fn judged(&self, admitted: bool) -> Option<Losing> {
        let session = self.session.upgrade().filter(|_| !admitted)?;
        let watched = session.watched.lock().remove(&self.watch);
        if let Some(watched) = watched {
            watched.end();
            session.watch_ended(self.watch, "its right was taken back");
            session.say(&Control::Down { watch: self.watch, reason: DownCode::Revoked });
        }
        None
    }
}

impl WatchSink for PeerWatch {
    fn notice(&self, notice: Notice) {
        let Some(session) = self.session.upgrade() else { return };
        let watch = self.watch;
        match notice {
            Notice::Down(reason) => {
                let watched = session.watched.lock().remove(&watch);
                if watched.is_none() {
                    return;
                }
                session.watch_ended(watch, format_args!("{reason:?}"));
                let reason = match reason {
                    DownReason::Panicked => DownCode::Panicked,
                    DownReason::NoSuchActor => DownCode::NoSuchActor,
                    DownReason::Revoked => DownCode::Revoked,
                    DownReason::Stale => DownCode::Stale,
                    _ => DownCode::Stopped,
                };
                session.say(&Control::Down { watch, reason });
            }
            Notice::Event(Event::Restarted { incarnation }) => {
                session.say(&Control::Restarted { watch, incarnation });
                // Unwatched meanwhile: nothing of it is kept.
                if !session.watched.lock().contains_key(&watch) {
                    session.control.forget_watch(watch);
                }
            }
            // Those the watcher's own side finds out.
            Notice::Event(_) => {}
        }
    }
}
