//! The routes of the sample backend.

use super::body::{self, Answer};
use super::connection::Upgrade;
use super::{Backend, SLOW_MAX};
use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::{Method, Request, Response, StatusCode};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use mainstay_runtime::Clock;
use serde_json::{Map, Value, json};
use std::cell::RefCell;
use std::io::Write;
use std::time::Duration;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;

const PAGE: &str = include_str!("page.html");
const STYLE: &str = include_str!("page.css");
const SCRIPT: &str = include_str!("page.js");
const ICON: &str = include_str!("icon.svg");

/// No inline script or style, nothing from elsewhere.
const PAGE_POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; \
    connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

const SLOW_DEFAULT_MS: u64 = 2000;
const INSTANCE: HeaderName = HeaderName::from_static("demo-instance");

/// The request gets no answer: the connection is dropped.
#[derive(Debug)]
pub struct Crashed;

impl std::fmt::Display for Crashed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("crashed, as asked")
    }
}

impl std::error::Error for Crashed {}

/// One request in, one response out, one line in the log.
pub async fn answer(
    backend: &Backend,
    request: Request<Incoming>,
    upgrade: &RefCell<Option<Upgrade>>,
) -> Result<Response<Answer>, Crashed> {
    let began = Clock::micros();
    backend.count.set(backend.count.get() + 1);
    let (method, path) = (request.method().clone(), request.uri().path().to_owned());
    let id = request_id(request.headers()).map(str::to_owned);
    let mut response = route(backend, request, id.as_deref(), upgrade).await?;
    let instance = format!("{}@{}", backend.pid, backend.port);
    response.headers_mut().extend(HeaderValue::try_from(instance).ok().map(|value| (INSTANCE, value)));

    let status = response.status().as_u16();
    if path.contains("/health") {
        // Checks come every few seconds; lines about them would hide what people do.
        return Ok(response);
    }
    let fields = json!({
        "requestId": id,
        "method": method.as_str(),
        "path": path,
        "status": status,
        "duration": (Clock::micros() - began) as f64 / 1000.0,
    });
    log(if status >= 500 { "error" } else { "info" }, &format!("{method} {path} {status}"), fields);
    Ok(response)
}

async fn route(
    backend: &Backend,
    mut request: Request<Incoming>,
    id: Option<&str>,
    upgrade: &RefCell<Option<Upgrade>>,
) -> Result<Response<Answer>, Crashed> {
    let response = match request.uri().path() {
        "/" => file(request.method(), "text/html; charset=utf-8", PAGE),
        "/page.css" => file(request.method(), "text/css; charset=utf-8", STYLE),
        "/page.js" => file(request.method(), "text/javascript; charset=utf-8", SCRIPT),
        "/icon.svg" => file(request.method(), "image/svg+xml", ICON),
        "/hello" => says(backend, StatusCode::OK, id, json!({ "message": "hello" })),
        "/slow" => slow(backend, &request, id).await,
        "/fail" => {
            let about = json!({ "error": "this route always fails" });
            says(backend, StatusCode::INTERNAL_SERVER_ERROR, id, about)
        }
        "/crash" => {
            log("error", "crashing, as asked", json!({ "requestId": id }));
            (backend.crash)();
            return Err(Crashed);
        }
        "/echo" => echo(request),
        "/events" => {
            let mut response = Response::new(body::events(backend, id));
            set(&mut response, header::CONTENT_TYPE, "text/event-stream");
            set(&mut response, header::CACHE_CONTROL, "no-store");
            response
        }
        "/headers" => headers(backend, &request, id),
        "/ws" => websocket(backend, &mut request, id, upgrade),
        _ => says(backend, StatusCode::NOT_FOUND, id, json!({ "error": "there is nothing at this path" })),
    };
    Ok(response)
}

fn file(method: &Method, kind: &'static str, text: &'static str) -> Response<Answer> {
    if !matches!(*method, Method::GET | Method::HEAD) {
        let mut response = Response::new(body::whole(r#"{"error":"only GET and HEAD are answered here"}"#));
        *response.status_mut() = StatusCode::METHOD_NOT_ALLOWED;
        set(&mut response, header::ALLOW, "GET, HEAD");
        set(&mut response, header::CONTENT_TYPE, "application/json");
        return response;
    }
    let mut response = Response::new(body::whole(text));
    set(&mut response, header::CONTENT_TYPE, kind);
    set(&mut response, header::CACHE_CONTROL, "no-cache");
    set(&mut response, header::CONTENT_SECURITY_POLICY, PAGE_POLICY);
    set(&mut response, header::X_CONTENT_TYPE_OPTIONS, "nosniff");
    set(&mut response, header::REFERRER_POLICY, "no-referrer");
    response
}

/// JSON with the instance, the count and the id beside what is to be said.
fn says(backend: &Backend, status: StatusCode, id: Option<&str>, what: Value) -> Response<Answer> {
    let mut about = Map::new();
    if let Value::Object(what) = what {
        about.extend(what);
    }
    about.insert("instance".to_owned(), json!({ "pid": backend.pid, "port": backend.port }));
    about.insert("n".to_owned(), backend.count.get().into());
    about.insert("requestId".to_owned(), id.into());
    let mut response = Response::new(body::whole(Value::Object(about).to_string() + "\n"));
    *response.status_mut() = status;
    set(&mut response, header::CONTENT_TYPE, "application/json");
    set(&mut response, header::CACHE_CONTROL, "no-store");
    response
}

async fn slow(backend: &Backend, request: &Request<Incoming>, id: Option<&str>) -> Response<Answer> {
    let most = u64::try_from(SLOW_MAX.as_millis()).unwrap_or(u64::MAX);
    let asked = match query(request, "ms") {
        None => Some(SLOW_DEFAULT_MS),
        Some(text) => text.parse().ok().filter(|ms| *ms <= most),
    };
    let Some(ms) = asked else {
        let error = format!("ms is a number of milliseconds up to {most}");
        return says(backend, StatusCode::BAD_REQUEST, id, json!({ "error": error }));
    };
    tokio::time::sleep(Duration::from_millis(ms)).await;
    says(backend, StatusCode::OK, id, json!({ "message": "that took a while", "ms": ms }))
}

/// Sends the body back while it is still coming in.
fn echo(request: Request<Incoming>) -> Response<Answer> {
    let kind = request.headers().get(header::CONTENT_TYPE).cloned();
    let mut response = Response::new(request.into_body().boxed_unsync());
    let kind = kind.unwrap_or(HeaderValue::from_static("application/octet-stream"));
    response.headers_mut().insert(header::CONTENT_TYPE, kind);
    // What somebody else sent must not become a page of this site.
    set(&mut response, header::CONTENT_SECURITY_POLICY, "default-src 'none'; sandbox");
    set(&mut response, header::X_CONTENT_TYPE_OPTIONS, "nosniff");
    response
}

fn headers(backend: &Backend, request: &Request<Incoming>, id: Option<&str>) -> Response<Answer> {
    let mut seen: Map<String, Value> = Map::new();
    for name in request.headers().keys() {
        let values = request.headers().get_all(name).iter();
        let values: Vec<_> = values.map(|v| String::from_utf8_lossy(v.as_bytes())).collect();
        seen.insert(name.as_str().to_owned(), values.join(", ").into());
    }
    let about = json!({
        "method": request.method().as_str(),
        "target": request.uri().to_string(),
        "version": format!("{:?}", request.version()),
        "headers": seen,
    });
    says(backend, StatusCode::OK, id, about)
}

/// RFC 6455 §4.2. With `?hello` the first message names the instance, because a page cannot read the handshake.
fn websocket(
    backend: &Backend,
    request: &mut Request<Incoming>,
    id: Option<&str>,
    upgrade: &RefCell<Option<Upgrade>>,
) -> Response<Answer> {
    let key = request.headers().get(header::SEC_WEBSOCKET_KEY).cloned();
    let headers = request.headers();
    let fits = *request.method() == Method::GET
        && has_word(headers, header::CONNECTION, "upgrade")
        && has_word(headers, header::UPGRADE, "websocket")
        && has_word(headers, header::SEC_WEBSOCKET_VERSION, "13");
    let (Some(key), true) = (key, fits) else {
        let error = json!({ "error": "this is a WebSocket: connect with `new WebSocket(url)`" });
        let mut response = says(backend, StatusCode::UPGRADE_REQUIRED, id, error);
        set(&mut response, header::UPGRADE, "websocket");
        set(&mut response, header::CONNECTION, "upgrade");
        set(&mut response, header::SEC_WEBSOCKET_VERSION, "13");
        return response;
    };
    let instance = json!({ "pid": backend.pid, "port": backend.port });
    let hello = query(request, "hello").map(|_| json!({ "instance": instance, "requestId": id }).to_string());
    *upgrade.borrow_mut() = Some(Upgrade { on: hyper::upgrade::on(request), hello });
    let mut response = Response::new(body::whole(""));
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    set(&mut response, header::UPGRADE, "websocket");
    set(&mut response, header::CONNECTION, "upgrade");
    let accept = HeaderValue::try_from(derive_accept_key(key.as_bytes())).ok();
    response.headers_mut().extend(accept.map(|value| (header::SEC_WEBSOCKET_ACCEPT, value)));
    response
}

fn set(response: &mut Response<Answer>, name: HeaderName, value: &'static str) {
    response.headers_mut().insert(name, HeaderValue::from_static(value));
}

fn has_word(headers: &HeaderMap, name: HeaderName, word: &str) -> bool {
    let lines = headers.get_all(name).iter().filter_map(|line| line.to_str().ok());
    lines.flat_map(|line| line.split(',')).any(|part| part.trim().eq_ignore_ascii_case(word))
}

/// The value of one query parameter, empty if it has none. Nothing here needs percent-decoding.
fn query<'a>(request: &'a Request<Incoming>, name: &str) -> Option<&'a str> {
    let parts = request.uri().query()?.split('&');
    parts.map(|part| part.split_once('=').unwrap_or((part, ""))).find(|(key, _)| *key == name).map(|(_, value)| value)
}

/// The id somebody in front of us gave, by the name that is in common use.
fn request_id(headers: &HeaderMap) -> Option<&str> {
    headers.get("x-request-id")?.to_str().ok()
}

/// One JSON line on stdout. A reader that went away is no reason to fail a request.
pub fn log(level: &str, message: &str, fields: Value) {
    let micros = i64::try_from(Clock::unix_micros()).unwrap_or(i64::MAX);
    let now = jiff::Timestamp::from_microsecond(micros).unwrap_or(jiff::Timestamp::UNIX_EPOCH);
    let mut line = Map::new();
    line.insert("level".to_owned(), level.into());
    line.insert("timestamp".to_owned(), format!("{now:.3}").into());
    line.insert("message".to_owned(), message.into());
    if let Value::Object(fields) = fields {
        line.extend(fields);
    }
    let _ = writeln!(std::io::stdout(), "{}", Value::Object(line));
}
