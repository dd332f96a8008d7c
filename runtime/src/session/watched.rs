//! The peer's watches on actors of this mesh.

use super::Session;
use crate::frame::FrameError;
use crate::frame::control::{Control, DownCode};
use crate::links::Links;
use crate::refusals::Reason;
use crate::watch::{DownReason, Event, Notice, WatchId, WatchSink};
use crate::wire_ref::ObjectId;
use std::fmt::Display;
use std::sync::{Arc, Weak};

/// Watches that one peer may keep on this mesh's actors. A guess: far more than a program with sense has, and ~1 MB.
const WATCHES_MAX: usize = 4096;

impl Session {
    pub(super) fn watch_for_peer(
        self: &Arc<Self>,
        links: &Arc<Links>,
        watch: u64,
        object: ObjectId,
        epoch: u64,
    ) -> Result<(), FrameError> {
        let Some(mesh) = links.mesh() else { return Ok(()) };
        let id = WatchId::next();
        {
            let mut watched = self.watched.lock();
            match watched.get(&watch) {
                // The peer had another link meanwhile, which has ended, and says again what it wants.
                Some((_, known)) if *known == object => return Ok(()),
                Some(_) => {
                    return Err(FrameError::Unexpected("a second watch of the same number"));
                }
                None if watched.len() >= WATCHES_MAX => {
                    drop(watched);
                    self.watch_refused(Reason::TooManyWatches);
                    self.say(&Control::Down { watch, reason: DownCode::TooMany });
                    return Ok(());
                }
                None => watched.insert(watch, (id, object)),
            };
        }
        match mesh.objects().admit(&object, self.link.peer()) {
            Some(exposed) => {
                if let Some(left_out) = self.refusals.quota(self.link.peer()) {
                    let (peer, protocol) = (self.link.peer(), exposed.protocol());
                    tracing::debug!(%peer, watch, protocol, left_out, "a peer watches an actor");
                }
                let sink = Arc::new(PeerWatch { session: Arc::downgrade(self), watch });
                exposed.watch(id, sink);
                // The link may have ended while this frame waited to be read, and looked in vain for the watch.
                if self.down.borrow().is_some() && self.watched.lock().remove(&watch).is_some() {
                    exposed.unwatch(id);
                }
            }
            None => {
                self.watched.lock().remove(&watch);
                self.watch_refused(mesh.why_hidden(&object));
                let reason = match mesh.absent(epoch) {
                    DownReason::Stale => DownCode::Stale,
                    _ => DownCode::NoSuchActor,
                };
                self.say(&Control::Down { watch, reason });
            }
        }
        Ok(())
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

/// A peer that watches an actor of this mesh.
struct PeerWatch {
    session: Weak<Session>,
    watch: u64,
}

impl WatchSink for PeerWatch {
    fn notice(&self, notice: Notice) {
        let Some(session) = self.session.upgrade() else { return };
        let watch = self.watch;
        match notice {
            Notice::Down(reason) => {
                if session.watched.lock().remove(&watch).is_none() {
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
