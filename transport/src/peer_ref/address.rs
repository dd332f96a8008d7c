//! Which addresses a reference may name, and the class of reference that names nothing else.

use std::net::{IpAddr, SocketAddr};

use super::{ADDRESSES_MAX, ContentError};

/// Why no packet could ever be meant for an address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum AddressFault {
    /// Port 0 stands for "any port" and is nobody's.
    #[error("port 0 is no host's port")]
    PortZero,
    /// `0.0.0.0/8` or `::`, which stand for "this host" to whoever uses them.
    #[error("it is no host's address")]
    Unspecified,
    /// A group, or all hosts of a network.
    #[error("it stands for many hosts")]
    Multicast,
    /// `fe80::/10`, which means something on one link only, and to a host that knows which.
    #[error("a link-local IPv6 address means nothing away from its link")]
    LinkLocal,
    /// IPv4 written as IPv6 (`::ffff:a.b.c.d`), or an IPv6 address with a scope or a flow label: a second spelling.
    #[error("it must be written in its plain form")]
    Spelling,
}

/// Brings an address into the form in which references hold it: IPv4 for IPv4-mapped IPv6, no flow label, no scope.
/// Private and loopback addresses pass: both are of use within their networks.
///
/// # Errors
/// Says why the address can't be anyone's. Leave it out, or correct it.
pub fn check_address(address: SocketAddr) -> Result<SocketAddr, AddressFault> {
    let ip = address.ip().to_canonical();
    if address.port() == 0 {
        return Err(AddressFault::PortZero);
    }
    match ip {
        IpAddr::V4(v4) if v4.octets()[0] == 0 => return Err(AddressFault::Unspecified),
        IpAddr::V4(v4) if v4.is_broadcast() => return Err(AddressFault::Multicast),
        IpAddr::V6(v6) if v6.is_unspecified() => return Err(AddressFault::Unspecified),
        IpAddr::V6(v6) if v6.is_unicast_link_local() => return Err(AddressFault::LinkLocal),
        ip if ip.is_multicast() => return Err(AddressFault::Multicast),
        _ => {}
    }
    Ok(SocketAddr::new(ip, address.port()))
}

/// Checks each address, and that there are at most `limit` and none twice. Their order is kept: the preferred first.
pub(super) fn check_addresses(
    addresses: &[SocketAddr],
    limit: usize,
) -> Result<Vec<SocketAddr>, ContentError> {
    if addresses.len() > limit {
        return Err(ContentError::TooManyAddresses { limit });
    }
    let mut checked = Vec::with_capacity(addresses.len());
    for &address in addresses {
        let plain =
            check_address(address).map_err(|fault| ContentError::Address { address, fault })?;
        if checked.contains(&plain) {
            return Err(ContentError::DuplicateAddress { address: plain });
        }
        checked.push(plain);
    }
    Ok(checked)
}

/// One or more addresses, and nothing about who answers there.
///
/// For first contact, and for applications that want protection from passive listeners only: the connection is
/// encrypted, whoever answers is accepted, and the identity learnt is reported.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AddressRef(Vec<SocketAddr>);

impl AddressRef {
    /// Takes 1 to [`ADDRESSES_MAX`] addresses, the preferred one first.
    ///
    /// # Errors
    /// [`ContentError`] names the address at fault, or says that there are none or too many.
    pub fn new(addresses: impl AsRef<[SocketAddr]>) -> Result<Self, ContentError> {
        let checked = check_addresses(addresses.as_ref(), ADDRESSES_MAX)?;
        if checked.is_empty() {
            return Err(ContentError::NoAddress);
        }
        Ok(Self(checked))
    }

    /// The addresses, the preferred one first. Never empty.
    pub fn addresses(&self) -> &[SocketAddr] {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_that_are_nobodys_are_refused() {
        for (text, fault) in [
            ("192.0.2.1:0", AddressFault::PortZero),
            ("0.0.0.0:1", AddressFault::Unspecified),
            ("0.1.2.3:1", AddressFault::Unspecified),
            ("[::]:1", AddressFault::Unspecified),
            ("[::ffff:0.0.0.0]:1", AddressFault::Unspecified),
            ("224.0.0.1:1", AddressFault::Multicast),
            ("255.255.255.255:1", AddressFault::Multicast),
            ("[ff02::1]:1", AddressFault::Multicast),
            ("[::ffff:224.0.0.1]:1", AddressFault::Multicast),
            ("[fe80::1]:1", AddressFault::LinkLocal),
        ] {
            assert_eq!(check_address(text.parse().unwrap()), Err(fault), "{text}");
        }
        for text in ["127.0.0.1:1", "10.0.0.1:65535", "[::1]:1", "[fd00::1]:9", "169.254.1.1:1"] {
            let address = text.parse().unwrap();
            assert_eq!(check_address(address), Ok(address));
        }
    }

    #[test]
    fn spellings_of_one_address_are_one_address() {
        let mapped = "[::ffff:192.0.2.1]:7".parse().unwrap();
        assert_eq!(check_address(mapped), Ok("192.0.2.1:7".parse().unwrap()));
        let scoped = std::net::SocketAddrV6::new("2001:db8::1".parse().unwrap(), 7, 5, 3);
        assert_eq!(check_address(scoped.into()), Ok("[2001:db8::1]:7".parse().unwrap()));
        assert_eq!(
            AddressRef::new([mapped, "192.0.2.1:7".parse().unwrap()]),
            Err(ContentError::DuplicateAddress { address: "192.0.2.1:7".parse().unwrap() })
        );
    }

    #[test]
    fn an_address_ref_names_one_to_sixteen() {
        assert_eq!(AddressRef::new([]), Err(ContentError::NoAddress));
        let many: Vec<SocketAddr> = (1..=17).map(|port| ([192, 0, 2, 1], port).into()).collect();
        assert_eq!(AddressRef::new(&many), Err(ContentError::TooManyAddresses { limit: 16 }));
        assert_eq!(AddressRef::new(&many[..16]).unwrap().addresses(), &many[..16]);
    }
}
