//! The notes that both sides of a link write to each other.

use std::{collections::VecDeque, pin::Pin};

use parking_lot::Mutex;
use tokio::sync::Notify;

use super::*;
use crate::wire::{hello::HelloError, rendezvous::FLOWS_DEAD_MAX};

/// Messages about rendezvous that wait for their turn; whoever sends more is cut off, for they would wait in QUIC's window,
/// which is large. A peer that keeps to [`ASKED_MAX`] never has so many; a guess, at ~200 bytes each.
const WAITING_MAX: usize = 1024;

/// Ended flows that wait to be told of; a peer that leaves more unread loses its link, with which they end for it too. A guess,
/// far beyond the flows that a relay gives one host, and 32 KB.
const ENDED_MAX: usize = 4096;

/// Flows whose end the peer isn't told of yet. What frees something is never dropped for lack of room.
#[derive(Default)]
pub(super) struct Ended {
    tokens: Mutex<Vec<u64>>,
    news: Notify,
}

impl Ended {
    /// The peer is to be told of these too. `false`: it doesn't read what it is told.
    pub(super) fn add(&self, more: &[u64]) -> bool {
        let mut tokens = self.tokens.lock();
        tokens.extend(more);
        self.news.notify_one();
        tokens.len() <= ENDED_MAX
    }

    /// What is to be said next.
    fn take(&self) -> Option<Note> {
        let mut tokens = self.tokens.lock();
        let count = tokens.len().min(FLOWS_DEAD_MAX);
        let tokens: Vec<_> = tokens.drain(..count).collect();
        let said = (!tokens.is_empty()).then_some(Said::FlowsDead { tokens });
        said.map(|said| Note::Rendezvous(Box::new(said)))
    }
}

/// Reads and writes the notes of a link until its connection ends, and says how it ended.
pub(super) async fn attend(
    link: Link,
    stream: LinkStream,
    mut queue: mpsc::UnboundedReceiver<Note>,
    (saying, ended): (Arc<AtomicUsize>, Arc<Ended>),
    actor: actix::Addr<Connection>,
) {
    let id = link.id();
    let LinkStream { mut tx, rx } = stream;
    let mut notes = Notes::new(rx);
    let rate = Quota::with_period(SAID_EVERY).map(|quota| quota.allow_burst(SAID_AT_ONCE));
    let rate = rate.map(|quota| RateLimiter::direct_with_clock(quota, TokioClock));
    let may = || rate.as_ref().is_none_or(|rate| rate.check().is_ok());
    let (mut waiting, mut pause) = (VecDeque::new(), None);
    loop {
        tokio::select! {
            // Else chance decides between the two, and a run in place doesn't repeat itself.
            biased;
            Some(note) = queue.recv() => {
                write_note(&mut tx, &note).await;
                if matches!(note, Note::Rendezvous(_)) {
                    saying.fetch_sub(1, Ordering::Relaxed);
                }
            }
            () = ended.news.notified() => {
                while let Some(note) = ended.take() {
                    write_note(&mut tx, &note).await;
                }
            }
            () = over(&mut pause) => {
                pause = None;
                while !waiting.is_empty() && may() {
                    if let Some(note) = waiting.pop_front() {
                        let _ = actor.send(Order::Noted { link: id, note }).await;
                    }
                }
                if !waiting.is_empty() {
                    pause = Some(Box::pin(link.lease().socket().sleep(SAID_EVERY)));
                }
            }
            note = noted(&mut notes) => match note {
                Ok(Some(Note::Knock)) => {}
                Ok(Some(note @ Note::Rendezvous(_))) => {
                    if waiting.is_empty() && may() {
                        let _ = actor.send(Order::Noted { link: id, note }).await;
                    } else if waiting.len() < WAITING_MAX {
                        waiting.push_back(note);
                        pause.get_or_insert_with(|| Box::pin(link.lease().socket().sleep(SAID_EVERY)));
                    } else {
                        // What is unread goes now, rather than with the last trace of the connection.
                        notes.stop();
                        link.end(LinkDown::Broken("it says too much about rendezvous".into()));
                        break;
                    }
                }
                // One at a time: a flood of notes waits in QUIC's window, not in the actor's mailbox.
                Ok(Some(note)) => drop(actor.send(Order::Noted { link: id, note }).await),
                Ok(None) => break,
                Err(e) => {
                    link.end(LinkDown::Broken(e.to_string()));
                    break;
                }
            },
        }
    }
    drop(waiting);
    let why = LinkDown::of(&link.quic().closed().await);
    actor.do_send(Order::Closed { link: id, why });
}

/// The next note. Thousands may wait in QUIC's window, and to read them never takes waiting: other tasks of the network thread get their turn all the
/// same.
async fn noted(notes: &mut Notes) -> Result<Option<Note>, HelloError> {
    tokio::task::consume_budget().await;
    notes.next().await
}

/// The end of a pause; without one it never comes.
async fn over(pause: &mut Option<Pin<Box<tokio::time::Sleep>>>) {
    match pause {
        Some(pause) => pause.await,
        None => std::future::pending().await,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_end_of_a_flow_is_forgotten_and_a_peer_that_reads_none_is_known() {
        let ended = Ended::default();
        for token in 0..ENDED_MAX as u64 {
            assert!(ended.add(&[token]));
        }
        assert!(!ended.add(&[u64::MAX]));
        let mut told = Vec::new();
        while let Some(Note::Rendezvous(said)) = ended.take() {
            let Said::FlowsDead { tokens } = *said else { panic!("{said:?}") };
            assert!((1..=FLOWS_DEAD_MAX).contains(&tokens.len()));
            told.extend(tokens);
        }
        assert_eq!(told, Vec::from_iter((0..ENDED_MAX as u64).chain([u64::MAX])));
    }
}
