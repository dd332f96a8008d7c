//! The system's notices that addresses, routes or interfaces have changed.

#[cfg(not(target_os = "linux"))]
pub(super) use elsewhere::Notices;
#[cfg(target_os = "linux")]
pub(super) use linux::Notices;

#[cfg(target_os = "linux")]
mod linux {
    use std::{io, os::unix::net::UnixDatagram as StdDatagram};

    use rustix::{
        io::Errno,
        net::{
            AddressFamily, RecvFlags, SocketFlags, SocketType, bind, netlink::SocketAddrNetlink,
            recv, socket_with, sockopt::set_socket_recv_buffer_size,
        },
    };
    use tokio::{io::Interest, net::UnixDatagram};

    /// Links, addresses and routes: `RTMGRP_…` of linux/rtnetlink.h. A link that goes down takes its IPv4 routes along without a word
    /// about them.
    const GROUPS: u32 = 0x1 | 0x10 | 0x40 | 0x100 | 0x400;

    /// So many are taken out at a time; the buffer has room for less, unless more come meanwhile.
    const TAKEN_MAX: usize = 64;

    /// A subscription. What the notices say isn't read, only that there are some.
    pub(in crate::surroundings::roaming) struct Notices {
        /// A netlink socket in the clothes of another kind of datagram socket, of which only the descriptor and its readiness are
        /// used: tokio has no safe way to wait for a bare descriptor.
        socket: UnixDatagram,
    }

    impl Notices {
        /// # Errors
        /// If the system doesn't give such a socket to this process.
        pub(in crate::surroundings::roaming) fn subscribe() -> io::Result<Self> {
            let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
            let socket = socket_with(AddressFamily::NETLINK, SocketType::RAW, flags, None)?;
            // The least there is: what finds no room is worth no more than what did.
            set_socket_recv_buffer_size(&socket, 0)?;
            bind(&socket, &SocketAddrNetlink::new(0, GROUPS))?;
            Ok(Self { socket: UnixDatagram::from_std(StdDatagram::from(socket))? })
        }

        /// Waits until there are some, and leaves them where they are. It may be dropped at any time.
        pub(in crate::surroundings::roaming) async fn some(&self) -> io::Result<()> {
            self.socket.readable().await
        }

        /// Takes out what has come, up to a bound. Whatever comes later, or was left, is told by [`Self::some`].
        pub(in crate::surroundings::roaming) async fn take(&self) -> io::Result<()> {
            self.socket.readable().await?;
            for _ in 0..TAKEN_MAX {
                let taken = self.socket.try_io(Interest::READABLE, || {
                    let mut start = [0; 1];
                    match recv(&self.socket, &mut start, RecvFlags::DONTWAIT) {
                        // Some found no room.
                        Ok(_) | Err(Errno::NOBUFS | Errno::INTR) => Ok(()),
                        Err(e) => Err(e.into()),
                    }
                });
                match taken {
                    Err(e) if e.kind() == io::ErrorKind::WouldBlock => break,
                    taken => taken?,
                }
            }
            Ok(())
        }
    }
}

#[cfg(not(target_os = "linux"))]
mod elsewhere {
    use std::io;

    /// There are none.
    pub(in crate::surroundings::roaming) enum Notices {}

    impl Notices {
        pub(in crate::surroundings::roaming) fn subscribe() -> io::Result<Self> {
            Err(io::ErrorKind::Unsupported.into())
        }

        pub(in crate::surroundings::roaming) async fn some(&self) -> io::Result<()> {
            match *self {}
        }

        pub(in crate::surroundings::roaming) async fn take(&self) -> io::Result<()> {
            match *self {}
        }
    }
}
