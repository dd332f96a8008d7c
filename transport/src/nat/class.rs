//! The class of a NAT, and its four bytes on the wire.

use std::fmt;

/// Length of an encoded class.
pub const CLASS_BYTES: usize = 4;

const VERSION: u8 = 1;

/// How outside addresses depend on the destination (RFC 4787, section 4.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Mapping {
    /// Too few observations, or contradictory ones: punch optimistically.
    #[default]
    Unknown,
    /// The outside address is the socket's own.
    None,
    /// One outside address for all destinations.
    EndpointIndependent,
    /// Another one for each destination address, at least.
    AddressDependent,
    /// Another one for each destination address and port.
    AddressAndPortDependent,
}

/// How a NAT picks outside ports.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Ports {
    /// Too few mappings seen.
    #[default]
    Unknown,
    /// The inside port, where it is free.
    Preserving,
    /// The last port plus this; never 0.
    Sequential(i8),
    /// Within a narrow range.
    Block,
    /// Anywhere.
    Random,
}

/// Whether strangers' datagrams arrive.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Reachability {
    /// Nobody has tried.
    #[default]
    Unknown,
    /// One did.
    Reachable,
    /// None did.
    Filtered,
}

/// What is known of a host's NAT.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct NatClass {
    /// How outside addresses depend on the destination.
    pub mapping: Mapping,
    /// How outside ports are picked.
    pub ports: Ports,
    /// Whether strangers' datagrams arrive.
    pub reachability: Reachability,
    /// A carrier translates too.
    pub carrier_grade: bool,
}

impl fmt::Display for NatClass {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.mapping {
            Mapping::Unknown => "unknown",
            Mapping::None => "none",
            Mapping::EndpointIndependent => "endpoint-independent",
            Mapping::AddressDependent => "symmetric (address-dependent)",
            Mapping::AddressAndPortDependent => "symmetric (address- and port-dependent)",
        })?;
        match self.ports {
            Ports::Unknown | Ports::Preserving => {}
            Ports::Sequential(delta) => write!(f, ", ports {delta} apart")?,
            Ports::Block => f.write_str(", ports of one block")?,
            Ports::Random => f.write_str(", random ports")?,
        }
        if self.carrier_grade {
            f.write_str(", behind a carrier's")?;
        }
        match self.reachability {
            Reachability::Unknown => Ok(()),
            Reachability::Reachable => f.write_str(", open to strangers"),
            Reachability::Filtered => f.write_str(", closed to strangers"),
        }
    }
}

/// Why bytes aren't a class.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ClassError {
    /// Not four bytes.
    #[error("a NAT class has {CLASS_BYTES} bytes, not {0}")]
    Length(usize),
    /// Of another version.
    #[error("NAT class of unknown version {0}")]
    Version(u8),
    /// A value without a meaning.
    #[error("a field of the NAT class has no meaning")]
    Value,
}

impl NatClass {
    /// Whether it gives different destinations different outside ports, so that none can be told to a peer.
    pub fn is_symmetric(&self) -> bool {
        matches!(self.mapping, Mapping::AddressDependent | Mapping::AddressAndPortDependent)
    }

    /// The bytes that travel in introductions.
    pub fn encode(self) -> [u8; CLASS_BYTES] {
        let (ports, delta) = match self.ports {
            Ports::Unknown => (0, 0),
            Ports::Preserving => (1, 0),
            Ports::Sequential(delta) => (2, delta),
            Ports::Block => (3, 0),
            Ports::Random => (4, 0),
        };
        let mapping = self.mapping as u8;
        let reachability = self.reachability as u8;
        let carrier = u8::from(self.carrier_grade);
        [VERSION, mapping | reachability << 4 | carrier << 7, ports, delta.cast_unsigned()]
    }

    /// Reads what [`encode`](Self::encode) wrote, and nothing else.
    pub fn decode(bytes: &[u8]) -> Result<Self, ClassError> {
        let &[version, kinds, ports, delta] = bytes else {
            return Err(ClassError::Length(bytes.len()));
        };
        if version != VERSION {
            return Err(ClassError::Version(version));
        }
        let mapping = match kinds & 0x0f {
            0 => Mapping::Unknown,
            1 => Mapping::None,
            2 => Mapping::EndpointIndependent,
            3 => Mapping::AddressDependent,
            4 => Mapping::AddressAndPortDependent,
            _ => return Err(ClassError::Value),
        };
        let reachability = match kinds >> 4 & 0x07 {
            0 => Reachability::Unknown,
            1 => Reachability::Reachable,
            2 => Reachability::Filtered,
            _ => return Err(ClassError::Value),
        };
        let ports = match (ports, delta.cast_signed()) {
            (0, 0) => Ports::Unknown,
            (1, 0) => Ports::Preserving,
            (2, delta) if delta != 0 => Ports::Sequential(delta),
            (3, 0) => Ports::Block,
            (4, 0) => Ports::Random,
            _ => return Err(ClassError::Value),
        };
        Ok(Self { mapping, ports, reachability, carrier_grade: kinds & 0x80 != 0 })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_class_has_exactly_one_encoding() {
        let mut accepted = 0;
        for kinds in 0..=255 {
            for ports in 0..=255 {
                for delta in 0..=255 {
                    let bytes = [VERSION, kinds, ports, delta];
                    if let Ok(class) = NatClass::decode(&bytes) {
                        assert_eq!(class.encode(), bytes);
                        accepted += 1;
                    }
                }
            }
        }
        assert_eq!(accepted, 5 * 3 * 2 * (4 + 255));
    }

    #[test]
    fn other_lengths_and_versions_are_refused() {
        let bytes = NatClass::default().encode();
        assert_eq!(NatClass::decode(&bytes[..3]), Err(ClassError::Length(3)));
        assert_eq!(NatClass::decode(&[1, 0, 0, 0, 0]), Err(ClassError::Length(5)));
        assert_eq!(NatClass::decode(&[2, 0, 0, 0]), Err(ClassError::Version(2)));
    }
}
