//! `Cache-Status` (RFC 9211): what the cache did with a request, without its key.

use std::io::Write as _;

/// Why a request went to the app.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Forwarded {
    Bypass,
    Method,
    UriMiss,
    VaryMiss,
    /// The request's own directives.
    Request,
    Stale,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Status {
    /// `None`: answered from what was stored.
    pub forwarded: Option<Forwarded>,
    pub forwarded_status: Option<u16>,
    pub stored: bool,
    pub collapsed: bool,
    pub ttl_s: Option<i64>,
    pub detail: Option<&'static str>,
}

impl Forwarded {
    fn text(self) -> &'static str {
        match self {
            Forwarded::Bypass => "bypass",
            Forwarded::Method => "method",
            Forwarded::UriMiss => "uri-miss",
            Forwarded::VaryMiss => "vary-miss",
            Forwarded::Request => "request",
            Forwarded::Stale => "stale",
        }
    }
}

impl Status {
    pub fn write(&self, out: &mut Vec<u8>) {
        out.clear();
        out.extend_from_slice(b"mainstay");
        match self.forwarded {
            None => out.extend_from_slice(b"; hit"),
            Some(why) => {
                out.extend_from_slice(b"; fwd=");
                out.extend_from_slice(why.text().as_bytes());
            }
        }
        // Writing into memory never fails.
        if let Some(status) = self.forwarded_status {
            let _ = write!(out, "; fwd-status={status}");
        }
        if self.stored {
            out.extend_from_slice(b"; stored");
        }
        if self.collapsed {
            out.extend_from_slice(b"; collapsed");
        }
        if let Some(ttl) = self.ttl_s {
            let _ = write!(out, "; ttl={ttl}");
        }
        if let Some(detail) = self.detail {
            out.extend_from_slice(b"; detail=");
            out.extend_from_slice(detail.as_bytes());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_done_is_said_as_the_rfc_has_it() {
        let text = |status: Status| {
            let mut out = b"old".to_vec();
            status.write(&mut out);
            String::from_utf8(out).expect("text")
        };
        let none = Status::default();
        assert_eq!(text(Status { ttl_s: Some(-5), ..none }), "mainstay; hit; ttl=-5");
        let miss = Status { forwarded: Some(Forwarded::UriMiss), stored: true, ..none };
        assert_eq!(text(miss), "mainstay; fwd=uri-miss; stored");
        let stale = Status { forwarded: Some(Forwarded::Stale), forwarded_status: Some(304), ttl_s: Some(9), ..none };
        assert_eq!(text(stale), "mainstay; fwd=stale; fwd-status=304; ttl=9");
        let waited = Status { forwarded: Some(Forwarded::UriMiss), collapsed: true, detail: Some("x"), ..none };
        assert_eq!(text(waited), "mainstay; fwd=uri-miss; collapsed; detail=x");
    }
}
