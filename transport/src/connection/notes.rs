//! The notes that both sides of a link write to each other.

use std::{collections::VecDeque, pin::Pin};

use super::*;

/// Messages about rendezvous that wait for their turn; whoever sends more is cut off, for they would wait in QUIC's window,
/// which is large. A peer that keeps to [`ASKED_MAX`] never has so many; a guess, at ~200 bytes each.
const WAITING_MAX: usize = 1024;

/// Reads and writes the notes of a link until its connection ends, and says how it ended.
pub(super) async fn attend(
    link: Link,
    stream: LinkStream,
    mut queue: mpsc::UnboundedReceiver<Note>,
    saying: Arc<AtomicUsize>,
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
            note = notes.next() => match note {
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

/// The end of a pause; without one it never comes.
async fn over(pause: &mut Option<Pin<Box<tokio::time::Sleep>>>) {
    match pause {
        Some(pause) => pause.await,
        None => std::future::pending().await,
    }
}
