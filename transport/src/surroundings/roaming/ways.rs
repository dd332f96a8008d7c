//! Which way packets to the internet leave this host: interface, gateway and source address, for IPv4 and IPv6.

/// What the system says of each family's way, to be compared with what it said before; empty where there is none, `None` where it doesn't
/// say.
pub(super) type Ways = [Option<Vec<u8>>; 2];

/// Not asked elsewhere: there, a host has moved only when its addresses have changed.
#[cfg(not(target_os = "linux"))]
pub(super) fn ask() -> Ways {
    Ways::default()
}

#[cfg(target_os = "linux")]
pub(super) use linux::ask;

#[cfg(target_os = "linux")]
mod linux {
    use std::{
        io,
        net::{IpAddr, Ipv4Addr, Ipv6Addr},
    };

    use rustix::net::{
        AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, recv, send, socket_with,
    };

    use super::Ways;

    /// Addresses of documentation: nobody's, so that only the default route leads there. Nothing is sent to them.
    const FAR: [IpAddr; 2] = [
        IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1)),
        IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1)),
    ];

    // linux/netlink.h, linux/rtnetlink.h: the header of a message, that of a route behind it, and kinds of messages and attributes.
    const HEADER: usize = 16;
    const ROUTE_HEADER: usize = 12;
    const RTM_NEWROUTE: u16 = 24;
    const RTM_GETROUTE: u16 = 26;
    const NLM_F_REQUEST: u16 = 1;
    const RTA_DST: u16 = 1;
    const RTA_OIF: u16 = 4;
    const RTA_GATEWAY: u16 = 5;
    const RTA_PREFSRC: u16 = 7;
    const RTA_VIA: u16 = 18;

    /// An answer has some 120 bytes.
    const ANSWER_MAX: usize = 1024;

    /// Asks the kernel, which answers before it returns from the call that asks it.
    pub(in crate::surroundings::roaming) fn ask() -> Ways {
        // That no route leads there is an answer: an error in a message.
        FAR.map(|far| answer(far).ok().map(|answer| way_of(&answer).unwrap_or_default()))
    }

    fn answer(far: IpAddr) -> io::Result<Vec<u8>> {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let socket = socket_with(AddressFamily::NETLINK, SocketType::RAW, flags, None)?;
        send(&socket, &question(far), SendFlags::empty())?;
        let mut answer = vec![0; ANSWER_MAX];
        let (len, _) = recv(&socket, &mut answer[..], RecvFlags::DONTWAIT)?;
        answer.truncate(len);
        Ok(answer)
    }

    pub(super) fn question(far: IpAddr) -> Vec<u8> {
        let (family, octets) = match far {
            IpAddr::V4(ip) => (AddressFamily::INET, ip.octets().to_vec()),
            IpAddr::V6(ip) => (AddressFamily::INET6, ip.octets().to_vec()),
        };
        let attribute = 4 + octets.len();
        let len = HEADER + ROUTE_HEADER + attribute;
        let mut question = Vec::with_capacity(len);
        question.extend((len as u32).to_ne_bytes());
        question.extend(RTM_GETROUTE.to_ne_bytes());
        question.extend(NLM_F_REQUEST.to_ne_bytes());
        // Sequence number and sender, which the kernel doesn't need.
        question.extend([0; 8]);
        question.extend([family.as_raw() as u8, (octets.len() * 8) as u8]);
        question.extend([0; ROUTE_HEADER - 2]);
        question.extend((attribute as u16).to_ne_bytes());
        question.extend(RTA_DST.to_ne_bytes());
        question.extend(octets);
        question
    }

    /// Those attributes of a route that say where it leads; others, such as its age, change all the time.
    pub(super) fn way_of(message: &[u8]) -> Option<Vec<u8>> {
        if u16_at(message, 4)? != RTM_NEWROUTE {
            return None;
        }
        let mut rest = message.get(HEADER + ROUTE_HEADER..)?;
        let mut way = Vec::new();
        while let Some(len) = u16_at(rest, 0) {
            let attribute = rest.get(..len.into()).filter(|attribute| attribute.len() >= 4)?;
            if [RTA_OIF, RTA_GATEWAY, RTA_PREFSRC, RTA_VIA].contains(&u16_at(attribute, 2)?) {
                way.extend(attribute);
            }
            rest = rest.get(attribute.len().next_multiple_of(4)..).unwrap_or_default();
        }
        Some(way)
    }

    fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
        Some(u16::from_ne_bytes(bytes.get(at..at + 2)?.try_into().ok()?))
    }
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::linux::{ask, question, way_of};
    use std::net::IpAddr;

    /// As a question has it, with another type.
    fn route(attributes: &[(u16, &[u8])]) -> Vec<u8> {
        let mut message = question(IpAddr::from([192, 0, 2, 1]));
        message.truncate(28);
        message[4..6].copy_from_slice(&24u16.to_ne_bytes());
        for (kind, value) in attributes {
            message.extend((4 + value.len() as u16).to_ne_bytes());
            message.extend(kind.to_ne_bytes());
            message.extend(*value);
            message.resize(message.len().next_multiple_of(4), 0);
        }
        message
    }

    #[test]
    fn a_way_is_another_by_interface_gateway_and_source_alone() {
        let way = |oif: u8, gateway: u8, age: u8| {
            way_of(&route(&[(4, &[oif, 0, 0, 0]), (12, &[age; 7]), (5, &[10, 0, 0, gateway])]))
        };
        assert!(way(2, 1, 0).is_some());
        assert_eq!(way(2, 1, 0), way(2, 1, 9));
        assert_ne!(way(2, 1, 0), way(3, 1, 0));
        assert_ne!(way(2, 1, 0), way(2, 2, 0));
    }

    #[test]
    fn an_answer_that_is_none_or_cut_short_is_no_way() {
        let whole = route(&[(4, &[2, 0, 0, 0])]);
        for len in 0..whole.len() {
            let way = way_of(&whole[..len]);
            assert!(way.is_none_or(|way| way.is_empty()), "{len} bytes");
        }
        assert_eq!(way_of(&question(IpAddr::from([192, 0, 2, 1]))), None);
        // Lengths that can't be.
        for len in [0u16, 1, 3, 9, u16::MAX] {
            let mut message = whole.clone();
            message[28..30].copy_from_slice(&len.to_ne_bytes());
            assert_eq!(way_of(&message), None, "{len}");
        }
    }

    #[test]
    fn the_system_says_the_same_when_asked_twice() {
        assert_eq!(ask(), ask());
    }
}
