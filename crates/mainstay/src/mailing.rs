//! Hands mails to the app, which knows how its users are written to: a POST to the path that the file names, at one of
//! its instances and nowhere else.
//!
//! There is no block for mail yet (decision 0021). Must never write a token into a log.

use crate::server::Server;
use crate::settings::{Settings, chain};
use bytes::Bytes;
use http::header::{CONTENT_TYPE, HOST};
use http::{Request, StatusCode};
use http_body_util::Full;
use hyper_util::rt::TokioIo;
use mainstay_identity::accounts::Mail;
use std::io::IsTerminal;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;
use tokio::net::TcpStream;
use tokio::sync::mpsc;

type Cause = Box<dyn std::error::Error + Send + Sync>;

/// Between attempts; after the last the mail is lost, and its user asks for another.
const WAITS: [Duration; 5] = [
    Duration::from_millis(250),
    Duration::from_secs(1),
    Duration::from_secs(4),
    Duration::from_secs(15),
    Duration::from_secs(30),
];
/// Of one attempt: an app that takes longer shall answer first and mail then.
const ATTEMPT_LIMIT: Duration = Duration::from_secs(10);

/// Lives as long as the server. Must run inside a `LocalSet`.
pub async fn delivered(mut mails: mpsc::Receiver<Mail>, server: Rc<Server>) {
    while let Some(mail) = mails.recv().await {
        let options = server.edge.options();
        let Some(path) = options.identity.deliver().map(str::to_owned) else {
            shown(&mail);
            continue;
        };
        let mut why = String::new();
        for wait in WAITS {
            match push(&server, &path, &mail).await {
                Ok(()) => {
                    why.clear();
                    break;
                }
                Err(error) => why = error,
            }
            tokio::time::sleep(wait).await;
        }
        if !why.is_empty() {
            tracing::error!(
                kind = mail.kind,
                path,
                why,
                "a mail could not be handed to the app; its user has to ask again"
            );
        }
    }
}

/// In development the terminal is the mailbox, and nothing else is: a token in a log could be used by whoever reads it.
pub fn has_screen(settings: &Settings) -> bool {
    !settings.environment.production && std::io::stderr().is_terminal()
}

fn shown(mail: &Mail) {
    if std::io::stderr().is_terminal()
        && let Some(link) = mail.url.as_ref().or(mail.token.as_ref())
    {
        eprintln!("mail     {} for {}: {link}", mail.kind, mail.email);
    }
}

async fn push(server: &Server, path: &str, mail: &Mail) -> Result<(), String> {
    let (_, address) =
        server.edge.instance_for("POST", path).ok_or_else(|| "no instance of the app is ready".to_owned())?;
    let body = serde_json::to_vec(mail).map_err(|error| error.to_string())?;
    let request = Request::post(path).header(CONTENT_TYPE, "application/json").header(HOST, address.to_string());
    let request = request.body(Full::new(Bytes::from(body))).map_err(|error| error.to_string())?;
    let sent = tokio::time::timeout(ATTEMPT_LIMIT, send(address, request)).await;
    let status = sent.map_err(|_| "no answer in time".to_owned())?.map_err(|error| chain(&*error))?;
    if status.is_success() { Ok(()) } else { Err(format!("the app answers {status}")) }
}

/// One request, one connection: mails are few.
async fn send(address: SocketAddr, request: Request<Full<Bytes>>) -> Result<StatusCode, Cause> {
    let stream = TcpStream::connect(address).await?;
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    let asking = async move { sender.send_request(request).await };
    tokio::pin!(asking, connection);
    tokio::select! {
        answer = &mut asking => Ok(answer?.status()),
        ended = &mut connection => {
            ended?;
            Ok(asking.await?.status())
        }
    }
}
