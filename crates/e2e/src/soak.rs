//! The strict client as a load that goes on for as long as it is asked to: kept HTTP/1.1 connections, half of them over
//! TLS. What becomes of each request is `strict`'s to say; here is how a connection is made, kept, and seen to end.

use crate::strict::{Book, PACE, one_request};
use crate::wait::pause;
use crate::wire::Connection;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, aws_lc_rs, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, ClientConnection, DigitallySignedStruct, SignatureScheme, StreamOwned};
use std::io::{self, ErrorKind};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::sync::Arc;
use std::thread::JoinHandle;

/// Where the requests go.
#[derive(Debug, Clone)]
pub struct Target {
    pub plain: SocketAddr,
    pub tls: SocketAddr,
    config: Arc<ClientConfig>,
}

impl Target {
    /// `certificate` is the one the server has: no other is taken.
    pub fn new(plain: SocketAddr, tls: SocketAddr, certificate: &Path) -> Result<Target, String> {
        let certificate =
            CertificateDer::from_pem_file(certificate).map_err(|e| format!("{}: {e}", certificate.display()))?;
        let provider = Arc::new(aws_lc_rs::default_provider());
        let pinned = Arc::new(Pinned { certificate, provider: provider.clone() });
        let config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|e| e.to_string())?
            .dangerous()
            .with_custom_certificate_verifier(pinned)
            .with_no_client_auth();
        Ok(Target { plain, tls, config: Arc::new(config) })
    }
}

/// Believes one certificate, whatever it says of itself.
#[derive(Debug)]
struct Pinned {
    certificate: CertificateDer<'static>,
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for Pinned {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _name: &ServerName<'_>,
        _ocsp: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        if *end_entity == self.certificate {
            return Ok(ServerCertVerified::assertion());
        }
        Err(rustls::Error::General("another certificate than the one this client was given".into()))
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, certificate, signature, &self.provider.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, certificate, signature, &self.provider.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

/// A connected socket, in plain or behind a finished handshake.
#[derive(Debug)]
enum Wire {
    Plain(Connection),
    Tls(Box<Connection<StreamOwned<ClientConnection, TcpStream>>>),
}

impl Wire {
    /// Connects once: a refusal, or a handshake that is cut, is an error and never repeated.
    fn open(target: &Target, over_tls: bool) -> io::Result<Wire> {
        if !over_tls {
            return Connection::open(target.plain).map(Wire::Plain);
        }
        let mut stream = Connection::open(target.tls)?.stream;
        let name = ServerName::try_from("localhost").map_err(io::Error::other)?;
        let mut session = ClientConnection::new(target.config.clone(), name).map_err(io::Error::other)?;
        while session.is_handshaking() {
            session.complete_io(&mut stream)?;
        }
        Ok(Wire::Tls(Box::new(Connection::over(StreamOwned::new(session, stream)))))
    }

    /// Whether the other side has ended it, or sent what nobody asked for, while nothing was under way.
    fn ended_while_idle(&mut self) -> bool {
        match self {
            Wire::Plain(connection) => connection.ended_while_idle(),
            Wire::Tls(connection) => {
                let tls = &mut connection.stream;
                let _ = tls.sock.set_nonblocking(true);
                let ended = tls_ended(tls);
                let _ = tls.sock.set_nonblocking(false);
                ended
            }
        }
    }

    fn one_request(self, target: &Target, book: &Book) -> Option<Wire> {
        match self {
            Wire::Plain(connection) => one_request(connection, &target.plain.to_string(), book).map(Wire::Plain),
            Wire::Tls(connection) => {
                let host = format!("localhost:{}", target.tls.port());
                one_request(*connection, &host, book).map(|kept| Wire::Tls(Box::new(kept)))
            }
        }
    }
}

/// Session tickets come when they like and end nothing.
fn tls_ended(tls: &mut StreamOwned<ClientConnection, TcpStream>) -> bool {
    loop {
        match tls.conn.read_tls(&mut tls.sock) {
            Ok(0) => return true,
            Ok(_) => match tls.conn.process_new_packets() {
                Ok(state) if !state.peer_has_closed() && state.plaintext_bytes_to_read() == 0 => {}
                _ => return true,
            },
            Err(e) if e.kind() == ErrorKind::WouldBlock => return false,
            Err(e) if e.kind() == ErrorKind::Interrupted => {}
            Err(_) => return true,
        }
    }
}

/// Sends until the book is stopped: every second connection over TLS, each a thread of its own.
pub fn start(target: &Target, connections: usize, book: &Arc<Book>) -> Vec<JoinHandle<()>> {
    let threads = (0..connections).map(|number| {
        let (target, book) = (target.clone(), book.clone());
        std::thread::spawn(move || connection(&target, number % 2 == 1, &book))
    });
    threads.collect()
}

fn connection(target: &Target, over_tls: bool, book: &Book) {
    let mut open: Option<Wire> = None;
    while !book.stopped() {
        pause(PACE);
        // Ended while nothing was under way: no request was touched, the next one goes out on a new connection.
        if open.as_mut().is_some_and(Wire::ended_while_idle) {
            open = None;
        }
        let wire = match open.take().map_or_else(|| Wire::open(target, over_tls), Ok) {
            Ok(wire) => wire,
            Err(e) => {
                book.change(|tally| tally.refused.push(format!("{}{e}", if over_tls { "TLS: " } else { "" })));
                continue;
            }
        };
        open = wire.one_request(target, book);
    }
}
