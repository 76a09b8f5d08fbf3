//! The paths the guides ask for. All but `/.mainstay/…` are *offered*: the app is asked first (DESIGN §4 "Paths").

/// One of the documents we can answer with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Document {
    /// `/health`: H1, and H5's `/api/v1/health`, which has the same body.
    Health,
    /// `/health/live`: H2.
    Live,
    /// `/health/ready`: H2.
    Ready,
    /// `/health/detailed`: H3.
    Detailed,
    /// `/api/health`: H4.
    ApiHealth,
    /// `/api/health/ready`: H4.
    ApiReady,
    /// `/metrics` and `/health/metrics`, for Prometheus: S4, S17.
    Metrics,
    /// `/api/v1/metrics`, as JSON: S5.
    ApiMetrics,
}

const PATHS: [(&str, Document); 15] = [
    ("/health", Document::Health),
    ("/health/live", Document::Live),
    ("/health/ready", Document::Ready),
    ("/health/detailed", Document::Detailed),
    ("/health/metrics", Document::Metrics),
    ("/metrics", Document::Metrics),
    ("/api/health", Document::ApiHealth),
    ("/api/health/ready", Document::ApiReady),
    ("/api/v1/health", Document::Health),
    ("/api/v1/metrics", Document::ApiMetrics),
    ("/.mainstay/health", Document::Health),
    ("/.mainstay/health/live", Document::Live),
    ("/.mainstay/health/ready", Document::Ready),
    ("/.mainstay/health/detailed", Document::Detailed),
    ("/.mainstay/health/metrics", Document::Metrics),
];

/// Everything below is Mainstay's own and never reaches the app.
pub const OURS: &str = "/.mainstay/";

/// The document for a canonical path, if there is one.
pub fn offered(path: &str) -> Option<Document> {
    // Almost no request is one of these, and all of them begin in one of three ways.
    if !matches!(path.as_bytes(), [b'/', b'h' | b'm' | b'a' | b'.', ..]) {
        return None;
    }
    PATHS.iter().find(|(known, _)| *known == path).map(|(_, document)| *document)
}

/// Ours alone, whatever `[edge] health` says: the app is not asked first.
pub fn is_ours(path: &str) -> bool {
    path.starts_with(OURS)
}

/// Tells of the inside: only for a loopback peer without forwarding headers, an allowed network or an operator.
pub fn is_inside(document: Document) -> bool {
    matches!(document, Document::Detailed | Document::Metrics | Document::ApiMetrics)
}

/// A health check, kept out of the access log (H9). Metrics by path alone are the app's own business.
pub fn is_health(document: Document) -> bool {
    !matches!(document, Document::Metrics | Document::ApiMetrics)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_path_is_found_and_no_other() {
        for (path, document) in PATHS {
            assert_eq!(offered(path), Some(document), "{path}");
            assert_eq!(is_ours(path), path.starts_with("/.mainstay"), "{path}");
        }
        for path in ["", "/", "/healthy", "/health/", "/api", "/api/healthz", "/.mainstay", "health", "/health/live/x"]
        {
            assert_eq!(offered(path), None, "{path}");
        }
    }

    #[test]
    fn what_tells_of_the_inside_is_named() {
        for (path, inside) in [
            ("/health", false),
            ("/health/live", false),
            ("/health/ready", false),
            ("/api/health", false),
            ("/api/health/ready", false),
            ("/api/v1/health", false),
            ("/health/detailed", true),
            ("/health/metrics", true),
            ("/metrics", true),
            ("/api/v1/metrics", true),
            ("/.mainstay/health/detailed", true),
        ] {
            assert_eq!(offered(path).map(is_inside), Some(inside), "{path}");
        }
    }

    #[test]
    fn health_checks_stay_out_of_the_log_and_metrics_do_not() {
        assert!(offered("/health").is_some_and(is_health));
        assert!(offered("/api/health/ready").is_some_and(is_health));
        assert!(!offered("/metrics").is_some_and(is_health));
    }
}
