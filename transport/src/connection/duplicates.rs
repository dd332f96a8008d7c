//! Which of several links to one peer takes new work, and when the others end.

use super::*;

impl Connection {
    /// Decides which of two links takes new work.
    pub(super) fn settle_duplicates(&mut self, new: Link) {
        let Some(old) = self.up.and_then(|id| self.position(id)) else {
            self.promote(new.id());
            return;
        };
        if self.entries[old].liveness.is_unreachable() {
            // Whichever of the two is the better one: that one leads nowhere.
            let dead = self.entries[old].link.clone();
            dead.end(LinkDown::Gone);
            self.down(dead.id(), LinkDown::Gone);
            if self.up != Some(new.id()) {
                self.promote(new.id());
            }
            return;
        }
        let own = self.shared.peer_id();
        if self.entries[old].link.rank(own) > new.rank(own) {
            self.demote(new.id());
        } else {
            let old = self.entries[old].link.id();
            self.promote(new.id());
            self.demote(old);
        }
    }

    pub(super) fn promote(&mut self, id: u64) {
        let Some(index) = self.position(id) else { return };
        let entry = &mut self.entries[index];
        if std::mem::take(&mut entry.drained_here) {
            let _ = entry.notes.send(Note::Resumed);
        }
        entry.draining = false;
        let link = entry.link.clone();
        self.up = Some(id);
        self.unreachable = false;
        self.shared.set_up(&link);
        if link.serves() {
            self.shared.tell_sessions(News::Connected { peer: self.peer });
        }
        self.shared.observer.link_up(link.clone());
        for waiter in self.waiters.drain(..) {
            let _ = waiter.send(Ok(link.clone()));
        }
    }

    pub(super) fn demote(&mut self, id: u64) {
        let Some(index) = self.position(id) else { return };
        let entry = &mut self.entries[index];
        entry.draining = true;
        tracing::debug!(peer = %self.peer, link = id, "link drains: another one takes new work");
        self.shared.observer.link_draining(entry.link.clone());
    }

    /// A link to another instance than `instance` leads to a process that is no more.
    pub(super) fn replace_older(&mut self, instance: InstanceId) {
        if self.past.contains(&instance) && !std::mem::replace(&mut self.doubted, true) {
            tracing::warn!(peer = %self.peer, "two hosts use the key of this peer in turn");
        }
        let older = |entry: &&Entry| entry.link.instance() != instance;
        let older: Vec<_> = self.entries.iter().filter(older).map(|e| e.link.clone()).collect();
        for link in older {
            if !self.past.contains(&link.instance()) {
                self.past.push(link.instance());
            }
            if self.past.len() > PAST_MAX {
                self.past.remove(0);
            }
            link.end(LinkDown::Restarted);
            // Said here and now, before the new link is up.
            self.down(link.id(), LinkDown::Restarted);
        }
    }

    /// Makes room for one more link: the oldest that drains goes, drained or not.
    pub(super) fn end_surplus(&mut self) {
        while self.entries.len() >= LINKS_MAX
            && let Some(entry) = self.entries.iter().find(|entry| Some(entry.link.id()) != self.up)
        {
            let link = entry.link.clone();
            let why = LinkDown::Broken("too many links to this peer".into());
            link.end(why.clone());
            self.down(link.id(), why);
        }
    }

    pub(super) fn drained(&mut self, id: u64) {
        let Some(index) = self.position(id) else { return };
        let entry = &mut self.entries[index];
        if entry.draining && !entry.drained_here {
            entry.drained_here = true;
            let _ = entry.notes.send(Note::Drained);
            close_if_drained(entry);
        }
    }
}

pub(super) fn close_if_drained(entry: &Entry) {
    if entry.draining && entry.drained_here && entry.drained_there {
        entry.link.end(LinkDown::Duplicate);
    }
}
