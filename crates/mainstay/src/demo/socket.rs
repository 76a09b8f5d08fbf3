//! The WebSocket of the sample backend: it sends back what it gets.

use futures_util::{SinkExt, StreamExt};
use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use mainstay_runtime::Shutdown;
use std::time::Duration;
use tokio::net::TcpStream;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::protocol::{CloseFrame, Role, WebSocketConfig};
use tokio_tungstenite::tungstenite::{Error, Message};

/// Enough for a test of large messages; one message is held in memory.
const MESSAGE_BYTES_MAX: usize = 16 * 1024 * 1024;
/// How long a client may take to answer our close.
const CLOSE_WAIT: Duration = Duration::from_secs(5);

/// Echoes until either side closes. `hello`, if any, is sent first.
pub async fn echo(upgraded: Upgraded, hello: Option<String>, stop: &Shutdown) {
    // The connection is ours: take the socket back, with what was read past the handshake.
    let Ok(parts) = upgraded.downcast::<TokioIo<TcpStream>>() else { return };
    let config =
        WebSocketConfig::default().max_message_size(Some(MESSAGE_BYTES_MAX)).max_frame_size(Some(MESSAGE_BYTES_MAX));
    let (client, read) = (parts.io.into_inner(), parts.read_buf.to_vec());
    let mut socket = WebSocketStream::from_partially_read(client, read, Role::Server, Some(config)).await;
    if let Some(hello) = hello
        && socket.send(Message::text(hello)).await.is_err()
    {
        return;
    }
    let told_to_stop = tokio::select! {
        // Whatever ends it, the client knows already.
        _ = echo_all(&mut socket) => false,
        () = stop.requested() => true,
    };
    if told_to_stop {
        let frame = CloseFrame { code: CloseCode::Restart, reason: "restarting".into() };
        let goodbye = async {
            let _ = socket.close(Some(frame)).await;
            while let Some(Ok(_)) = socket.next().await {}
        };
        let _ = tokio::time::timeout(CLOSE_WAIT, goodbye).await;
    }
}

async fn echo_all(socket: &mut WebSocketStream<TcpStream>) -> Result<(), Error> {
    while let Some(message) = socket.next().await {
        let message = message?;
        // Pings and closes are answered below us, when the socket is next read.
        if message.is_text() || message.is_binary() {
            socket.send(message).await?;
        }
    }
    Ok(())
}
