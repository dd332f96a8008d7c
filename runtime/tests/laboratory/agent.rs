//! The part of this binary that runs inside a namespace: it holds the namespace by living in it, and sends and receives
//! what the checks ask for, one line of standard input and one of standard output at a time. It ends when its input does.

use std::{
    collections::HashMap,
    io::{BufRead, Write},
    net::{SocketAddr, TcpListener, TcpStream, UdpSocket},
    time::Duration,
};

/// The first argument of a process that shall be an agent.
pub(crate) const ROLE: &str = "agent";

/// Serves requests until standard input ends.
pub(crate) fn run() -> Result<(), String> {
    let mut agent = Agent::default();
    println!("ready");
    for line in std::io::stdin().lock().lines() {
        let line = line.map_err(|error| error.to_string())?;
        let answer = agent.answer(&line).unwrap_or_else(|error| format!("error {error}"));
        let mut out = std::io::stdout().lock();
        writeln!(out, "{answer}").and_then(|()| out.flush()).map_err(|error| error.to_string())?;
    }
    Ok(())
}

#[derive(Default)]
struct Agent {
    sockets: HashMap<SocketAddr, UdpSocket>,
}

impl Agent {
    fn answer(&mut self, line: &str) -> Result<String, String> {
        let words: Vec<&str> = line.split(' ').collect();
        match words[..] {
            ["forward"] => forward().map(|()| "forwarding".into()),
            ["bind", local] => self.socket(local).map(|_| "bound".into()),
            ["send", local, remote, text] => {
                let remote: SocketAddr = parsed(remote)?;
                self.socket(local)?
                    .send_to(text.as_bytes(), remote)
                    .map(|_| "sent".into())
                    .map_err(|error| error.to_string())
            }
            ["short", local, remote, hops, text] => {
                let (hops, remote): (u32, SocketAddr) = (parsed(hops)?, parsed(remote)?);
                let socket = self.socket(local)?;
                let usual = socket.ttl().map_err(|error| error.to_string())?;
                socket
                    .set_ttl(hops)
                    .and_then(|()| socket.send_to(text.as_bytes(), remote))
                    .and_then(|_| socket.set_ttl(usual))
                    .map(|()| "sent".into())
                    .map_err(|error| error.to_string())
            }
            ["receive", local, within_ms] => self.receive(local, parsed(within_ms)?),
            ["listen", local] => listen(parsed(local)?),
            ["connect", remote, within_ms] => Ok(connect(parsed(remote)?, parsed(within_ms)?)),
            _ => Err(format!("no such request: {line}")),
        }
    }

    fn socket(&mut self, local: &str) -> Result<&UdpSocket, String> {
        let local: SocketAddr = parsed(local)?;
        match self.sockets.entry(local) {
            std::collections::hash_map::Entry::Occupied(entry) => Ok(entry.into_mut()),
            std::collections::hash_map::Entry::Vacant(entry) => UdpSocket::bind(local)
                .map(|socket| &*entry.insert(socket))
                .map_err(|error| format!("{local}: {error}")),
        }
    }

    fn receive(&mut self, local: &str, within_ms: u64) -> Result<String, String> {
        let socket = self.socket(local)?;
        socket
            .set_read_timeout(Some(Duration::from_millis(within_ms.max(1))))
            .map_err(|error| error.to_string())?;
        let mut text = [0; 2048];
        match socket.recv_from(&mut text) {
            Ok((len, from)) => Ok(format!("from {from} {}", String::from_utf8_lossy(&text[..len]))),
            // Nothing came, or an ICMP message said that an earlier datagram was not delivered.
            Err(_) => Ok("silence".into()),
        }
    }
}

/// Makes a router of this namespace.
fn forward() -> Result<(), String> {
    for (setting, value) in [
        ("ipv4/ip_forward", "1"),
        ("ipv6/conf/all/forwarding", "1"),
        ("ipv4/conf/all/rp_filter", "0"),
        ("ipv4/conf/default/rp_filter", "0"),
        // Who sends a packet back where it came from (hairpin) shall not advise a shorter way.
        ("ipv4/conf/all/send_redirects", "0"),
        ("ipv4/conf/default/send_redirects", "0"),
    ] {
        std::fs::write(format!("/proc/sys/net/{setting}"), value)
            .map_err(|error| format!("{setting}: {error}"))?;
    }
    // Where the module is loaded, what a host sends to another port of its own bridge is translated as if nothing were routed,
    // and a bridge that keeps its ports apart then drops it. The file isn't there without it.
    let _ = std::fs::write("/proc/sys/net/bridge/bridge-nf-call-iptables", "0");
    Ok(())
}

/// Accepts TCP connections and closes them again.
fn listen(local: SocketAddr) -> Result<String, String> {
    let listener = TcpListener::bind(local).map_err(|error| error.to_string())?;
    std::thread::spawn(move || listener.incoming().for_each(drop));
    Ok("listening".into())
}

fn connect(remote: SocketAddr, within_ms: u64) -> String {
    match TcpStream::connect_timeout(&remote, Duration::from_millis(within_ms.max(1))) {
        Ok(_) => "connected".into(),
        Err(_) => "silence".into(),
    }
}

fn parsed<T: std::str::FromStr<Err: std::fmt::Display>>(text: &str) -> Result<T, String> {
    text.parse().map_err(|error| format!("{text}: {error}"))
}
