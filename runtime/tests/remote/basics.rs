//! A ref works the same, near and far.

use crate::common::*;
use std::time::Duration;
use webmesh::Bytes;

#[test]
fn an_actor_of_another_mesh_is_told_and_asked() {
    run(async {
        let (host, guest) = (mesh().await, mesh().await);
        let (far, log) = recorder(&host, &guest, Duration::ZERO).await;
        far.tell(note(1, 1, 100)).await.unwrap();
        assert_eq!(far.ask(note(1, 2, 0)).await, Ok(2));
        assert_eq!(*log.lock().unwrap(), [(1, 1, 100), (1, 2, 0)]);
        host.shutdown().await;
        guest.shutdown().await;
    });
}

#[test]
fn bodies_of_any_size_arrive_and_come_back() {
    run(async {
        let (host, guest) = (mesh().await, mesh().await);
        let (far, _) = recorder(&host, &guest, Duration::ZERO).await;
        for len in [0, 1, 65_536, 65_537, 200_000, 1 << 20, 8 << 20, (8 << 20) + 1] {
            let body = Bytes::from(vec![len as u8; len]);
            assert_eq!(far.ask(Echo { body: body.clone() }).await, Ok(body), "{len}");
        }
    });
}
