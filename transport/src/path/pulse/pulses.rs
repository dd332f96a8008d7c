//! Which connection's probes a frame belongs to.

use std::{
    net::{IpAddr, SocketAddr},
    sync::{Arc, Weak},
    time::Instant,
};

use dashmap::DashMap;

use super::Pulse;
use crate::{
    socket::mesh_socket::Frames,
    wire::{
        frame::{Frame, Tag},
        road::{Road, Source},
    },
};

/// The pulses of all connections, by the tags that their peers use.
#[derive(Clone, Default)]
pub(crate) struct Pulses(Arc<ByName>);

#[derive(Default)]
struct ByName {
    tags: DashMap<Tag, Weak<Pulse>>,
    handles: DashMap<SocketAddr, Weak<Pulse>>,
}

impl Pulses {
    pub(crate) fn insert(&self, pulse: &Arc<Pulse>) {
        self.0.tags.insert(pulse.to_us, Arc::downgrade(pulse));
        self.0.handles.insert(pulse.handle, Arc::downgrade(pulse));
    }

    /// That of the connection behind `handle`.
    pub(crate) fn at(&self, handle: &SocketAddr) -> Option<Arc<Pulse>> {
        self.0.handles.get(handle).and_then(|pulse| pulse.upgrade())
    }

    pub(crate) fn remove(&self, pulse: &Pulse) {
        self.0.tags.remove(&pulse.to_us);
        // Another connection may have come to use the same handle.
        self.0.handles.remove_if(&pulse.handle, |_, known| {
            known.upgrade().is_none_or(|known| known.to_us == pulse.to_us)
        });
    }
}

impl Frames for Pulses {
    fn received(&self, frame: &[u8], source: Source, local: Option<IpAddr>) -> bool {
        let Some(tag) = Frame::tag(frame) else { return false };
        let Some(pulse) = self.0.tags.get(&tag).and_then(|pulse| pulse.upgrade()) else {
            return false;
        };
        pulse.received(frame, Road::back(source, local));
        true
    }

    fn unknown(&self, handles: &[SocketAddr], tag: Option<Tag>) {
        let pulses = handles.iter().filter_map(|handle| self.at(handle));
        pulses.filter(|pulse| tag.is_none_or(|tag| tag == pulse.to_peer)).for_each(|p| p.doubt());
    }

    fn unproven(&self, handle: SocketAddr, sent: Option<Instant>) {
        let pulse = self.0.handles.get(&handle).and_then(|pulse| pulse.upgrade());
        if let Some(pulse) = pulse {
            pulse.unproven(sent);
        }
    }
}
