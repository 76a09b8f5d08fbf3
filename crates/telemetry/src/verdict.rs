//! What was decided about a request: one stable code each, with its page under `docs/errors/`.

/// Why a request ended as it did. `Ok` covers every answer the app itself gave.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Verdict {
    Ok,
    MalformedRequest,
    MissingHost,
    RepeatedHost,
    HeaderTooLarge,
    UriTooLong,
    AmbiguousPath,
    MethodNotSupported,
    BodyTooLarge,
    /// Something of the input breaks its route's schema.
    InputInvalid,
    UnsupportedMediaType,
    RequestTimeout,
    NoRoute,
    NoInstance,
    HoldFull,
    UpstreamRefused,
    UpstreamClosed,
    UpstreamTimeout,
    UpstreamInvalid,
    /// Begun, then broken off: a visible cut, never a short success.
    UpstreamCut,
    TooManyConnections,
    Banned,
    TooManyRequests,
    ServiceBusy,
    /// The client wanted no answer but a stored one.
    NotCached,
    ClientGone,
    Internal,
}

impl Verdict {
    pub const ALL: [Verdict; 27] = [
        Verdict::Ok,
        Verdict::MalformedRequest,
        Verdict::MissingHost,
        Verdict::RepeatedHost,
        Verdict::HeaderTooLarge,
        Verdict::UriTooLong,
        Verdict::AmbiguousPath,
        Verdict::MethodNotSupported,
        Verdict::BodyTooLarge,
        Verdict::InputInvalid,
        Verdict::UnsupportedMediaType,
        Verdict::RequestTimeout,
        Verdict::NoRoute,
        Verdict::NoInstance,
        Verdict::HoldFull,
        Verdict::UpstreamRefused,
        Verdict::UpstreamClosed,
        Verdict::UpstreamTimeout,
        Verdict::UpstreamInvalid,
        Verdict::UpstreamCut,
        Verdict::TooManyConnections,
        Verdict::Banned,
        Verdict::TooManyRequests,
        Verdict::ServiceBusy,
        Verdict::NotCached,
        Verdict::ClientGone,
        Verdict::Internal,
    ];

    /// Stable: programs may compare it, and `docs/errors/CODE.md` explains it.
    pub fn code(self) -> &'static str {
        match self {
            Verdict::Ok => "ok",
            Verdict::MalformedRequest => "malformed_request",
            Verdict::MissingHost => "missing_host",
            Verdict::RepeatedHost => "repeated_host",
            Verdict::HeaderTooLarge => "header_too_large",
            Verdict::UriTooLong => "uri_too_long",
            Verdict::AmbiguousPath => "ambiguous_path",
            Verdict::MethodNotSupported => "method_not_supported",
            Verdict::BodyTooLarge => "body_too_large",
            Verdict::InputInvalid => "input_invalid",
            Verdict::UnsupportedMediaType => "unsupported_media_type",
            Verdict::RequestTimeout => "request_timeout",
            Verdict::NoRoute => "no_route",
            Verdict::NoInstance => "no_instance",
            Verdict::HoldFull => "hold_full",
            Verdict::UpstreamRefused => "upstream_refused",
            Verdict::UpstreamClosed => "upstream_closed",
            Verdict::UpstreamTimeout => "upstream_timeout",
            Verdict::UpstreamInvalid => "upstream_invalid",
            Verdict::UpstreamCut => "upstream_cut",
            Verdict::TooManyConnections => "too_many_connections",
            Verdict::Banned => "banned",
            Verdict::TooManyRequests => "too_many_requests",
            Verdict::ServiceBusy => "service_busy",
            Verdict::NotCached => "not_cached",
            Verdict::ClientGone => "client_gone",
            Verdict::Internal => "internal",
        }
    }

    /// Status the client gets; 200 for `Ok` and 499 for `ClientGone` are for the log alone.
    pub fn status(self) -> u16 {
        match self {
            Verdict::Ok => 200,
            Verdict::MalformedRequest | Verdict::MissingHost | Verdict::RepeatedHost | Verdict::AmbiguousPath => 400,
            Verdict::InputInvalid => 400,
            Verdict::UnsupportedMediaType => 415,
            Verdict::HeaderTooLarge => 431,
            Verdict::UriTooLong => 414,
            Verdict::Banned => 403,
            Verdict::TooManyRequests => 429,
            Verdict::MethodNotSupported => 405,
            Verdict::BodyTooLarge => 413,
            Verdict::RequestTimeout => 408,
            Verdict::NoRoute => 404,
            Verdict::NoInstance | Verdict::HoldFull | Verdict::TooManyConnections | Verdict::ServiceBusy => 503,
            Verdict::UpstreamRefused | Verdict::UpstreamClosed | Verdict::UpstreamInvalid | Verdict::UpstreamCut => 502,
            Verdict::UpstreamTimeout | Verdict::NotCached => 504,
            Verdict::ClientGone => 499,
            Verdict::Internal => 500,
        }
    }

    /// One sentence fit for the person who called, without a word about the inside.
    pub fn sentence(self) -> &'static str {
        match self {
            Verdict::Ok => "The request was answered.",
            Verdict::MalformedRequest => "The request is not valid HTTP.",
            Verdict::MissingHost => "The request names no host.",
            Verdict::RepeatedHost => "The request names more than one host.",
            Verdict::HeaderTooLarge => "The request's headers are larger than this server accepts.",
            Verdict::UriTooLong => "The request's address is longer than this server accepts.",
            Verdict::AmbiguousPath => "The request's path can be read in more than one way.",
            Verdict::MethodNotSupported => "This method is not supported here.",
            Verdict::BodyTooLarge => "The request's body is larger than this server accepts.",
            Verdict::InputInvalid => "Some of the input is not what is expected here.",
            Verdict::UnsupportedMediaType => "The request's body is of a type that is not accepted here.",
            Verdict::RequestTimeout => "The request did not arrive in time.",
            Verdict::NoRoute => "Nothing is served at this address.",
            Verdict::NoInstance => "The service is starting or away; please try again shortly.",
            Verdict::HoldFull => "Too many requests are waiting for the service; please try again shortly.",
            Verdict::UpstreamRefused => "The service could not be reached.",
            Verdict::UpstreamClosed => "The service broke off before it answered.",
            Verdict::UpstreamTimeout => "The service did not answer in time.",
            Verdict::UpstreamInvalid => "The service's answer was not valid HTTP.",
            Verdict::UpstreamCut => "The service broke off in the middle of its answer.",
            Verdict::TooManyConnections => "Too many connections are open.",
            Verdict::Banned => "This client was sent away for a while.",
            // Without a full stop: clients compare it, and this is what the guides answer.
            Verdict::TooManyRequests => "Too many requests",
            Verdict::ServiceBusy => "The server is busy; please try again shortly.",
            Verdict::NotCached => "No stored answer is here, and the request takes no other.",
            Verdict::ClientGone => "The client went away before the answer was complete.",
            Verdict::Internal => "Something went wrong on this server.",
        }
    }
}
