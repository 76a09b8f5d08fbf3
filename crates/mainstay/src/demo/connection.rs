//! One client's connection, from the first byte to the last; after an upgrade it is a WebSocket.

use super::{Backend, answers, socket};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::{TokioIo, TokioTimer};
use std::cell::RefCell;
use std::pin::pin;
use std::rc::Rc;
use tokio::net::TcpStream;

/// What an upgraded connection goes on with.
pub struct Upgrade {
    pub on: OnUpgrade,
    pub hello: Option<String>,
}

pub async fn serve(client: TcpStream, backend: Rc<Backend>) {
    let _ = client.set_nodelay(true);
    let upgrade = Rc::new(RefCell::new(None));
    let service = service_fn(|request| {
        let (backend, upgrade) = (backend.clone(), upgrade.clone());
        async move { answers::answer(&backend, request, &upgrade).await }
    });
    let mut builder = http1::Builder::new();
    builder.timer(TokioTimer::new());
    let mut connection = pin!(builder.serve_connection(TokioIo::new(client), service).with_upgrades());
    // A connection that breaks is the client's choice, and a crash was asked for: neither is news.
    let _: Result<(), hyper::Error> = tokio::select! {
        ended = connection.as_mut() => ended,
        () = backend.stop.requested() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    let taken: Option<Upgrade> = upgrade.borrow_mut().take();
    if let Some(Upgrade { on, hello }) = taken
        && let Ok(upgraded) = on.await
    {
        socket::echo(upgraded, hello, &backend.stop).await;
    }
}
