//! The internet of the laboratory: a router in the middle, and sites with their hosts and routers around it.
//!
//! Public addresses are those that RFC 5737 and RFC 3849 keep for documentation. Nothing private travels outside: the
//! middle drops and counts it.

use crate::{
    kind::{Input, Kind, rules},
    namespace::{Namespace, cable},
};
use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    sync::atomic::{AtomicU8, Ordering},
};

/// The middle's own address on every road.
const MIDDLE: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);

/// The router in the middle.
pub(crate) struct Internet {
    middle: Namespace,
    sites: AtomicU8,
}

/// A house with a road to the internet: a router, or two, or none, and a host or two.
pub(crate) struct Site {
    /// Its hosts.
    pub(crate) hosts: Vec<Namespace>,
    /// The addresses that others see of it.
    pub(crate) outside: Vec<IpAddr>,
    /// From the host outwards; kept because a namespace lives as long as its value.
    _routers: Vec<Namespace>,
}

impl Site {
    /// The first host.
    pub(crate) fn host(&self) -> &Namespace {
        &self.hosts[0]
    }
}

impl Internet {
    pub(crate) fn new() -> Internet {
        let middle = Namespace::router();
        middle.nft(
            r#"
table inet middle {
    chain private {
        type filter hook forward priority filter - 5;
        ip saddr { 10.0.0.0/8, 100.64.0.0/10, 172.16.0.0/12, 192.168.0.0/16 } counter drop
        ip daddr { 10.0.0.0/8, 100.64.0.0/10, 172.16.0.0/12, 192.168.0.0/16 } drop
    }
    chain roads { type filter hook forward priority filter; }
}
"#,
        );
        Internet { middle, sites: AtomicU8::new(10) }
    }

    /// A new site whose routers drop what is for nobody behind them.
    pub(crate) fn site(&self, kind: Kind) -> Site {
        self.site_with(kind, Input::Drop)
    }

    /// A new site.
    pub(crate) fn site_with(&self, kind: Kind, input: Input) -> Site {
        let number = self.number();
        let outside = Ipv4Addr::new(198, 51, 100, number);
        match kind {
            Kind::Public => {
                let host = Namespace::host();
                self.attach(number, &host, &[outside]);
                site(vec![host], vec![outside.into()], vec![])
            }
            Kind::PublicV6 => {
                let host = Namespace::host();
                let address = self.attach_v6(number, &host);
                site(vec![host], vec![address.into()], vec![])
            }
            Kind::Firewall => {
                let (host, router) = (Namespace::host(), Namespace::router());
                let address = Ipv4Addr::new(203, 0, 113, number);
                self.attach(number, &router, &[outside]);
                self.middle.ip(&format!("route add {address} via {outside} dev s{number}"));
                plug(&router, &[(&host, "eth0")]);
                router.ip(&format!("route add {address} dev lan"));
                host.ip(&format!(
                    "addr add {address}/32 dev eth0\nroute add {outside} dev eth0\nroute add default via {outside}"
                ));
                router.nft(&rules(kind, input, None));
                site(vec![host], vec![address.into()], vec![router])
            }
            Kind::FirewallV6 => {
                let (host, router) = (Namespace::host(), Namespace::router());
                let near = self.attach_v6(number, &router);
                self.middle.ip(&format!("route add 2001:db8:{number}:1::/64 via {near}"));
                plug(&router, &[(&host, "eth0")]);
                router.ip(&format!(
                    "addr add 2001:db8:{number}:1::1/64 dev lan nodad\naddr add fe80::1/64 dev lan nodad"
                ));
                host.ip(&format!(
                    "addr add 2001:db8:{number}:1::2/64 dev eth0 nodad\nroute add default via 2001:db8:{number}:1::1"
                ));
                router.nft(&rules(kind, input, None));
                let address = Ipv6Addr::new(0x2001, 0xdb8, hex(number), 1, 0, 0, 0, 2);
                site(vec![host], vec![address.into()], vec![router])
            }
            kind if kind.is_carrier() => {
                let carrier = Namespace::router();
                let homes = if kind == Kind::Carrier { 1..=1 } else { 1..=2 };
                let homes: Vec<_> = homes.map(|n| (n, Namespace::router())).collect();
                self.attach(number, &carrier, &[outside]);
                // It lends its outside addresses to customers and has others for itself.
                carrier.nft(&rules(kind, Input::Drop, Some(outside)));
                let plugs: Vec<_> = homes.iter().map(|(_, home)| (home, "up")).collect();
                plug(&carrier, &plugs);
                carrier.ip(&format!("addr add 100.64.{number}.1/24 dev lan"));
                let mut hosts = Vec::new();
                let mut routers = Vec::new();
                for (n, home) in homes {
                    let between = Ipv4Addr::new(100, 64, number, 1 + n);
                    home.ip(&format!(
                        "addr add {between}/24 dev up\nroute add default via 100.64.{number}.1"
                    ));
                    home.nft(&rules(Kind::PortRestricted, input, Some(between)));
                    let host = Namespace::host();
                    private_lan(&home, &[&host], &format!("10.0.{n}"));
                    hosts.push(host);
                    routers.push(home);
                }
                routers.push(carrier);
                site(hosts, vec![outside.into()], routers)
            }
            _ => {
                let router = Namespace::router();
                let hosts: Vec<Namespace> = (0..kind.hosts()).map(|_| Namespace::host()).collect();
                self.attach(number, &router, &[outside]);
                router.nft(&rules(kind, input, Some(outside)));
                // The same range in every home, as it is.
                let on_lan: Vec<&Namespace> = hosts.iter().collect();
                private_lan(&router, &on_lan, "192.168.1");
                if kind.is_apart() {
                    router.ip("link set dev h0 type bridge_slave isolated on\nlink set dev h1 type bridge_slave isolated on");
                }
                site(hosts, vec![outside.into()], vec![router])
            }
        }
    }

    /// Two homes behind port-restricted routers that are neighbours: on one wire outside, with no router in between.
    pub(crate) fn neighbours(&self, input: Input) -> [Site; 2] {
        let wire = format!("n{}", self.number());
        self.middle.ip(&format!(
            "link add {wire} type bridge\nlink set dev {wire} up\naddr add {MIDDLE}/32 dev {wire}"
        ));
        let numbers = [self.number(), self.number()];
        let outside = numbers.map(|number| Ipv4Addr::new(198, 51, 100, number));
        [(0, 1), (1, 0)].map(|(this, other)| {
            let (number, outside, other) = (numbers[this], outside[this], outside[other]);
            let (router, host) = (Namespace::router(), Namespace::host());
            cable((&self.middle, &format!("s{number}")), (&router, "up"));
            self.middle.ip(&format!(
                "link set dev s{number} master {wire}\nlink set dev s{number} up\nroute add {outside} dev {wire}"
            ));
            router.ip(&format!(
                "link set dev up up\naddr add {outside}/32 dev up\nroute add {MIDDLE} dev up\nroute add {other} dev up\nroute add default via {MIDDLE}"
            ));
            router.nft(&rules(Kind::PortRestricted, input, Some(outside)));
            private_lan(&router, &[&host], "192.168.1");
            site(vec![host], vec![outside.into()], vec![router])
        })
    }

    /// A public host with three addresses, to look at others from.
    pub(crate) fn observer(&self) -> Site {
        let (host, number) = (Namespace::host(), self.number());
        let addresses = [[198, 51, 100], [203, 0, 113], [192, 0, 2]]
            .map(|[a, b, c]| Ipv4Addr::new(a, b, c, number));
        self.attach(number, &host, &addresses);
        site(vec![host], addresses.map(IpAddr::from).to_vec(), vec![])
    }

    /// A public host, of IPv6 or IPv4, with other interfaces, which `ip` made before the one that leads outside, and what it is told after.
    pub(crate) fn crowded(&self, before: &str, after: &str, v6: bool) -> Site {
        let (host, number) = (Namespace::host(), self.number());
        host.ip(before);
        let outside = if v6 {
            self.attach_v6(number, &host).into()
        } else {
            let outside = Ipv4Addr::new(198, 51, 100, number);
            self.attach(number, &host, &[outside]);
            outside.into()
        };
        if !after.is_empty() {
            host.ip(after);
        }
        site(vec![host], vec![outside], vec![])
    }

    /// A public host with both versions of the protocol.
    pub(crate) fn dual_stack(&self) -> Site {
        let (host, number) = (Namespace::host(), self.number());
        let address = Ipv4Addr::new(198, 51, 100, number);
        self.attach(number, &host, &[address]);
        let v6 = self.address_v6(number, &host);
        site(vec![host], vec![address.into(), v6.into()], vec![])
    }

    /// Closes the road between two outside addresses until the result is dropped.
    pub(crate) fn cut(&self, one: IpAddr, other: IpAddr) -> Disturbance<'_> {
        self.disturb(one, other, "drop")
    }

    /// Loses packets between two outside addresses at random until the result is dropped.
    pub(crate) fn lose(&self, one: IpAddr, other: IpAddr, percent: u8) -> Disturbance<'_> {
        self.disturb(one, other, &format!("numgen random mod 100 < {percent} drop"))
    }

    /// Lets only packets of IPv4 of up to 1,280 bytes pass between two outside addresses, and says nothing to those who send
    /// longer ones, until the result is dropped.
    pub(crate) fn narrow(&self, one: IpAddr, other: IpAddr) -> Disturbance<'_> {
        self.disturb(one, other, "meta length > 1280 drop")
    }

    /// The same with less than QUIC needs.
    pub(crate) fn too_narrow(&self, one: IpAddr, other: IpAddr) -> Disturbance<'_> {
        self.disturb(one, other, "meta length > 1000 drop")
    }

    /// The road to this site takes packets of 1,000 bytes from now on, and the router in the middle says so to those who send longer ones.
    pub(crate) fn lower_mtu(&self, site: &Site) {
        let IpAddr::V4(outside) = site.outside[0] else { panic!("an address of IPv4") };
        self.middle.ip(&format!("link set dev s{} mtu 1000", outside.octets()[3]));
    }

    /// How many packets with a private sender reached the middle.
    pub(crate) fn leaked(&self) -> u64 {
        let rules = self.middle.nft("list chain inet middle private");
        let counter =
            rules.split("counter packets ").nth(1).and_then(|rest| rest.split(' ').next());
        counter.and_then(|count| count.parse().ok()).unwrap_or_else(|| panic!("{rules}"))
    }

    fn disturb(&self, one: IpAddr, other: IpAddr, verdict: &str) -> Disturbance<'_> {
        let version = if one.is_ipv4() { "ip" } else { "ip6" };
        let handles = [(one, other), (other, one)].map(|(from, to)| {
            let rule = format!(
                "insert rule inet middle roads {version} saddr {from} {version} daddr {to} {verdict}"
            );
            let echo = self.middle.nft(&rule);
            let handle = echo.split("# handle ").nth(1);
            let handle = handle.and_then(|rest| rest.lines().next()).map(|id| id.trim().to_owned());
            handle.unwrap_or_else(|| panic!("no handle: {echo}"))
        });
        Disturbance { middle: &self.middle, handles }
    }

    fn number(&self) -> u8 {
        let number = self.sites.fetch_add(1, Ordering::Relaxed);
        assert!(number < u8::MAX, "the laboratory has no addresses left");
        number
    }

    /// Lays the road from the middle to the outer interface of a site.
    fn attach(&self, number: u8, namespace: &Namespace, addresses: &[Ipv4Addr]) {
        cable((&self.middle, &format!("s{number}")), (namespace, "up"));
        let mut there = format!("link set dev s{number} up\naddr add {MIDDLE}/32 dev s{number}\n");
        let mut here = String::from("link set dev up up\n");
        for address in addresses {
            there += &format!("route add {address} dev s{number}\n");
            here += &format!("addr add {address}/32 dev up\n");
        }
        here += &format!("route add {MIDDLE} dev up\nroute add default via {MIDDLE}\n");
        self.middle.ip(&there);
        namespace.ip(&here);
    }

    fn attach_v6(&self, number: u8, namespace: &Namespace) -> Ipv6Addr {
        cable((&self.middle, &format!("s{number}")), (namespace, "up"));
        self.middle.ip(&format!("link set dev s{number} up"));
        namespace.ip("link set dev up up");
        self.address_v6(number, namespace)
    }

    /// Addresses of IPv6 on a road that is laid; gives the one at the site.
    fn address_v6(&self, number: u8, namespace: &Namespace) -> Ipv6Addr {
        let prefix = format!("2001:db8:{number}:");
        self.middle.ip(&format!("addr add {prefix}:1/64 dev s{number} nodad"));
        // Without a link-local address of its own, a router can't ask for neighbours until its first one was found to be free,
        // which takes two seconds.
        namespace.ip(&format!(
            "addr add {prefix}:2/64 dev up nodad\naddr add fe80::2/64 dev up nodad\nroute add default via {prefix}:1"
        ));
        self.middle.ip(&format!("addr add fe80::1/64 dev s{number} nodad"));
        Ipv6Addr::new(0x2001, 0xdb8, hex(number), 0, 0, 0, 0, 2)
    }
}

/// A road that is cut or loses packets as long as this lives.
pub(crate) struct Disturbance<'a> {
    middle: &'a Namespace,
    handles: [String; 2],
}

impl Drop for Disturbance<'_> {
    fn drop(&mut self) {
        for handle in &self.handles {
            self.middle.nft(&format!("delete rule inet middle roads handle {handle}"));
        }
    }
}

fn site(hosts: Vec<Namespace>, outside: Vec<IpAddr>, routers: Vec<Namespace>) -> Site {
    Site { hosts, outside, _routers: routers }
}

/// Gives a router a LAN with these hosts on it, each behind its plug of the given name.
fn plug(router: &Namespace, hosts: &[(&Namespace, &str)]) {
    router.ip("link add lan type bridge\nlink set dev lan up");
    for (index, (host, name)) in hosts.iter().enumerate() {
        cable((router, &format!("h{index}")), (host, name));
        router.ip(&format!("link set dev h{index} master lan\nlink set dev h{index} up"));
        host.ip(&format!("link set dev {name} up"));
    }
}

/// A LAN with private addresses: the router is .1, the hosts are .10, .11, …
fn private_lan(router: &Namespace, hosts: &[&Namespace], net: &str) {
    let plugs: Vec<_> = hosts.iter().map(|host| (*host, "eth0")).collect();
    plug(router, &plugs);
    router.ip(&format!("addr add {net}.1/24 dev lan"));
    for (index, host) in hosts.iter().enumerate() {
        let last = 10 + index;
        host.ip(&format!("addr add {net}.{last}/24 dev eth0\nroute add default via {net}.1"));
    }
}

/// The group of an IPv6 address that is written with the digits of `number`.
fn hex(number: u8) -> u16 {
    u16::from_str_radix(&number.to_string(), 16).unwrap()
}
