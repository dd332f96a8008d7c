//! Sites of every kind around one public network.

use std::{
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use crate::common::{Host, host_in_place};
use tokio::time::Instant;
use webmesh_transport::{
    EndpointConfig, InPlace, Link, MemoryNetwork, PathKind, PeerRef,
    sim::{self, Nat},
};

/// What stands in front of a host.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Public,
    FullCone,
    AddressRestricted,
    PortRestricted,
    Symmetric,
    /// A port-restricted router that takes for its own what is for nobody behind it.
    Accepting,
    /// A port-restricted router behind another one of the carrier's.
    CarrierGrade,
    Firewall,
}

impl Kind {
    pub(crate) const ALL: [Self; 8] = [
        Self::Public,
        Self::FullCone,
        Self::AddressRestricted,
        Self::PortRestricted,
        Self::Accepting,
        Self::Symmetric,
        Self::CarrierGrade,
        Self::Firewall,
    ];

    /// Whether only those come in that were sent to at that very port.
    pub(crate) fn is_strict(self) -> bool {
        let open = matches!(self, Self::Public | Self::FullCone | Self::AddressRestricted);
        !open
    }
}

pub(crate) struct World {
    pub(crate) network: MemoryNetwork,
    placement: Arc<InPlace>,
}

impl World {
    pub(crate) fn new(seed: u64, placement: Arc<InPlace>) -> Self {
        Self { network: MemoryNetwork::new(seed), placement }
    }

    /// Around this network.
    pub(crate) fn of(network: MemoryNetwork, placement: Arc<InPlace>) -> Self {
        Self { network, placement }
    }

    /// The same network, and hosts that roll other dice: those of a process that was started anew.
    pub(crate) fn beside(&self, seed: u64) -> Self {
        Self { network: self.network.clone(), placement: Arc::new(InPlace::new(seed).unwrap()) }
    }

    pub(crate) fn placement(&self) -> &Arc<InPlace> {
        &self.placement
    }

    /// The address of host `n`.
    pub(crate) fn host(n: u8) -> IpAddr {
        [10, 0, 0, n].into()
    }

    /// Where the site of host `n` is seen from outside.
    pub(crate) fn outside(n: u8) -> IpAddr {
        [198, 51, 100, n].into()
    }

    /// A public node that serves.
    pub(crate) async fn server(&self, n: u8) -> Host {
        self.server_with(n, |_| {}).await
    }

    /// The same, changed.
    pub(crate) async fn server_with(
        &self,
        n: u8,
        change: impl FnOnce(&mut EndpointConfig),
    ) -> Host {
        host_in_place(n, &self.network, &self.placement, |config| {
            config.listen = vec![SocketAddr::new(Self::outside(n), 4433)];
            let service = config.service.as_mut().unwrap();
            // As much as the links here carry: the tests are about those.
            let relaying = service.relaying.as_mut().unwrap();
            relaying.bytes_per_second_per_flow = 16 << 20;
            relaying.bytes_per_second_per_host = 16 << 20;
            change(config);
        })
        .await
    }

    /// A host of this kind that keeps sessions with `servers`.
    pub(crate) async fn site(&self, n: u8, kind: Kind, servers: &[&Host]) -> Host {
        self.site_wanting(n, kind, servers, servers.len()).await
    }

    /// The same that wants so many.
    pub(crate) async fn site_wanting(
        &self,
        n: u8,
        kind: Kind,
        servers: &[&Host],
        sessions: usize,
    ) -> Host {
        let join = servers.iter().map(|server| server.endpoint.peer_ref()).collect();
        let address = self.place(n, kind);
        let host = self.at(n, address, join, sessions).await;
        host.endpoint.attached().await;
        host
    }

    /// The same that was told to join these, and isn't waited for.
    pub(crate) async fn joining(&self, n: u8, kind: Kind, join: Vec<PeerRef>) -> Host {
        let sessions = join.len();
        self.at(n, self.place(n, kind), join, sessions).await
    }

    /// Builds the site of host `n`, whose address that is.
    fn place(&self, n: u8, kind: Kind) -> IpAddr {
        let (host, outside) = (Self::host(n), Self::outside(n));
        let behind = |nat: Nat| {
            self.network.add_nat(outside, nat);
            self.network.place_behind(host, outside);
        };
        let mut address = host;
        match kind {
            Kind::Public => address = outside,
            Kind::FullCone => behind(Nat::full_cone()),
            Kind::AddressRestricted => behind(Nat::address_restricted()),
            Kind::PortRestricted => behind(Nat::port_restricted()),
            Kind::Accepting => behind(Nat { accepts: true, ..Nat::port_restricted() }),
            Kind::Symmetric => behind(Nat::symmetric()),
            Kind::CarrierGrade => {
                let home = [100, 64, 0, n].into();
                self.network.add_nat(home, Nat::port_restricted());
                self.network.place_behind(host, home);
                self.network.add_nat(outside, Nat::port_restricted());
                self.network.place_behind(home, outside);
            }
            Kind::Firewall => {
                address = outside;
                let firewall = [192, 0, 2, n].into();
                self.network.add_nat(firewall, Nat::firewall());
                self.network.place_behind(outside, firewall);
            }
        }
        address
    }

    /// The same behind this router.
    pub(crate) async fn site_behind(&self, n: u8, nat: Nat, servers: &[&Host]) -> Host {
        self.network.add_nat(Self::outside(n), nat);
        self.network.place_behind(Self::host(n), Self::outside(n));
        let join: Vec<PeerRef> = servers.iter().map(|server| server.endpoint.peer_ref()).collect();
        let host = self.at(n, Self::host(n), join, servers.len()).await;
        host.endpoint.attached().await;
        host
    }

    async fn at(&self, n: u8, address: IpAddr, join: Vec<PeerRef>, sessions: usize) -> Host {
        host_in_place(n, &self.network, &self.placement, |config| {
            config.listen = vec![SocketAddr::new(address, 1000)];
            config.service = None;
            (config.sessions, config.join) = (sessions, join);
        })
        .await
    }
}

/// Waits until the link is of one of these kinds; how long that took. Panics after a minute.
pub(crate) async fn until(link: &Link, paths: &[PathKind]) -> Duration {
    let begun = Instant::now();
    while !paths.contains(&link.path()) {
        let _ = link.ping().await;
        tokio::time::sleep(Duration::from_millis(20)).await;
        assert!(begun.elapsed() < Duration::from_secs(60), "still {:?}", link.path());
    }
    begun.elapsed()
}

pub(crate) const DIRECT: [PathKind; 2] = [PathKind::Direct, PathKind::Punched];

/// A link of the simulation that takes so many milliseconds one way and carries so many Mbit/s.
pub(crate) fn line(milliseconds: u64, megabits: u64) -> sim::Link {
    sim::Link {
        bits_per_second: Some(megabits * 1_000_000),
        ..sim::Link::of(Duration::from_millis(milliseconds))
    }
}
