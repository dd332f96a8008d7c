//! Sockets beside those that were bound at the start: each found a way to a peer through a symmetric NAT, and carries that
//! one road until its connection ends.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    task::Context,
};

use futures_util::task::AtomicWaker;
use parking_lot::RwLock;

use super::udp::UdpWire;

/// Such sockets at a time. A guess: peers behind symmetric NATs that a host talks to at once, a descriptor each.
const ADOPTED_MAX: usize = 64;

#[derive(Debug, Default)]
pub(super) struct Adopted {
    wires: RwLock<Vec<Option<Arc<UdpWire>>>>,
    /// Mostly zero, and then the lock isn't touched.
    count: AtomicUsize,
    reader: AtomicWaker,
}

impl Adopted {
    /// Takes one in, unless there are too many; its place.
    pub(super) fn add(&self, wire: UdpWire) -> Option<usize> {
        let mut wires = self.wires.write();
        let free = wires.iter().position(Option::is_none);
        let place = match free {
            Some(place) => place,
            None if wires.len() < ADOPTED_MAX => {
                wires.push(None);
                wires.len() - 1
            }
            None => return None,
        };
        wires[place] = Some(Arc::new(wire));
        self.count.fetch_add(1, Ordering::SeqCst);
        drop(wires);
        // Whoever reads must come to read this one as well.
        self.reader.wake();
        Some(place)
    }

    /// Has everything be read that is there.
    pub(super) fn wake_reader(&self) {
        self.reader.wake();
    }

    pub(super) fn remove(&self, place: usize) {
        if self.count.load(Ordering::SeqCst) > 0
            && let Some(wire) = self.wires.write().get_mut(place)
            && wire.take().is_some()
        {
            self.count.fetch_sub(1, Ordering::SeqCst);
        }
    }

    pub(super) fn get(&self, place: usize) -> Option<Arc<UdpWire>> {
        if self.count.load(Ordering::SeqCst) == 0 {
            return None;
        }
        self.wires.read().get(place)?.clone()
    }

    /// All of them with their places, to be read; `cx` is woken when there is one more.
    pub(super) fn each(&self, cx: &Context<'_>) -> Vec<(usize, Arc<UdpWire>)> {
        self.reader.register(cx.waker());
        if self.count.load(Ordering::SeqCst) == 0 {
            return Vec::new();
        }
        let wires = self.wires.read();
        wires.iter().enumerate().filter_map(|(i, wire)| Some((i, wire.clone()?))).collect()
    }
}
