//! This mesh's watches on actors of others.
//!
//! A watch belongs to the peer, not to a link: it is told to whatever link is up, and to the next one after a change. It
//! ends once: by the peer's word, when the peer's process turns out to be another one, or when the peer is gone.

use crate::codec::wire_ref::{ObjectId, WireRef};
use crate::refs::watch::{DownReason, Event, Notice, WatchId, WatchSink};
use parking_lot::Mutex;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use webmesh_transport::{Hints, InstanceId, Link, PeerId, Watching};

/// Refs whose word of where a silent peer may be is tried at a time. A guess, as for lanes: one may lie, and a few may be out of date.
const HINTS_MAX: usize = 4;

struct Watch {
    /// Its number on the wire.
    number: u64,
    wire: WireRef,
    /// Which publication of its name the ref was resolved to.
    publication: Option<u64>,
    /// Which actor the peer has found to be meant, if it says so.
    actor: Option<u64>,
    /// Where the peer may be found, by the ref.
    hints: Hints,
    sink: Arc<dyn WatchSink>,
    /// The link that was told last, and the process at its other end.
    told: Option<(u64, InstanceId)>,
    /// Has the peer probed over that link.
    attention: Option<Watching>,
    incarnation: u64,
}

/// Tells that may be lost.
pub(crate) struct LostTells {
    pub(crate) at_most: u64,
    /// Which publication of the object's name lost them, if that is known.
    pub(crate) by: Option<u64>,
}

#[derive(Default)]
struct Table {
    /// In the order in which they began, which is that in which their watchers are told of what concerns several.
    watches: BTreeMap<WatchId, Watch>,
    numbers: HashMap<u64, WatchId>,
    next: u64,
}

impl Table {
    fn remove(&mut self, id: WatchId) -> Option<Watch> {
        let watch = self.watches.remove(&id)?;
        self.numbers.remove(&watch.number);
        Some(watch)
    }
}

/// All watches of one mesh.
#[derive(Default)]
pub(crate) struct Watches {
    table: Mutex<Table>,
}

impl Watches {
    /// Adds one. It takes effect with [`Self::tell`].
    pub(crate) fn add(
        &self,
        id: WatchId,
        wire: WireRef,
        hints: Hints,
        publication: Option<u64>,
        sink: Arc<dyn WatchSink>,
    ) {
        let mut table = self.table.lock();
        table.next += 1;
        let number = table.next;
        tracing::debug!(peer = %wire.peer, protocol = &*wire.protocol, watch = number, "a watch begins");
        table.numbers.insert(number, id);
        let watch = Watch {
            number,
            wire,
            publication,
            actor: None,
            hints,
            sink,
            told: None,
            attention: None,
            incarnation: 0,
        };
        table.watches.insert(id, watch);
    }

    /// Takes one away; returns its peer and its number on the wire.
    pub(crate) fn remove(&self, id: WatchId) -> Option<(PeerId, u64)> {
        let watch = self.table.lock().remove(id)?;
        tracing::debug!(peer = %watch.wire.peer, watch = watch.number, "a watch is no longer wanted");
        Some((watch.wire.peer, watch.number))
    }

    /// A link is up: it is told of every watch on its peer that it doesn't know. Those told to another process of the
    /// peer end.
    pub(crate) fn tell(&self, link: &Link, say: impl Fn(u64, ObjectId, u64, Option<u64>)) {
        let (id_of_link, instance, peer) = (link.id(), link.instance(), link.peer());
        let mut stale = Vec::new();
        {
            let mut table = self.table.lock();
            let ids: Vec<_> = table
                .watches
                .iter()
                .filter(|(_, w)| w.wire.peer == peer)
                .map(|(&id, _)| id)
                .collect();
            for id in ids {
                let Some(watch) = table.watches.get_mut(&id) else { continue };
                match watch.told {
                    Some((told, _)) if told == id_of_link => {}
                    Some((_, other)) if other != instance => stale.extend(table.remove(id)),
                    _ => {
                        watch.told = Some((id_of_link, instance));
                        watch.attention = Some(link.watch());
                        let WireRef { object, epoch, .. } = watch.wire;
                        say(watch.number, object, epoch, watch.actor);
                    }
                }
            }
        }
        end(stale, DownReason::Stale);
    }

    /// The peer says which actor a watch has found, over the link that was told of it.
    pub(crate) fn found(&self, link: &Link, number: u64, actor: u64) {
        let mut table = self.table.lock();
        let Some(id) = table.numbers.get(&number).copied() else { return };
        let told = (link.id(), link.instance());
        if let Some(watch) = table.watches.get_mut(&id).filter(|watch| watch.told == Some(told)) {
            watch.actor = Some(actor);
        }
    }

    /// Where a peer may be found of which something is watched, by the refs that were used for that.
    pub(crate) fn whereabouts(&self, peer: &PeerId) -> Vec<Hints> {
        let table = self.table.lock();
        let of_peer = table.watches.values().filter(|watch| watch.wire.peer == *peer);
        let mut all: Vec<Hints> = Vec::new();
        for watch in of_peer {
            if all.len() < HINTS_MAX && !all.contains(&watch.hints) {
                all.push(watch.hints.clone());
            }
        }
        all
    }

    /// No link could be made for this watch. It goes on if the peer has made one meanwhile.
    pub(crate) fn fail(&self, id: WatchId, reason: DownReason) {
        let failed = {
            let mut table = self.table.lock();
            let untold = table.watches.get(&id).is_some_and(|watch| watch.told.is_none());
            if untold { table.remove(id) } else { None }
        };
        end(failed, reason);
    }

    /// No link to the peer is left.
    pub(crate) fn peer_gone(&self, peer: PeerId, reason: DownReason) {
        let gone: Vec<_> = {
            let mut table = self.table.lock();
            let ids: Vec<_> = table
                .watches
                .iter()
                .filter(|(_, w)| w.wire.peer == peer)
                .map(|(&id, _)| id)
                .collect();
            ids.into_iter().filter_map(|id| table.remove(id)).collect()
        };
        end(gone, reason);
    }

    /// The mesh ends: nobody is told any more.
    pub(crate) fn shut_down(&self) {
        *self.table.lock() = Table::default();
    }

    /// The peer says that a watch has ended. Only the peer that hosts the actor is believed.
    pub(crate) fn down(&self, peer: PeerId, number: u64, reason: DownReason) {
        let watch = {
            let mut table = self.table.lock();
            match table.numbers.get(&number).copied() {
                Some(id) if table.watches.get(&id).is_some_and(|watch| watch.wire.peer == peer) => {
                    table.remove(id)
                }
                _ => None,
            }
        };
        end(watch, reason);
    }

    /// The peer says that something happened to a watched actor.
    pub(crate) fn event(&self, peer: PeerId, number: u64, event: Event) {
        let sink = {
            let mut table = self.table.lock();
            let Some(&id) = table.numbers.get(&number) else { return };
            let Some(watch) = table.watches.get_mut(&id).filter(|watch| watch.wire.peer == peer)
            else {
                return;
            };
            if let Event::Restarted { incarnation } = event {
                // While a link replaces another, both may tell it.
                if incarnation <= watch.incarnation {
                    return;
                }
                watch.incarnation = incarnation;
            }
            watch.sink.clone()
        };
        sink.notice(Notice::Event(event));
    }

    /// Something happened to a peer that is not the end of it.
    pub(crate) fn peer_event(&self, peer: PeerId, event: Event) {
        self.each(|watch| watch.wire.peer == peer, event);
    }

    /// Tells to an object may be lost. Who watches another publication of its name is not concerned.
    pub(crate) fn lost_tells(&self, peer: PeerId, object: [u8; 16], lost: LostTells) {
        let another = |watch: &Watch| {
            watch.publication.zip(lost.by).is_some_and(|(watched, by)| watched != by)
        };
        let of_object = |wire: &WireRef| wire.peer == peer && wire.object.0 == object;
        let event = Event::LostTells { at_most: lost.at_most };
        self.each(|watch| of_object(&watch.wire) && !another(watch), event);
    }

    fn each(&self, concerns: impl Fn(&Watch) -> bool, event: Event) {
        let sinks: Vec<_> = {
            let table = self.table.lock();
            table
                .watches
                .values()
                .filter(|watch| concerns(watch))
                .map(|watch| watch.sink.clone())
                .collect()
        };
        for sink in sinks {
            sink.notice(Notice::Event(event));
        }
    }
}

fn end(watches: impl IntoIterator<Item = Watch>, reason: DownReason) {
    for watch in watches {
        tracing::debug!(peer = %watch.wire.peer, watch = watch.number, ?reason, "a watch ended");
        watch.sink.notice(Notice::Down(reason));
    }
}
