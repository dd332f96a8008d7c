//! Routers that forward a port: small ones of the test's own, on loopback addresses.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;

use std::{
    net::{Ipv4Addr, SocketAddr, SocketAddrV4},
    sync::{Arc, Mutex},
    time::Duration,
};

use common::{Host, host_with};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, UdpSocket},
};
use webmesh_transport::nat::Router;

const OUTSIDE: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 9);
const PORT: u16 = 4711;

/// What a router was asked: lifetimes in seconds.
type Asked = Arc<Mutex<Vec<u32>>>;

fn number(bytes: &[u8]) -> u32 {
    bytes.iter().fold(0, |number, byte| number << 8 | u32::from(*byte))
}

/// Answers requests at the port of PCP and NAT-PMP; an answer of no bytes is none.
async fn router(at: Ipv4Addr, answer: impl Fn(&[u8], &Asked) -> Vec<u8> + Send + 'static) -> Asked {
    let socket = UdpSocket::bind((at, 5351)).await.unwrap();
    let asked = Asked::default();
    let said = asked.clone();
    tokio::spawn(async move {
        let mut room = [0; 1100];
        loop {
            let (count, from) = socket.recv_from(&mut room).await.unwrap();
            let answer = answer(&room[..count], &said);
            if !answer.is_empty() {
                socket.send_to(&answer, from).await.unwrap();
            }
        }
    });
    asked
}

/// RFC 6887, sections 7.2 and 11.1.
fn pcp(request: &[u8], asked: &Asked) -> Vec<u8> {
    assert_eq!(request[..2], [2, 1], "version 2, MAP");
    asked.lock().unwrap().push(number(&request[4..8]));
    let mut answer = [&[2, 0x81, 0, 0][..], &request[4..8], &[0, 0, 0, 1], &[0; 12]].concat();
    answer.extend(&request[24..42]);
    answer.extend(PORT.to_be_bytes());
    answer.extend(OUTSIDE.to_ipv6_mapped().octets());
    answer
}

/// RFC 6886, sections 3.2, 3.3 and 3.5.
fn nat_pmp(request: &[u8], asked: &Asked) -> Vec<u8> {
    match request[..2] {
        [0, 0] => [&[0, 128, 0, 0, 0, 0, 0, 1][..], &OUTSIDE.octets()].concat(),
        [0, 1] => {
            asked.lock().unwrap().push(number(&request[8..12]));
            let port = PORT.to_be_bytes();
            [&[0, 129, 0, 0, 0, 0, 0, 1], &request[4..6], &port, &request[8..12]].concat()
        }
        _ => vec![0, 128 | request[1], 0, 1, 0, 0, 0, 1],
    }
}

async fn asking(n: u8, router: Ipv4Addr) -> Host {
    host_with(n, |config| config.map_port = Some(Router::At(router))).await
}

/// Waits until the host's PeerRef names the router's port, and then for it to be given back.
async fn is_mapped_and_given_back(host: Host, asked: Asked) {
    let outside = SocketAddr::from((OUTSIDE, PORT));
    let named = async {
        while !host.endpoint.peer_ref().addresses().contains(&outside) {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), named).await.expect("no port is named");
    assert_eq!(host.endpoint.peer_ref().addresses()[0], outside, "the best one first");
    assert_eq!(host.endpoint.peer_ref().addresses().len(), 2, "and its own one");
    host.endpoint.close("done").await;
    assert_eq!(*asked.lock().unwrap(), [3600, 0]);
}

#[tokio::test]
async fn a_port_is_had_by_pcp_named_in_the_reference_and_given_back() {
    let at = Ipv4Addr::new(127, 7, 0, 1);
    let asked = router(at, pcp).await;
    is_mapped_and_given_back(asking(1, at).await, asked).await;
}

#[tokio::test]
async fn a_router_of_before_pcp_is_asked_by_nat_pmp() {
    let at = Ipv4Addr::new(127, 7, 0, 2);
    let asked = router(at, nat_pmp).await;
    is_mapped_and_given_back(asking(2, at).await, asked).await;
}

#[tokio::test]
async fn what_a_router_says_that_is_nonsense_or_private_is_not_named() {
    let nonsense = Ipv4Addr::new(127, 7, 0, 4);
    router(nonsense, |request, _| vec![0xff; request.len()]).await;
    let private = Ipv4Addr::new(127, 7, 0, 5);
    let asked = router(private, |request, asked| {
        let mut answer = pcp(request, asked);
        let at = answer.len() - 4;
        answer[at..].copy_from_slice(&[192, 168, 1, 1]);
        answer
    })
    .await;
    let hosts = [asking(3, nonsense).await, asking(4, private).await];
    let given_back = async {
        while asked.lock().unwrap().last() != Some(&0) {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), given_back).await.expect("it keeps the port");
    for host in hosts {
        assert_eq!(host.endpoint.peer_ref().addresses(), [host.address()]);
    }
}

/// A router that speaks UPnP alone: SSDP, a description, and SOAP.
async fn upnp(at: Ipv4Addr) -> Asked {
    let web = TcpListener::bind((at, 0)).await.unwrap();
    let location = format!("http://{}/root.xml", web.local_addr().unwrap());
    let ssdp = UdpSocket::bind(SocketAddrV4::new(at, 1900)).await.unwrap();
    tokio::spawn(async move {
        let mut room = [0; 2048];
        loop {
            let (_, from) = ssdp.recv_from(&mut room).await.unwrap();
            let answer = format!(
                "HTTP/1.1 200 OK\r\nST: urn:schemas-upnp-org:device:InternetGatewayDevice:1\r\nLOCATION: {location}\r\n\r\n"
            );
            ssdp.send_to(answer.as_bytes(), from).await.unwrap();
        }
    });
    let asked = Asked::default();
    let said = asked.clone();
    tokio::spawn(async move {
        loop {
            let (mut stream, _) = web.accept().await.unwrap();
            let mut request = Vec::new();
            let whole = |request: &[u8]| {
                let text = String::from_utf8_lossy(request).to_ascii_lowercase();
                let Some((head, body)) = text.split_once("\r\n\r\n") else { return false };
                let length = head.lines().find_map(|line| line.strip_prefix("content-length:"));
                body.len() >= length.map_or(0, |length| length.trim().parse().unwrap())
            };
            while !whole(&request) {
                assert_ne!(stream.read_buf(&mut request).await.unwrap(), 0);
            }
            let body = soap(&String::from_utf8(request).unwrap(), &said);
            let head = "HTTP/1.1 200 OK\r\nContent-Type: text/xml\r\nConnection: close\r\n";
            let answer = format!("{head}Content-Length: {}\r\n\r\n{body}", body.len());
            stream.write_all(answer.as_bytes()).await.unwrap();
        }
    });
    asked
}

const SERVICE: &str = "urn:schemas-upnp-org:service:WANIPConnection:1";

fn soap(request: &str, asked: &Asked) -> String {
    let answer = |action: &str, fields: &str| {
        format!(
            "<?xml version=\"1.0\"?><s:Envelope xmlns:s=\"http://schemas.xmlsoap.org/soap/envelope/\"><s:Body>\
             <u:{action}Response xmlns:u=\"{SERVICE}\">{fields}</u:{action}Response></s:Body></s:Envelope>"
        )
    };
    let action = |name: &str, arguments: &[&str]| {
        let argument = |name: &&str| {
            format!("<argument><name>{name}</name><direction>in</direction></argument>")
        };
        let arguments: String = arguments.iter().map(argument).collect();
        format!("<action><name>{name}</name><argumentList>{arguments}</argumentList></action>")
    };
    if request.starts_with("GET /root.xml") {
        return format!(
            "<?xml version=\"1.0\"?><root xmlns=\"urn:schemas-upnp-org:device-1-0\"><device>\
             <deviceType>urn:schemas-upnp-org:device:InternetGatewayDevice:1</deviceType><serviceList><service>\
             <serviceType>{SERVICE}</serviceType><controlURL>/control</controlURL><SCPDURL>/scpd.xml</SCPDURL>\
             </service></serviceList></device></root>"
        );
    }
    if request.starts_with("GET /scpd.xml") {
        let mapping = [
            "NewRemoteHost",
            "NewExternalPort",
            "NewProtocol",
            "NewInternalPort",
            "NewInternalClient",
            "NewEnabled",
            "NewPortMappingDescription",
            "NewLeaseDuration",
        ];
        let actions = [
            action("GetExternalIPAddress", &[]),
            action("AddAnyPortMapping", &mapping),
            action("DeletePortMapping", &mapping[..3]),
        ];
        return format!(
            "<?xml version=\"1.0\"?><scpd xmlns=\"urn:schemas-upnp-org:service-1-0\"><actionList>{}</actionList></scpd>",
            actions.concat()
        );
    }
    if request.contains("GetExternalIPAddress") {
        let ip = format!("<NewExternalIPAddress>{OUTSIDE}</NewExternalIPAddress>");
        return answer("GetExternalIPAddress", &ip);
    }
    if request.contains("AddAnyPortMapping") {
        let (_, lease) = request.split_once("<NewLeaseDuration>").unwrap();
        asked.lock().unwrap().push(lease.split('<').next().unwrap().parse().unwrap());
        let port = format!("<NewReservedPort>{PORT}</NewReservedPort>");
        return answer("AddAnyPortMapping", &port);
    }
    assert!(request.contains("DeletePortMapping") && request.contains(&PORT.to_string()));
    asked.lock().unwrap().push(0);
    answer("DeletePortMapping", "")
}

#[tokio::test]
async fn a_router_that_speaks_upnp_alone_is_asked_by_that() {
    let at = Ipv4Addr::new(127, 7, 0, 3);
    let asked = upnp(at).await;
    is_mapped_and_given_back(asking(5, at).await, asked).await;
}
