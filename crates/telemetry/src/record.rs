//! The record: what a core writes down about one finished request. Plain memory, at most 512 bytes, no pointers.

use crate::verdict::Verdict;
use std::net::IpAddr;

/// `r_` and 26 base32 characters (Crockford, lower case) of a UUIDv7.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct RequestId(pub [u8; 26]);

/// Text cut to a fixed size at a character boundary.
#[derive(Clone, Copy)]
pub struct Cut<const N: usize> {
    /// The highest bit says that the original was longer.
    len: u16,
    bytes: [u8; N],
}

const WAS_CUT: u16 = 1 << 15;

/// One attempt at an upstream that did not give the answer.
#[derive(Clone, Copy, Debug)]
pub struct Try {
    /// Name of the upstream in `Names`.
    pub upstream: u32,
    pub outcome: Outcome,
    pub millis: u16,
}

/// How one attempt ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Outcome {
    Refused,
    ConnectTimeout,
    /// The connection died before the first byte of a response.
    Closed,
    /// A reused idle connection was dead; repeated on a fresh one.
    Stale,
    ResponseTimeout,
    /// Answered 502, 503 or 504, and another instance was asked. Holds the status less 500: see `Outcome::answered`.
    Status(u8),
    Invalid,
}

impl Outcome {
    /// An answer of 502, 503 or 504 that was not passed on.
    pub fn answered(status: u16) -> Outcome {
        Outcome::Status(u8::try_from(status.saturating_sub(500)).unwrap_or(u8::MAX))
    }

    /// Stable: the access log carries it.
    pub fn code(self) -> &'static str {
        match self {
            Outcome::Refused => "refused",
            Outcome::ConnectTimeout => "connect_timeout",
            Outcome::Closed => "closed",
            Outcome::Stale => "stale",
            Outcome::ResponseTimeout => "response_timeout",
            Outcome::Status(2) => "status_502",
            Outcome::Status(3) => "status_503",
            Outcome::Status(4) => "status_504",
            Outcome::Status(_) => "status_5xx",
            Outcome::Invalid => "invalid",
        }
    }

    /// What `code` means, for people. A code this version does not know is its own explanation.
    pub fn explain(code: &str) -> &str {
        match code {
            "refused" => "refused the connection",
            "connect_timeout" => "did not accept the connection in time",
            "closed" => "closed the connection before it answered",
            "stale" => "had closed the idle connection; repeated on a fresh one",
            "response_timeout" => "did not answer in time",
            "status_502" => "answered 502",
            "status_503" => "answered 503",
            "status_504" => "answered 504",
            "invalid" => "answered with what is not HTTP",
            other => other,
        }
    }
}

/// Everything about one request. Times are microseconds unless the name says otherwise.
#[derive(Clone, Copy, Debug)]
pub struct Record {
    pub id: RequestId,
    pub started_unix_us: u64,
    pub total_us: u64,
    /// From the start to the first byte of the upstream's answer; 0 if none came.
    pub first_byte_us: u32,
    /// How long it was held for an instance to become ready.
    pub held_ms: u16,
    pub status: u16,
    pub method: MethodCode,
    /// 10, 11 or 20.
    pub version: u8,
    pub tls: bool,
    pub upgraded: bool,
    /// The client went away before the response was complete.
    pub client_gone: bool,
    /// One of the health paths: kept out of the access log (H9).
    pub health: bool,
    pub verdict: Verdict,
    /// What the response cache did.
    pub cache: CacheCode,
    /// Position of the rule that decided, in `Names`; 0 = built in.
    pub rule: u32,
    /// In `Names`; 0 = none.
    pub app: u32,
    /// Matched or learnt route pattern, in `Names`.
    pub route: u32,
    /// Upstream that answered, in `Names`; 0 = none.
    pub upstream: u32,
    /// By `CoreMetrics::tenant`; 0 = none.
    pub tenant: u16,
    pub bytes_in: u64,
    pub bytes_out: u64,
    pub client: IpAddr,
    pub peer: IpAddr,
    /// Position of the `trusted_proxies` entry that made us believe the peer about the client, in `Names`;
    /// 0 = the client is the peer.
    pub trusted_by: u32,
    pub trace_id: [u8; 16],
    pub span_id: [u8; 8],
    /// Zero if the client sent no `traceparent`.
    pub parent_id: [u8; 8],
    pub tries: [Option<Try>; 3],
    /// Without the query, which may carry secrets.
    pub path: Cut<256>,
    pub agent: Cut<28>,
    pub client_request_id: Cut<36>,
}

const _: () = assert!(size_of::<Record>() <= 512);

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum MethodCode {
    Get,
    Head,
    Post,
    Put,
    Patch,
    Delete,
    Options,
    Connect,
    Trace,
    Other,
}

/// What the response cache did with a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum CacheCode {
    /// The route is not cached.
    Off,
    Hit,
    /// Given out although it was stale.
    Stale,
    Miss,
    /// The app said that what is stored is still good.
    Revalidated,
    /// Waited for another request's answer.
    Collapsed,
    Bypass,
}

impl CacheCode {
    /// Stable: the access log carries it.
    pub fn code(self) -> &'static str {
        match self {
            CacheCode::Off => "off",
            CacheCode::Hit => "hit",
            CacheCode::Stale => "stale",
            CacheCode::Miss => "miss",
            CacheCode::Revalidated => "revalidated",
            CacheCode::Collapsed => "collapsed",
            CacheCode::Bypass => "bypass",
        }
    }
}

impl Record {
    /// A start for `..Record::EMPTY`: nothing known, nothing decided.
    pub const EMPTY: Record = Record {
        id: RequestId([b'0'; 26]),
        started_unix_us: 0,
        total_us: 0,
        first_byte_us: 0,
        held_ms: 0,
        status: 0,
        method: MethodCode::Get,
        version: 11,
        tls: false,
        upgraded: false,
        client_gone: false,
        health: false,
        verdict: Verdict::Ok,
        cache: CacheCode::Off,
        rule: 0,
        app: 0,
        route: 0,
        upstream: 0,
        tenant: 0,
        bytes_in: 0,
        bytes_out: 0,
        client: IpAddr::V4(std::net::Ipv4Addr::UNSPECIFIED),
        peer: IpAddr::V4(std::net::Ipv4Addr::UNSPECIFIED),
        trusted_by: 0,
        trace_id: [0; 16],
        span_id: [0; 8],
        parent_id: [0; 8],
        tries: [None; 3],
        path: Cut::EMPTY,
        agent: Cut::EMPTY,
        client_request_id: Cut::EMPTY,
    };
}

impl MethodCode {
    pub const ALL: [MethodCode; 10] = [
        MethodCode::Get,
        MethodCode::Head,
        MethodCode::Post,
        MethodCode::Put,
        MethodCode::Patch,
        MethodCode::Delete,
        MethodCode::Options,
        MethodCode::Connect,
        MethodCode::Trace,
        MethodCode::Other,
    ];

    pub fn as_str(self) -> &'static str {
        match self {
            MethodCode::Get => "GET",
            MethodCode::Head => "HEAD",
            MethodCode::Post => "POST",
            MethodCode::Put => "PUT",
            MethodCode::Patch => "PATCH",
            MethodCode::Delete => "DELETE",
            MethodCode::Options => "OPTIONS",
            MethodCode::Connect => "CONNECT",
            MethodCode::Trace => "TRACE",
            MethodCode::Other => "OTHER",
        }
    }
}

impl RequestId {
    pub fn as_str(&self) -> &str {
        std::str::from_utf8(&self.0).unwrap_or("")
    }
}

impl std::fmt::Display for RequestId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "r_{}", self.as_str())
    }
}

impl<const N: usize> Cut<N> {
    pub const EMPTY: Cut<N> = Cut { len: 0, bytes: [0; N] };

    pub fn new(text: &str) -> Cut<N> {
        let mut end = text.len().min(N);
        while !text.is_char_boundary(end) {
            end -= 1;
        }
        let mut bytes = [0; N];
        bytes[..end].copy_from_slice(&text.as_bytes()[..end]);
        let was_cut = if end < text.len() { WAS_CUT } else { 0 };
        Cut { len: end as u16 | was_cut, bytes }
    }

    pub fn as_str(&self) -> &str {
        std::str::from_utf8(&self.bytes[..usize::from(self.len & !WAS_CUT)]).unwrap_or("")
    }

    /// The original was longer.
    pub fn is_cut(&self) -> bool {
        self.len & WAS_CUT != 0
    }
}

impl<const N: usize> std::fmt::Debug for Cut<N> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:?}{}", self.as_str(), if self.is_cut() { "…" } else { "" })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_cut_at_a_character_and_says_so() {
        assert_eq!(Cut::<4>::new("abcd").as_str(), "abcd");
        assert!(!Cut::<4>::new("abcd").is_cut());
        let cut = Cut::<4>::new("abcé");
        assert_eq!((cut.as_str(), cut.is_cut()), ("abc", true));
    }
}
