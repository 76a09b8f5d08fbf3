//! HTTP as an ACME client speaks it: one request a connection, bounded in time and size, TLS checked against this
//! machine's roots and the one the file names.

use super::failure::{Failure, chain};
use super::options::is_address;
use crate::date;
use crate::tls;
use bytes::Bytes;
use http::header::{HOST, RETRY_AFTER};
use http::{HeaderValue, Request, Response, Uri};
use http_body_util::{BodyExt, Full, Limited};
use hyper_util::rt::TokioIo;
use instant_acme::{BodyWrapper, BytesResponse, HttpClient};
use rustls::RootCertStore;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use std::future::Future;
use std::path::Path;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;

/// Longest wait for one answer.
const ANSWER_MAX: Duration = Duration::from_secs(30);
/// A chain of certificates is a few kilobytes.
const ANSWER_BYTES_MAX: usize = 1 << 20;

/// Until renewal information is asked for again where the authority does not say (RFC 9773 §4.3.2).
const UNTOLD_WAIT_S: u64 = 6 * 3600;

type Cause = Box<dyn std::error::Error + Send + Sync>;

/// Cheap to clone; all clones remember the last `Retry-After`.
#[derive(Debug, Clone)]
pub struct Http {
    tls: Arc<rustls::ClientConfig>,
    retry_after: Arc<Mutex<Option<Duration>>>,
}

/// The roots in a file, added to these.
pub fn add_roots(roots: &mut RootCertStore, path: &Path) -> Result<(), Failure> {
    let bad = |what: String| Failure::new(format!("edge.acme.ca {}: {what}", path.display()));
    let before = roots.len();
    for root in CertificateDer::pem_file_iter(path).map_err(|e| bad(e.to_string()))? {
        let root = root.map_err(|e| bad(e.to_string()))?;
        roots.add(root).map_err(|e| bad(e.to_string()))?;
    }
    if roots.len() == before { Err(bad("no certificate in it; give a PEM file".to_owned())) } else { Ok(()) }
}

impl Http {
    pub fn new(root: Option<&Path>) -> Result<Http, Failure> {
        let mut roots = RootCertStore::empty();
        // A root that cannot be read is one less; none at all is told below.
        roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        if let Some(path) = root {
            add_roots(&mut roots, path)?;
        }
        if roots.is_empty() {
            return Err(Failure::new("this machine has no root certificates; fix: apt-get install ca-certificates"));
        }
        let tls = tls::client(roots).map_err(|error| Failure::new(chain(&error)))?;
        Ok(Http { tls, retry_after: Arc::default() })
    }

    /// What the authority last said about when to come back, if it refused.
    pub fn retry_after(&self) -> Option<Duration> {
        *self.retry_after.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub async fn send(&self, request: Request<Full<Bytes>>) -> Result<Response<Bytes>, Cause> {
        let uri = request.uri().clone();
        let answer = tokio::time::timeout(ANSWER_MAX, self.exchange(request))
            .await
            .map_err(|_| format!("{} gave no answer within {} s", host(&uri), ANSWER_MAX.as_secs()))?
            .map_err(|error| format!("{}: {}", host(&uri), chain(&*error)))?;
        if answer.status().is_client_error() || answer.status().is_server_error() {
            let told = answer.headers().get(RETRY_AFTER).and_then(|value| wait(value, SystemTime::now()));
            *self.retry_after.lock().unwrap_or_else(PoisonError::into_inner) = told;
        }
        Ok(answer)
    }

    async fn exchange(&self, mut request: Request<Full<Bytes>>) -> Result<Response<Bytes>, Cause> {
        let uri = request.uri().clone();
        let host = uri.host().ok_or("an address without a host")?.trim_matches(['[', ']']).to_owned();
        let encrypted = uri.scheme_str() == Some("https");
        let port = uri.port_u16().unwrap_or(if encrypted { 443 } else { 80 });
        let authority = uri.authority().map_or("", |authority| authority.as_str());
        request.headers_mut().insert(HOST, HeaderValue::from_str(authority)?);
        *request.uri_mut() = uri.path_and_query().map_or("/", |path| path.as_str()).parse()?;
        let stream = TcpStream::connect((host.as_str(), port)).await?;
        if !encrypted {
            return over(stream, request).await;
        }
        let name = ServerName::try_from(host)?;
        let stream = tokio_rustls::TlsConnector::from(self.tls.clone()).connect(name, stream).await?;
        over(stream, request).await
    }
}

async fn over<S>(stream: S, request: Request<Full<Bytes>>) -> Result<Response<Bytes>, Cause>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    let exchange = async {
        let (parts, body) = sender.send_request(request).await?.into_parts();
        let body = Limited::new(body, ANSWER_BYTES_MAX).collect().await?.to_bytes();
        Ok(Response::from_parts(parts, body))
    };
    // The connection is worked on until the answer is there; its own end is told by the answer's.
    let connection = async {
        let _ = connection.await;
        std::future::pending::<()>().await;
    };
    tokio::select! {
        answer = exchange => answer,
        () = connection => Err("the connection ended".into()),
    }
}

impl HttpClient for Http {
    fn request(
        &self,
        request: Request<BodyWrapper<Bytes>>,
    ) -> Pin<Box<dyn Future<Output = Result<BytesResponse, instant_acme::Error>> + Send>> {
        let http = self.clone();
        Box::pin(async move {
            let (parts, body) = request.into_parts();
            // It holds one frame that is there already.
            let body = body.collect().await.map_or_else(|never| match never {}, |body| body.to_bytes());
            let (told, is_get) = (parts.uri.clone(), parts.method == http::Method::GET);
            // Every address but the first is the authority's word: none of them may leave TLS.
            if !is_address(&told.to_string()) {
                return Err(instant_acme::Error::Other(format!("{told} is not an https:// address").into()));
            }
            let answer = http.send(Request::from_parts(parts, Full::new(body))).await;
            let answer = answer.map_err(instant_acme::Error::Other)?;
            let kind = answer.headers().get(http::header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
            let is_json = kind.is_some_and(|kind| kind.contains("json"));
            if answer.status().as_u16() >= 400 && !is_json {
                return Err(instant_acme::Error::Other(format!("{} answered {}", host(&told), answer.status()).into()));
            }
            let (mut parts, body) = answer.into_parts();
            // The library takes no renewal information without it (RFC 9773 §4.3 does).
            if is_get && parts.status.is_success() {
                parts.headers.entry(RETRY_AFTER).or_insert(HeaderValue::from(UNTOLD_WAIT_S));
            }
            Ok(BytesResponse { parts, body: Box::new(body) })
        })
    }
}

/// Without who asks, which may be a secret.
fn host(uri: &Uri) -> &str {
    let authority = uri.authority().map_or("", |authority| authority.as_str());
    authority.rsplit_once('@').map_or(authority, |(_, host)| host)
}

/// `Retry-After` in seconds or as a date.
fn wait(value: &HeaderValue, now: SystemTime) -> Option<Duration> {
    let text = value.to_str().ok()?.trim();
    if let Ok(seconds) = text.parse::<u64>() {
        return Some(Duration::from_secs(seconds));
    }
    let at = SystemTime::UNIX_EPOCH + Duration::from_secs(date::read(text.as_bytes())?);
    at.duration_since(now).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wait_is_read_in_both_forms() {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(784_111_777);
        let read = |text: &'static str| wait(&HeaderValue::from_static(text), now);
        assert_eq!(read("120"), Some(Duration::from_secs(120)));
        assert_eq!(read("Sun, 06 Nov 1994 08:50:37 GMT"), Some(Duration::from_secs(60)));
        assert_eq!(read("Sun, 06 Nov 1994 08:49:36 GMT"), None);
        assert_eq!(read("soon"), None);
    }
}
