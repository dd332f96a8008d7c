//! Which thread sends an ask, and asks that are given up on the way.

use crate::common::{Echo, Recorder, mesh, note, recorder, run};
use std::sync::{Mutex, mpsc};
use std::time::Duration;
use webmesh::ActorRef;
use webmesh::access::Access;

/// A network thread that is busy for longer has no part in what is seen meanwhile.
const BUSY_AT_MOST: Duration = Duration::from_secs(30);

#[test]
fn who_asks_alone_sends_the_ask_even_while_the_network_thread_is_busy() {
    run(async {
        let (host, guest) = (mesh().await, mesh().await);
        let (far, log) = recorder(&host, &guest, Duration::ZERO).await;
        assert_eq!(far.ask(note(1, 0, 10)).await, Ok(0));

        // The rule of an actor runs on the network thread of its mesh, when a peer comes to it.
        let (busy, until_busy) = mpsc::channel();
        let (free, until_free) = mpsc::channel::<()>();
        let until_free = Mutex::new(until_free);
        let near = guest.spawn(crate::common::RecorderActor::default);
        let keeps_busy = Access::by(move |_| {
            let _ = busy.send(());
            // Until the other end is dropped.
            let _ = until_free.lock().unwrap().recv_timeout(BUSY_AT_MOST);
            true
        });
        guest.publish("busy", &near).allow(keeps_busy).await.unwrap();
        let (there, from) = (guest.peer_ref(), host.clone());
        let visit = tokio::spawn(async move {
            let to_guest: ActorRef<Recorder> = from.resolve("busy").at(&there).await.unwrap();
            to_guest.ask(note(2, 0, 10)).await
        });
        tokio::task::block_in_place(|| until_busy.recv_timeout(BUSY_AT_MOST).unwrap());

        let ask = tokio::spawn(far.ask(note(1, 1, 10)));
        let arrived = async {
            while log.lock().unwrap().len() < 2 {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        let arrived = tokio::time::timeout(BUSY_AT_MOST / 2, arrived).await;
        drop(free);
        arrived.expect("nothing arrives until the network thread has time");
        assert_eq!(ask.await.unwrap(), Ok(1));
        assert_eq!(visit.await.unwrap(), Ok(0));
    });
}

#[test]
fn an_ask_whose_bodies_are_on_their_way_is_given_up_and_the_lane_goes_on() {
    run(async {
        let (host, guest) = (mesh().await, mesh().await);
        let (far, log) = recorder(&host, &guest, Duration::ZERO).await;
        assert_eq!(far.ask(note(1, 0, 10)).await, Ok(0));
        let body = webmesh::Bytes::from(vec![1; 32 << 20]);
        for number in 1..20 {
            let large = far.ask(Echo { body: body.clone() });
            // Behind it in line, and not before it.
            let behind = far.ask(note(1, number, 100_000));
            tokio::time::sleep(Duration::from_millis(number % 7)).await;
            drop(large);
            assert_eq!(behind.await, Ok(number));
        }
        assert_eq!(log.lock().unwrap().len(), 20);
    });
}
