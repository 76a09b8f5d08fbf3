//! Fetches what each instance shows about itself, for `/health/metrics` (S17).
//!
//! Must never delay a scrape by more than its limit: an instance that does not answer is left out.

use bytes::Bytes;
use http_body_util::{BodyExt, Empty, Limited};
use hyper::{Request, header};
use hyper_util::rt::TokioIo;
use mainstay_watch::nodejs::{self, Shown};
use std::net::SocketAddr;
use std::time::Duration;
use tokio::net::TcpStream;

/// An instance that needs longer is too busy to be asked.
const LIMIT: Duration = Duration::from_millis(500);
/// Where apps show metrics, in the order they are tried.
const PATHS: [&str; 2] = ["/metrics", "/health/metrics"];

/// Asks every address at once; together they take no longer than one. In the order asked.
pub async fn shown(addresses: Vec<Option<SocketAddr>>) -> Vec<Option<Shown>> {
    let asked: Vec<_> = addresses.into_iter().map(|address| tokio::task::spawn_local(one(address))).collect();
    let mut answers = Vec::with_capacity(asked.len());
    for answer in asked {
        answers.push(answer.await.unwrap_or_default());
    }
    answers
}

async fn one(address: Option<SocketAddr>) -> Option<Shown> {
    let address = address?;
    let pages = async {
        for path in PATHS {
            if let Some(page) = fetch(address, path).await {
                return Some(nodejs::read(&page));
            }
        }
        None
    };
    tokio::time::timeout(LIMIT, pages).await.unwrap_or_default()
}

async fn fetch(address: SocketAddr, path: &str) -> Option<Bytes> {
    let stream = TcpStream::connect(address).await.ok()?;
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.ok()?;
    let connection = tokio::task::spawn_local(connection);
    let request = Request::get(path)
        .header(header::HOST, address.to_string())
        .header(header::USER_AGENT, "mainstay-scrape")
        .body(Empty::<Bytes>::new())
        .ok()?;
    let response = sender.send_request(request).await.ok()?;
    let page = match response.status().as_u16() {
        200 => Limited::new(response.into_body(), nodejs::SCRAPE_BYTES_MAX).collect().await.ok(),
        _ => None,
    };
    connection.abort();
    Some(page?.to_bytes())
}
