//! How a `Connection` brings the liveness of a link up to date, and what follows from it.

use super::*;

/// A peer that is back has this long at most to acknowledge something new, before congestion control starts anew. A guess: more than a round trip
/// takes, whatever QUIC believes after an outage.
const ACKED_WITHIN_MAX: Duration = Duration::from_secs(1);

impl Connection {
    /// Brings the liveness of a link up to date and sets its next timer.
    pub(super) fn tick(&mut self, id: u64, ctx: &mut Context<Self>) {
        let Some(index) = self.position(id) else { return };
        let now = now();
        let entry = &mut self.entries[index];
        let probe_every = self.shared.config.patience.probe_every;
        let frames = frames_received(&entry.link);
        let ticked = std::mem::replace(&mut entry.ticked, now);
        let carried = frames != entry.frames_seen;
        if frames != entry.frames_seen {
            entry.frames_seen = frames;
            // They came after the tick before, nobody knows when: rather early, lest silence begin too late.
            let earliest = now.checked_sub(probe_every).unwrap_or(now).max(ticked);
            entry.liveness.heard(now.min(earliest + Duration::from_millis(1)), now);
        }
        // Before anything else, lest what was heard meanwhile be asked for.
        let pulse = entry.link.pulse();
        entry.liveness.heard(pulse.heard().max(pulse.kept()), now);
        self.keep(index, now);
        let entry = &mut self.entries[index];
        entry.liveness.watch(entry.link.pulse().is_watched(), now);
        entry.liveness.expect(entry.link.pulse().still_expecting(), now);
        let pulse = entry.link.pulse();
        let probe = entry.liveness.poll_probe();
        if probe {
            entry.link.pulse().probe();
        }
        if entry.liveness.poll_keep() {
            entry.link.pulse().keep();
        }
        entry.wake = match entry.wake {
            Wake::Awake if entry.liveness.silence(now) >= probe_every => {
                entry.link.lease().keep_echo(true);
                let _ = entry.notes.send(Note::Knock);
                Wake::Silent
            }
            Wake::Silent if !entry.liveness.is_silent() => {
                // It is back: a new packet ends QUIC's back-off.
                let _ = entry.notes.send(Note::Knock);
                Wake::Back { since: now, afresh: false }
            }
            Wake::Silent => {
                if probe {
                    entry.link.lease().provoke(&mut self.nonces);
                }
                Wake::Silent
            }
            Wake::Back { .. } if entry.liveness.silence(now) >= probe_every => Wake::Silent,
            // What else comes of the peer's says nothing of whether it gets what it is to acknowledge.
            Wake::Back { since, afresh } if pulse.newest_acked() < Some(since) => {
                entry.link.lease().repeat();
                let wait = probe_every.max(ACKED_WITHIN_MAX.min(entry.link.quic().rtt() * 2));
                let afresh = if !afresh && now >= since + wait {
                    // What is in flight is lost, and keeps back what would show that.
                    pulse.afresh();
                    let _ = entry.notes.send(Note::Knock);
                    true
                } else {
                    afresh
                };
                Wake::Back { since, afresh }
            }
            Wake::Back { .. } => {
                entry.link.lease().keep_echo(false);
                Wake::Awake
            }
            Wake::Awake => Wake::Awake,
        };
        let event = entry.liveness.poll_event();
        self.look_after(id, carried, now, ctx);
        if let Some(event) = event {
            self.changed(id, event);
        }
        let Some(index) = self.position(id) else { return };
        let entry = &mut self.entries[index];
        if let Some(timer) = entry.timer.take() {
            ctx.cancel_future(timer);
        }
        if let Some(at) = entry.liveness.timeout() {
            let mut wait = at.saturating_duration_since(now);
            if matches!(entry.wake, Wake::Back { .. }) {
                wait = wait.min(probe_every);
            }
            entry.timer = Some(ctx.run_later(wait, move |actor, ctx| {
                if let Some(index) = actor.position(id) {
                    actor.entries[index].timer = None;
                }
                actor.tick(id, ctx);
            }));
        }
    }

    pub(super) fn changed(&mut self, id: u64, event: Event) {
        let Some(index) = self.position(id) else { return };
        let link = self.entries[index].link.clone();
        match event {
            Event::Gone => {
                link.end(LinkDown::Gone);
                self.down(id, LinkDown::Gone);
            }
            Event::Unreachable if self.up == Some(id) => {
                let alive = self.entries.iter().find(|entry| {
                    entry.link != link && !entry.liveness.is_silent() && entry.ending.is_none()
                });
                if alive.is_some() {
                    // The duplicate works and this one doesn't: the peer may have forgotten it.
                    link.end(LinkDown::Gone);
                    self.down(id, LinkDown::Gone);
                } else if !std::mem::replace(&mut self.unreachable, true) {
                    tracing::debug!(peer = %self.peer, link = id, "unreachable: the peer doesn't answer");
                    self.shared.observer.unreachable(self.peer);
                }
            }
            Event::Reachable if self.up == Some(id) => {
                if std::mem::take(&mut self.unreachable) {
                    tracing::debug!(peer = %self.peer, link = id, "reachable: the peer answers again");
                    self.shared.observer.reachable(self.peer);
                }
            }
            Event::Unreachable | Event::Reachable => {}
        }
    }
}
