//! The pages under `docs/errors/`, served at `/.mainstay/errors/CODE`: what a refusal's `type` points to.

macro_rules! pages {
    ($($code:literal),* $(,)?) => {
        &[$(($code, include_str!(concat!("../../../docs/errors/", $code, ".md")))),*]
    };
}

const PAGES: &[(&str, &str)] = pages![
    "ambiguous_path",
    "banned",
    "body_too_large",
    "client_gone",
    "cross_site",
    "csrf_token",
    "header_too_large",
    "hold_full",
    "input_invalid",
    "internal",
    "login_required",
    "malformed_request",
    "method_not_supported",
    "missing_host",
    "no_instance",
    "no_route",
    "not_cached",
    "repeated_host",
    "request_timeout",
    "role_missing",
    "second_factor_required",
    "service_busy",
    "token_expired",
    "token_invalid",
    "too_many_connections",
    "too_many_requests",
    "unsupported_media_type",
    "upstream_closed",
    "upstream_cut",
    "upstream_invalid",
    "upstream_refused",
    "upstream_timeout",
    "uri_too_long",
];

/// The page a path asks for.
pub fn page(path: &str) -> Option<&'static str> {
    let code = path.strip_prefix("/.mainstay/errors/")?;
    PAGES.iter().find(|(known, _)| *known == code).map(|(_, text)| *text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use mainstay_telemetry::Verdict;

    #[test]
    fn every_code_has_its_page_and_nothing_else_has() {
        for verdict in Verdict::ALL.into_iter().filter(|v| *v != Verdict::Ok) {
            let text = page(&format!("/.mainstay/errors/{}", verdict.code())).unwrap_or_default();
            assert!(text.starts_with(&format!("# {}", verdict.code())), "{}", verdict.code());
        }
        assert_eq!(PAGES.len(), Verdict::ALL.len() - 1);
        assert_eq!(page("/.mainstay/errors/../secret"), None);
        assert_eq!(page("/.mainstay/health"), None);
    }
}
