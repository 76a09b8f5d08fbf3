//! The strict client over TLS: how a connection is made, and HTTP/1.1 on it. Sessions are resumed where the server lets
//! it, as every client does.

use crate::strict::Book;
use crate::strict_h2::Io;
use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http1::{self, SendRequest};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, HandshakeKind, RootCertStore};
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;

/// How the edge is reached. Cheap to clone; clones share sessions.
#[derive(Debug, Clone)]
pub struct Way {
    edge: SocketAddr,
    tls: Option<Tls>,
}

#[derive(Debug, Clone)]
struct Tls {
    host: String,
    /// One a protocol, because a connection speaks one.
    configs: [Arc<ClientConfig>; 2],
    shaken: Arc<Shaken>,
}

/// Handshakes, by their kind.
#[derive(Debug, Default)]
struct Shaken {
    full: AtomicU64,
    resumed: AtomicU64,
}

pub trait Stream: AsyncRead + AsyncWrite + Unpin {}
impl<T: AsyncRead + AsyncWrite + Unpin> Stream for T {}

impl Way {
    pub fn plain(edge: SocketAddr) -> Way {
        Way { edge, tls: None }
    }

    /// To this host, believing the certificates in this file alone.
    pub fn tls(edge: SocketAddr, host: &str, root: &Path) -> Way {
        let mut roots = RootCertStore::empty();
        for root in CertificateDer::pem_file_iter(root).expect("a file of roots") {
            roots.add(root.expect("a certificate")).expect("a root");
        }
        let config = |protocol: &[u8]| {
            let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
            let mut config = ClientConfig::builder_with_provider(provider)
                .with_safe_default_protocol_versions()
                .expect("versions")
                .with_root_certificates(roots.clone())
                .with_no_client_auth();
            config.alpn_protocols = vec![protocol.to_vec()];
            Arc::new(config)
        };
        let configs = [config(b"http/1.1"), config(b"h2")];
        Way { edge, tls: Some(Tls { host: host.to_owned(), configs, shaken: Arc::default() }) }
    }

    /// Full handshakes, and resumed ones, so far.
    pub fn handshakes(&self) -> (u64, u64) {
        let shaken = self.tls.as_ref().map(|tls| &tls.shaken);
        let count = |count: &AtomicU64| count.load(Ordering::SeqCst);
        shaken.map_or((0, 0), |shaken| (count(&shaken.full), count(&shaken.resumed)))
    }

    /// `https://host:port`
    pub fn base(&self) -> String {
        match &self.tls {
            None => format!("http://{}", self.edge),
            Some(tls) => format!("https://{}:{}", tls.host, self.edge.port()),
        }
    }

    /// Connects once, to speak this protocol.
    pub async fn connect(&self, protocol: &[u8]) -> Result<Box<dyn Stream>, String> {
        let tcp = TcpStream::connect(self.edge).await.map_err(|e| e.to_string())?;
        tcp.set_nodelay(true).map_err(|e| e.to_string())?;
        let Some(tls) = &self.tls else { return Ok(Box::new(tcp)) };
        let name = ServerName::try_from(tls.host.clone()).map_err(|e| e.to_string())?;
        let config = tls.configs[usize::from(protocol == b"h2")].clone();
        let stream = tokio_rustls::TlsConnector::from(config).connect(name, tcp).await.map_err(|e| e.to_string())?;
        let connection = stream.get_ref().1;
        if connection.alpn_protocol() != Some(protocol) {
            return Err(format!("the edge chose {:?}", connection.alpn_protocol()));
        }
        let kind = match connection.handshake_kind() {
            Some(HandshakeKind::Resumed) => &tls.shaken.resumed,
            _ => &tls.shaken.full,
        };
        kind.fetch_add(1, Ordering::SeqCst);
        Ok(Box::new(stream))
    }
}

type Sender = SendRequest<Full<Bytes>>;

/// Runs until the book is stopped: so many connections, one request after another on each.
pub fn load(way: &Way, connections: usize, pace: Duration, book: &Arc<Book>) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let local = tokio::task::LocalSet::new();
    local.block_on(&runtime, async {
        let connections = (0..connections).map(|_| {
            let (way, book) = (way.clone(), book.clone());
            tokio::task::spawn_local(async move { connection(&way, pace, &book).await })
        });
        for connection in connections.collect::<Vec<_>>() {
            connection.await.expect("a connection's task panicked");
        }
    });
}

async fn connection(way: &Way, pace: Duration, book: &Book) {
    let mut paced = tokio::time::interval(pace);
    let mut open: Option<Sender> = None;
    while !book.stopped() {
        paced.tick().await;
        let mut sender = match open.take() {
            Some(sender) => sender,
            None => match over(way).await {
                Ok(sender) => sender,
                Err(what) => {
                    book.change(|tally| tally.refused.push(what));
                    continue;
                }
            },
        };
        // Ended while nothing was under way: the next request goes out on a new connection.
        if sender.ready().await.is_ok() && request(way, &mut sender, book).await {
            open = Some(sender);
        }
    }
}

async fn over(way: &Way) -> Result<Sender, String> {
    let stream = way.connect(b"http/1.1").await?;
    let (sender, driver) = http1::handshake(Io(stream)).await.map_err(|e| e.to_string())?;
    tokio::task::spawn_local(async move {
        let _ = driver.await;
    });
    Ok(sender)
}

/// Sends one request, files its end, says whether the connection may be used again.
async fn request(way: &Way, sender: &mut Sender, book: &Book) -> bool {
    let number = book.number();
    let (method, target, body) = book.mix.request(number);
    let host = way.base().split("//").nth(1).unwrap_or_default().to_owned();
    let request = http::Request::builder().method(method).uri(target).header("host", host);
    let request = request.body(Full::new(Bytes::from(body))).expect("a request");
    let response = match tokio::time::timeout(crate::BOUND, sender.send_request(request)).await {
        Ok(Ok(response)) => response,
        Ok(Err(e)) => {
            book.lost(number, method, format!("{e:?}"));
            return false;
        }
        Err(_) => {
            book.lost(number, method, "no answer within the bound".into());
            return false;
        }
    };
    let status = response.status().as_u16();
    let field = |name: &str| response.headers().get(name).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let (id, closes) = (field("mainstay-request-id").to_owned(), field("connection").contains("close"));
    match tokio::time::timeout(crate::BOUND, response.into_body().collect()).await {
        Ok(Ok(body)) => {
            book.whole(number, method, status, &id, &body.to_bytes());
            !closes
        }
        Ok(Err(_)) => {
            book.cut(number, method, &id);
            false
        }
        Err(_) => {
            book.lost(number, method, "no end within the bound".into());
            false
        }
    }
}
