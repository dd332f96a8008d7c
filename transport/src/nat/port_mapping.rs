//! Has the router in front of this host forward a port to it (feature `port-mapping`): by PCP (RFC 6887), NAT-PMP (RFC
//! 6886) or else UPnP-IGD, whichever the router speaks.
//!
//! A host with such a port is reached like a public one, whatever the NAT is otherwise, and its PeerRef names the address.
//! Most routers of companies and carriers refuse, and behind two of them the outer one knows nothing: then nothing
//! is named, and rendezvous do it.

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr},
    num::NonZeroU16,
    time::Duration,
};

use crab_nat::{InternetProtocol, PortMapping, PortMappingOptions, PortMappingType, TimeoutConfig};
use igd_next::{
    PortMappingProtocol, SearchOptions,
    aio::{Gateway, tokio::Tokio},
};
use tokio::time::Instant;

use crate::ground::address::is_public;

/// Which router is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Router {
    /// That of the default route.
    Default,
    /// The one at this address.
    At(Ipv4Addr),
}

/// Why no port was had.
#[derive(Debug, thiserror::Error)]
pub(crate) enum MappingError {
    #[error("there is no default route over IPv4")]
    NoRouter,
    #[error("the system doesn't say which router it uses: {0}")]
    Unknown(String),
    #[error("this host has no address towards its router: {0}")]
    NoAddress(#[source] std::io::Error),
    #[error("the router speaks neither PCP nor NAT-PMP ({mapping}) nor UPnP ({upnp})")]
    Refused { mapping: String, upnp: String },
    #[error("the router's own address {0} is not a public one")]
    NotPublic(IpAddr),
}

/// Asked for at a time, and renewed after half of it: a router that was restarted has it again within half an hour.
/// RFC 6886 has two hours.
pub(crate) const LIFETIME: Duration = Duration::from_secs(3600);

/// For PCP and NAT-PMP: 250 ms, doubled twice (RFC 6886, section 3.1, has nine tries and a minute).
const TRIES: TimeoutConfig = TimeoutConfig {
    initial_timeout: Duration::from_millis(250),
    max_retries: 2,
    max_retry_timeout: None,
};

/// How long devices may take to answer a search by UPnP.
const SEARCH: Duration = Duration::from_secs(3);

/// The port of SSDP, at which a router is asked that was named.
const SSDP: u16 = 1900;

enum Means {
    Pcp(PortMapping),
    Upnp { gateway: Gateway<Tokio>, local: SocketAddr },
}

/// A port that a router forwards here.
pub(crate) struct Mapped {
    means: Means,
    pub(crate) outside: SocketAddr,
    /// Until when the router forwards it if nothing else is agreed on.
    pub(crate) until: Instant,
}

impl Router {
    fn address(self) -> Result<Ipv4Addr, MappingError> {
        match self {
            Self::At(address) => Ok(address),
            Self::Default => {
                let gateway = netdev::get_default_gateway().map_err(MappingError::Unknown)?;
                gateway.ipv4.first().copied().ok_or(MappingError::NoRouter)
            }
        }
    }
}

/// Asks the router for a port that leads to `port` of this host.
pub(crate) async fn map(router: Router, port: NonZeroU16) -> Result<Mapped, MappingError> {
    let address = router.address()?;
    let local = towards(address).map_err(MappingError::NoAddress)?;
    let mapping = match by_pcp(address, local, port).await {
        Ok(mapped) => return public(mapped).await,
        Err(e) => e,
    };
    let named = matches!(router, Router::At(_)).then_some(address);
    match by_upnp(named, SocketAddr::new(local, port.get())).await {
        Ok(mapped) => public(mapped).await,
        Err(upnp) => Err(MappingError::Refused { mapping, upnp }),
    }
}

/// The address of this host on the way to its router; nothing is sent.
fn towards(router: Ipv4Addr) -> std::io::Result<IpAddr> {
    let socket = std::net::UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))?;
    socket.connect((router, SSDP))?;
    Ok(socket.local_addr()?.ip())
}

async fn by_pcp(router: Ipv4Addr, local: IpAddr, port: NonZeroU16) -> Result<Mapped, String> {
    let options = PortMappingOptions {
        external_port: Some(port),
        lifetime_seconds: u32::try_from(LIFETIME.as_secs()).ok(),
        timeout_config: Some(TRIES),
    };
    let mapping = PortMapping::new(router.into(), local, InternetProtocol::Udp, port, options);
    let mapping = mapping.await.map_err(|e| e.to_string())?;
    let ip = match mapping.mapping_type() {
        PortMappingType::Pcp { external_ip, .. } => external_ip.to_canonical(),
        PortMappingType::NatPmp => {
            let ip = crab_nat::natpmp::external_address(router.into(), Some(TRIES)).await;
            ip.map_err(|e| e.to_string())?.into()
        }
    };
    let outside = SocketAddr::new(ip, mapping.external_port().get());
    Ok(Mapped { means: Means::Pcp(mapping), outside, until: Instant::now() + LIFETIME })
}

async fn by_upnp(router: Option<Ipv4Addr>, local: SocketAddr) -> Result<Mapped, String> {
    let mut options = SearchOptions::default();
    (options.timeout, options.single_search_timeout) = (Some(SEARCH), Some(SEARCH));
    if let Some(router) = router {
        options.broadcast_address = (router, SSDP).into();
        // Whoever named it vouches for it, whatever its address is.
        options.allowed_gateway_ips = vec![router.into()];
    }
    let gateway = igd_next::aio::tokio::search_gateway(options).await.map_err(|e| e.to_string())?;
    let seconds = LIFETIME.as_secs() as u32;
    let outside = gateway.get_any_address(PortMappingProtocol::UDP, local, seconds, DESCRIPTION);
    let outside = outside.await.map_err(|e| e.to_string())?;
    Ok(Mapped { means: Means::Upnp { gateway, local }, outside, until: Instant::now() + LIFETIME })
}

/// What routers show to their owner.
const DESCRIPTION: &str = "webmesh";

/// Gives a port back that nobody outside can reach.
async fn public(mapped: Mapped) -> Result<Mapped, MappingError> {
    let ip = mapped.outside.ip();
    if is_public(ip) {
        return Ok(mapped);
    }
    mapped.give_back().await;
    Err(MappingError::NotPublic(ip))
}

impl Mapped {
    /// Has it forwarded for as long again.
    pub(crate) async fn renew(&mut self) -> Result<(), String> {
        match &mut self.means {
            Means::Pcp(mapping) => {
                mapping.renew().await.map_err(|e| e.to_string())?;
                self.outside.set_port(mapping.external_port().get());
            }
            Means::Upnp { gateway, local } => {
                let (port, seconds) = (self.outside.port(), LIFETIME.as_secs() as u32);
                let udp = PortMappingProtocol::UDP;
                let renewed = gateway.add_port(udp, port, *local, seconds, DESCRIPTION);
                renewed.await.map_err(|e| e.to_string())?;
            }
        }
        self.until = Instant::now() + LIFETIME;
        Ok(())
    }

    /// Ends it. A router that doesn't answer ends it in time.
    pub(crate) async fn give_back(self) {
        let given = match self.means {
            Means::Pcp(mapping) => mapping.try_drop().await.map_err(|(e, _)| e.to_string()),
            Means::Upnp { gateway, .. } => {
                let port = self.outside.port();
                let removed = gateway.remove_port(PortMappingProtocol::UDP, port).await;
                removed.map_err(|e| e.to_string())
            }
        };
        if let Err(e) = given {
            tracing::debug!("the router keeps its port until it forgets it: {e}");
        }
    }
}
