//! A QUIC client, or server, that holds a key but keeps none of the rules that Webmesh has above TLS.

use std::{net::SocketAddr, sync::Arc};

use ed25519_dalek::SigningKey;
use quinn::crypto::rustls::{QuicClientConfig, QuicServerConfig};
use rustls::{
    DigitallySignedStruct, DistinguishedName, SignatureScheme,
    client::{
        AlwaysResolvesClientRawPublicKeys,
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    },
    crypto::{WebPkiSupportedAlgorithms, ring, verify_tls13_signature_with_raw_key},
    pki_types::{
        CertificateDer, PrivatePkcs8KeyDer, ServerName, SubjectPublicKeyInfoDer, UnixTime,
    },
    server::{
        AlwaysResolvesServerRawPublicKeys,
        danger::{ClientCertVerified, ClientCertVerifier},
    },
    sign::CertifiedKey,
};
use webmesh_transport::ALPN;

/// What the attacker shows as its identity.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Shows {
    /// The raw key made of these bytes.
    Key(u8),
    /// Nothing.
    Nothing,
}

pub struct Attacker {
    endpoint: quinn::Endpoint,
    config: quinn::ClientConfig,
}

impl Attacker {
    /// One that shows a key and speaks Webmesh's ALPN.
    pub fn with_key(n: u8) -> Self {
        Self::new(Shows::Key(n), ALPN)
    }

    pub fn new(shows: Shows, alpn: &[u8]) -> Self {
        Self::with_socket(shows, alpn, std::net::UdpSocket::bind("127.0.0.1:0").unwrap())
    }

    /// The same, and its socket, from which other things can be sent.
    pub fn with_key_and_socket(n: u8) -> (Self, std::net::UdpSocket) {
        let socket = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
        let other = socket.try_clone().unwrap();
        (Self::with_socket(Shows::Key(n), ALPN, socket), other)
    }

    fn with_socket(shows: Shows, alpn: &[u8], socket: std::net::UdpSocket) -> Self {
        let config = client_config(shows, alpn);
        let mut quic = quinn::EndpointConfig::default();
        quic.grease_quic_bit(false);
        let runtime = Arc::new(quinn::TokioRuntime);
        let endpoint = quinn::Endpoint::new(quic, None, socket, runtime).unwrap();
        Self { endpoint, config }
    }

    /// Keeps less of what it sends: its memory is that of its victims, where they share a process.
    pub fn keeping_little(mut self) -> Self {
        let mut transport = quinn::TransportConfig::default();
        transport.send_window(256 << 10);
        self.config.transport_config(Arc::new(transport));
        self
    }

    /// Keeps its connections from being idle.
    pub fn that_stays(mut self) -> Self {
        let mut transport = quinn::TransportConfig::default();
        transport.keep_alive_interval(Some(std::time::Duration::from_secs(5)));
        self.config.transport_config(Arc::new(transport));
        self
    }

    /// A handshake with whoever is at `address`.
    pub async fn dial(
        &self,
        address: SocketAddr,
    ) -> Result<quinn::Connection, quinn::ConnectionError> {
        let connecting = self.endpoint.connect_with(self.config.clone(), address, "any.invalid");
        connecting.unwrap().await
    }
}

/// How one dials that shows this, and takes whoever answers.
pub fn client_config(shows: Shows, alpn: &[u8]) -> quinn::ClientConfig {
    let provider = Arc::new(ring::default_provider());
    let verifier = Arc::new(AcceptsAnyone(provider.signature_verification_algorithms));
    let builder = rustls::ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .dangerous()
        .with_custom_certificate_verifier(verifier);
    let mut tls = match shows {
        Shows::Key(n) => builder.with_client_cert_resolver(Arc::new(
            AlwaysResolvesClientRawPublicKeys::new(Arc::new(raw_key(n))),
        )),
        Shows::Nothing => builder.with_no_client_auth(),
    };
    tls.alpn_protocols = vec![alpn.to_vec()];
    tls.enable_sni = false;
    quinn::ClientConfig::new(Arc::new(QuicClientConfig::try_from(tls).unwrap()))
}

/// A server with the raw key made of these bytes, which takes whoever shows one.
pub fn server(n: u8) -> quinn::Endpoint {
    let socket = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    server_with(n, socket, quinn::TransportConfig::default())
}

/// The same at this socket.
pub fn server_with(
    n: u8,
    socket: std::net::UdpSocket,
    transport: quinn::TransportConfig,
) -> quinn::Endpoint {
    let config = server_config(n, transport);
    let mut quic = quinn::EndpointConfig::default();
    quic.grease_quic_bit(false);
    quinn::Endpoint::new(quic, Some(config), socket, Arc::new(quinn::TokioRuntime)).unwrap()
}

/// How one accepts that shows the raw key made of these bytes, and takes whoever shows one.
pub fn server_config(n: u8, transport: quinn::TransportConfig) -> quinn::ServerConfig {
    let provider = Arc::new(ring::default_provider());
    let verifier = Arc::new(AcceptsAnyone(provider.signature_verification_algorithms));
    let mut tls = rustls::ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .with_client_cert_verifier(verifier)
        .with_cert_resolver(Arc::new(AlwaysResolvesServerRawPublicKeys::new(Arc::new(raw_key(n)))));
    tls.alpn_protocols = vec![ALPN.to_vec()];
    let tls = Arc::new(QuicServerConfig::try_from(tls).unwrap());
    let mut config = quinn::ServerConfig::with_crypto(tls);
    config.transport_config(Arc::new(transport));
    config
}

fn raw_key(n: u8) -> CertifiedKey {
    let key = SigningKey::from_bytes(&[n; 32]);
    // PKCS #8 and SubjectPublicKeyInfo of RFC 8410, up to the key itself.
    let prefix = [
        0x30, 0x2e, 0x02, 0x01, 0x00, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x04, 0x22, 0x04,
        0x20,
    ];
    let der = PrivatePkcs8KeyDer::from([&prefix[..], &[n; 32]].concat());
    let prefix = [0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00];
    let spki = [&prefix[..], key.verifying_key().as_bytes()].concat();
    let signer = ring::sign::any_eddsa_type(&der).unwrap();
    CertifiedKey::new(vec![CertificateDer::from(spki)], signer)
}

#[derive(Debug)]
struct AcceptsAnyone(WebPkiSupportedAlgorithms);

impl ServerCertVerifier for AcceptsAnyone {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Err(rustls::Error::General("no TLS 1.2".into()))
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let key = SubjectPublicKeyInfoDer::from(cert.as_ref());
        verify_tls13_signature_with_raw_key(message, &key, signature, &self.0)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        vec![SignatureScheme::ED25519]
    }

    fn requires_raw_public_keys(&self) -> bool {
        true
    }
}

impl ClientCertVerifier for AcceptsAnyone {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: UnixTime,
    ) -> Result<ClientCertVerified, rustls::Error> {
        Ok(ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Err(rustls::Error::General("no TLS 1.2".into()))
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        ServerCertVerifier::verify_tls13_signature(self, message, cert, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        vec![SignatureScheme::ED25519]
    }

    fn requires_raw_public_keys(&self) -> bool {
        true
    }
}
