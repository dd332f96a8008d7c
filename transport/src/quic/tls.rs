//! TLS 1.3 with raw public keys (RFC 7250) on both sides, and the keys of the QUIC endpoint.
//!
//! docs/architecture.md: the TLS ServerName is the text of the PeerId that is dialled, one shared
//! verifier reads it, SNI is never sent, and [`peer_of`] is asked after *every* handshake. Tickets are
//! neither issued nor kept: with raw keys a full handshake costs one signature, and a resumed server
//! would not be verified again.

use std::sync::Arc;

use quinn::crypto::rustls::{QuicClientConfig, QuicServerConfig};
use rustls::{
    DigitallySignedStruct, DistinguishedName, SignatureScheme,
    client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    crypto::{CryptoProvider, WebPkiSupportedAlgorithms, verify_tls13_signature_with_raw_key},
    pki_types::{
        CertificateDer, PrivatePkcs8KeyDer, ServerName, SubjectPublicKeyInfoDer, UnixTime,
    },
    server::danger::{ClientCertVerified, ClientCertVerifier},
    sign::CertifiedKey,
};

use crate::identity::{PeerId, SecretKey};

/// The application protocol that both sides must name.
pub const ALPN: &[u8] = b"webmesh/1";

/// The name under which a peer whose key isn't known is dialled; `.invalid` is reserved by RFC 2606.
const ANY_PEER: &str = "any.invalid";

/// Starts the reason of a refused server key; the text of the key follows.
const WRONG_PEER: &str = "the peer that answered is ";

/// The DER of an Ed25519 SubjectPublicKeyInfo up to the 32 bytes of the key (RFC 8410).
const SPKI_PREFIX: [u8; 12] =
    [0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00];

/// The TLS halves of an endpoint, made once and shared by all of its connections.
pub(crate) struct Tls {
    pub(crate) server: Arc<QuicServerConfig>,
    /// For dials to a known key.
    pub(crate) named: Arc<QuicClientConfig>,
    /// For dials to an address alone: whoever answers is accepted, and must be asked for by [`peer_of`].
    pub(crate) anyone: Arc<QuicClientConfig>,
}

/// The TLS library refused our own key or settings; must not happen.
#[derive(Debug, thiserror::Error)]
#[error("TLS cannot be set up: {0}")]
pub struct TlsError(String);

impl Tls {
    pub(crate) fn new(secret: &SecretKey) -> Result<Self, TlsError> {
        let fault = |e: &dyn std::fmt::Display| TlsError(e.to_string());
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let key = certified_key(secret).map_err(|e| fault(&e))?;
        let tls13 = &[&rustls::version::TLS13];

        let resolver = rustls::server::AlwaysResolvesServerRawPublicKeys::new(key.clone());
        let mut server = rustls::ServerConfig::builder_with_provider(provider.clone())
            .with_protocol_versions(tls13)
            .map_err(|e| fault(&e))?
            .with_client_cert_verifier(Arc::new(Verifier::new(&provider, false)))
            .with_cert_resolver(Arc::new(resolver));
        server.alpn_protocols = vec![ALPN.to_vec()];
        server.send_tls13_tickets = 0;
        server.session_storage = Arc::new(rustls::server::NoServerSessionStorage {});

        let client = |named: bool| {
            let resolver = rustls::client::AlwaysResolvesClientRawPublicKeys::new(key.clone());
            let mut client = rustls::ClientConfig::builder_with_provider(provider.clone())
                .with_protocol_versions(tls13)
                .map_err(|e| fault(&e))?
                .dangerous()
                .with_custom_certificate_verifier(Arc::new(Verifier::new(&provider, named)))
                .with_client_cert_resolver(Arc::new(resolver));
            client.alpn_protocols = vec![ALPN.to_vec()];
            client.enable_sni = false;
            client.resumption = rustls::client::Resumption::disabled();
            QuicClientConfig::try_from(client).map(Arc::new).map_err(|e| fault(&e))
        };
        Ok(Self {
            named: client(true)?,
            anyone: client(false)?,
            server: Arc::new(QuicServerConfig::try_from(server).map_err(|e| fault(&e))?),
        })
    }
}

/// The TLS halves of tunnels. Neither side need say who it is: QUIC inside does.
pub(crate) struct TunnelTls {
    pub(crate) server: Arc<rustls::ServerConfig>,
    pub(crate) client: Arc<rustls::ClientConfig>,
}

/// The application protocol of tunnels.
const TUNNEL_ALPN: &[u8] = b"webmesh-tunnel/1";

impl TunnelTls {
    pub(crate) fn new(secret: &SecretKey) -> Result<Self, TlsError> {
        let fault = |e: &dyn std::fmt::Display| TlsError(e.to_string());
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let key = certified_key(secret).map_err(|e| fault(&e))?;
        let tls13 = &[&rustls::version::TLS13];
        let resolver = rustls::server::AlwaysResolvesServerRawPublicKeys::new(key);
        let mut server = rustls::ServerConfig::builder_with_provider(provider.clone())
            .with_protocol_versions(tls13)
            .map_err(|e| fault(&e))?
            .with_no_client_auth()
            .with_cert_resolver(Arc::new(resolver));
        server.alpn_protocols = vec![TUNNEL_ALPN.to_vec()];
        server.send_tls13_tickets = 0;
        let mut client = rustls::ClientConfig::builder_with_provider(provider.clone())
            .with_protocol_versions(tls13)
            .map_err(|e| fault(&e))?
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(Verifier::new(&provider, false)))
            .with_no_client_auth();
        client.alpn_protocols = vec![TUNNEL_ALPN.to_vec()];
        client.enable_sni = false;
        client.resumption = rustls::client::Resumption::disabled();
        Ok(Self { server: Arc::new(server), client: Arc::new(client) })
    }
}

/// The server name by which `peer` (or, without one, anyone) is dialled.
pub(crate) fn server_name(peer: Option<PeerId>) -> String {
    peer.map_or_else(|| ANY_PEER.to_owned(), |peer| peer.to_string())
}

/// The key that the other side of a finished handshake proved to hold.
pub(crate) fn peer_of(connection: &quinn::Connection) -> Option<PeerId> {
    let identity = connection.peer_identity()?.downcast::<Vec<CertificateDer<'static>>>().ok()?;
    match identity.as_slice() {
        [key] => peer_of_spki(key),
        _ => None,
    }
}

/// The key that answered in place of the dialled one, if that is why a handshake failed here.
pub(crate) fn wrong_peer(error: &quinn::ConnectionError) -> Option<PeerId> {
    // The reason of a TransportError (unlike that of a ConnectionClosed) was written on this side.
    let quinn::ConnectionError::TransportError(error) = error else { return None };
    let (_, text) = error.reason.split_once(WRONG_PEER)?;
    text.parse().ok()
}

fn peer_of_spki(spki: &[u8]) -> Option<PeerId> {
    let key = spki.strip_prefix(&SPKI_PREFIX)?;
    PeerId::from_bytes(key.try_into().ok()?).ok()
}

fn certified_key(secret: &SecretKey) -> Result<Arc<CertifiedKey>, rustls::Error> {
    let der = PrivatePkcs8KeyDer::from(secret.pkcs8_der().to_vec());
    let key = rustls::crypto::ring::sign::any_eddsa_type(&der)?;
    let spki = [&SPKI_PREFIX[..], secret.peer_id().as_bytes()].concat();
    Ok(Arc::new(CertifiedKey::new(vec![CertificateDer::from(spki)], key)))
}

/// Checks the key of the other side, and that it signed this handshake.
#[derive(Debug)]
struct Verifier {
    algorithms: WebPkiSupportedAlgorithms,
    /// Whether the server must be the peer named by the ServerName.
    named: bool,
}

impl Verifier {
    fn new(provider: &CryptoProvider, named: bool) -> Self {
        Self { algorithms: provider.signature_verification_algorithms, named }
    }

    fn signed(
        &self,
        message: &[u8],
        spki: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let key = SubjectPublicKeyInfoDer::from(spki.as_ref());
        verify_tls13_signature_with_raw_key(message, &key, signature, &self.algorithms)
    }
}

fn peer_in(spki: &CertificateDer<'_>) -> Result<PeerId, rustls::Error> {
    peer_of_spki(spki)
        .ok_or(rustls::Error::InvalidCertificate(rustls::CertificateError::BadEncoding))
}

fn tls12_refused() -> rustls::Error {
    rustls::Error::General("TLS 1.2 is never spoken here".into())
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let found = peer_in(end_entity)?.to_string();
        if self.named && server_name.to_str() != found.as_str() {
            return Err(rustls::Error::General(format!("{WRONG_PEER}{found}")));
        }
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _cert: &CertificateDer<'_>,
        _dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Err(tls12_refused())
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.signed(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        vec![SignatureScheme::ED25519]
    }

    fn requires_raw_public_keys(&self) -> bool {
        true
    }
}

impl ClientCertVerifier for Verifier {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _now: UnixTime,
    ) -> Result<ClientCertVerified, rustls::Error> {
        peer_in(end_entity).map(|_| ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _cert: &CertificateDer<'_>,
        _dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Err(tls12_refused())
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.signed(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        vec![SignatureScheme::ED25519]
    }

    fn requires_raw_public_keys(&self) -> bool {
        true
    }
}
