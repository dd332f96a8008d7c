//! The notes that both sides of a link write to each other.

use super::*;

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
            note = notes.next() => match note {
                Ok(Some(Note::Knock)) => {}
                Ok(Some(note @ Note::Rendezvous(_))) => {
                    while rate.as_ref().is_some_and(|rate| rate.check().is_err()) {
                        link.lease().socket().sleep(SAID_EVERY).await;
                    }
                    let _ = actor.send(Order::Noted { link: id, note }).await;
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
    let why = LinkDown::of(&link.quic().closed().await);
    actor.do_send(Order::Closed { link: id, why });
}
