//! Paths that only scanners ask for. An offence only where the app has nothing there.

/// Beginnings, in lower case.
const BEGINNINGS: &[&str] = &[
    "/.aws/",
    "/.env",
    "/.git/",
    "/.hg/",
    "/.ssh/",
    "/.svn/",
    "/.vscode/",
    "/_ignition/",
    "/actuator/",
    "/boaform/",
    "/cgi-bin/",
    "/geoserver/",
    "/hnap1",
    "/hudson/",
    "/jmx-console",
    "/manager/html",
    "/owa/",
    "/phpmyadmin",
    "/pma/",
    "/server-status",
    "/setup.cgi",
    "/solr/",
    "/vendor/phpunit/",
    "/wp-admin",
    "/wp-content/",
    "/wp-includes/",
    "/wp-login.php",
    "/xmlrpc.php",
];

pub fn is_scanned(path: &str, more: &[String]) -> bool {
    let begins = |beginning: &str| path.get(..beginning.len()).is_some_and(|p| p.eq_ignore_ascii_case(beginning));
    BEGINNINGS.iter().any(|b| begins(b)) || more.iter().any(|b| begins(b))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scanners_are_told_from_visitors() {
        for path in ["/.env", "/.env.production", "/WP-Login.php", "/.git/config", "/phpMyAdmin/index.php"] {
            assert!(is_scanned(path, &[]), "{path}");
        }
        for path in ["/", "/environment", "/api/.env", "/wp", "/users/wp-login.php", "/ü"] {
            assert!(!is_scanned(path, &[]), "{path}");
        }
        assert!(is_scanned("/old-admin/x", &["/old-admin".to_owned()]));
    }
}
