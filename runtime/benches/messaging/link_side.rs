//! Webmesh's transport alone: the streams of a link on one runtime, without lanes and actors. It tells how much of a
//! ratio is the socket's and how much the actors'.

use crate::{
    process::{Role, Task, wait_for_parent},
    quinn_side,
};
use std::sync::Arc;
use tokio::sync::mpsc;
use webmesh_transport::{
    Endpoint, EndpointConfig, InPlace, Link, LinkDown, Observer, PeerId, SecretKey,
};

/// Hands on the links that come up.
struct Links(mpsc::UnboundedSender<Link>);

impl Observer for Links {
    fn link_up(&self, link: Link) {
        let _ = self.0.send(link);
    }
    fn link_draining(&self, _: Link) {}
    fn link_down(&self, _: Link, _: LinkDown) {}
    fn unreachable(&self, _: PeerId) {}
    fn reachable(&self, _: PeerId) {}
}

pub(crate) fn run(task: &Task) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let local = tokio::task::LocalSet::new();
    local.block_on(&runtime, async {
        let (sender, mut links) = mpsc::unbounded_channel();
        let mut config = EndpointConfig::new(SecretKey::generate());
        config.listen = vec!["127.0.0.1:0".parse().unwrap()];
        let placement = Arc::new(InPlace::new(1).unwrap());
        let endpoint = Endpoint::bind(config, placement, Arc::new(Links(sender))).await.unwrap();
        if task.role == Role::Server {
            println!("{}", endpoint.peer_ref());
            let workload = task.workload.clone();
            tokio::spawn(async move {
                let link = links.recv().await.unwrap();
                quinn_side::serve_connection(link.quic().clone(), &workload).await;
            });
            tokio::task::spawn_blocking(wait_for_parent).await.unwrap();
        } else {
            let link =
                endpoint.connect(&task.address.as_ref().unwrap().parse().unwrap()).await.unwrap();
            println!("{}", quinn_side::measure(link.quic(), &task.workload).await);
        }
    });
    std::process::exit(0);
}
