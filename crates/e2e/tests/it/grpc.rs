//! gRPC through the edge: HTTP/2 on both sides, streams unbuffered, trailers kept.

use mainstay_e2e::Setup;
use mainstay_e2e::fixtures::node_client;
use mainstay_e2e::ports::Port;
use std::net::TcpStream;
use std::process::Command;

#[test]
fn e4_grpc_of_npm_calls_grpc_of_npm_both_ways_with_trailers() {
    let port = Port::free();
    let folder = tempfile::tempdir().expect("a folder");
    mainstay_e2e::fixtures::node_app("grpc", folder.path());
    let mut server = Command::new("node")
        .arg("server.js")
        .current_dir(folder.path())
        .env("PORT", port.number.to_string())
        .spawn()
        .expect("run node");
    mainstay_e2e::wait_until("the server to listen", || TcpStream::connect(("127.0.0.1", port.number)).is_ok());
    let text = format!("[app.main]\nupstreams = [\"127.0.0.1:{}\"]\nprotocol = \"h2c\"\n", port.number);
    let mainstay = Setup::file(&text).start();
    let said = node_client("grpc.js", &[&mainstay.edge().to_string()]);
    let _ = server.kill();
    let _ = server.wait();
    assert!(said.contains("all calls as asked"), "{said}");
}
