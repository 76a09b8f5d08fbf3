//! `mainstay health`: the state as lines for a person, and an exit code for a script (H8).

use crate::state::{ServiceState, State, Status, Watched};

/// A line an app, a line a service, the verdict last. Exit code 0 if nothing is away, else 1.
pub fn lines(state: &State, verbose: bool) -> (Vec<String>, i32) {
    let mut lines = Vec::new();
    if verbose {
        let version = state.version.as_deref().unwrap_or("unknown (APP_VERSION is not set)");
        lines.push(line("version", version, ""));
        lines.push(line("environment", &state.environment, ""));
        lines.push(line("uptime", &format!("{} s", state.uptime_us() / 1_000_000), ""));
    }
    for app in &state.apps {
        let detail = format!("{} of {} instances ready", app.ready, app.total);
        lines.push(line(&format!("app {}", app.name), app.status().as_str(), &detail));
    }
    if state.apps.is_empty() {
        lines.push(line("app", Status::Unavailable.as_str(), "no app is running"));
    }
    for service in Watched::ALL {
        let state = state.service(service);
        let detail = if verbose { detail(&state) } else { String::new() };
        lines.push(line(service.as_str(), state.status.as_str(), &detail));
    }
    if let Some(certificates) = state.certificates {
        let days =
            certificates.expires_in_days.map_or(String::new(), |days| format!("the next expires in {days} days"));
        let see = if certificates.status == Status::Ok { "" } else { "   see: mainstay certificates list" };
        lines.push(line("certificates", certificates.status.as_str(), &format!("{days}{see}")));
    }
    let overall = state.overall(&Watched::ALL);
    lines.push(line("health", overall.as_str(), ""));
    (lines, if matches!(overall, Status::Ok | Status::Unknown) { 0 } else { 1 })
}

fn line(name: &str, status: &str, detail: &str) -> String {
    format!("{name:<16} {status:<15} {detail}").trim_end().to_owned()
}

fn detail(state: &ServiceState) -> String {
    let latency = state.latency_ms.map(|ms| format!("{ms} ms")).unwrap_or_default();
    let says = match (state.service, state.status) {
        (Watched::Database, Status::NotConfigured) => "set DATABASE_URL",
        (Watched::Redis, Status::NotConfigured) => "set REDIS_URL or REDIS_HOST",
        (Watched::Email, Status::NotConfigured) => "set SMTP_HOST",
        (Watched::Stripe, Status::NotConfigured) => "set STRIPE_SECRET_KEY",
        (Watched::Blockchain, Status::NotConfigured) => "set BASE_SEPOLIA_RPC_URL or BASE_MAINNET_RPC_URL",
        (Watched::Database | Watched::Redis | Watched::Email, Status::Unavailable) => {
            "no proper answer within 2 s: is it running, and is the address right?"
        }
        (Watched::Redis, Status::Unknown) => {
            "it wants a password or a certificate that is not known here: REDIS_PASSWORD, or [store.redis] ca"
        }
        (_, Status::Unknown) => "it cannot be asked without a login",
        (_, Status::Configured) => "it is set; nothing was sent to try it",
        (Watched::Database, Status::Ok) => "it answers; login was not tried",
        (Watched::Redis, Status::Ok) => "it answers, and lets us in",
        _ => "",
    };
    format!("{latency:<10} {says}").trim().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::state::tests::{app, state};

    #[test]
    fn h8_a_line_each_and_exit_0_or_1() {
        let (lines, code) = lines(&state(vec![app("main", 2, 2)], &[(Watched::Database, Status::Ok)]), false);
        assert_eq!(
            lines,
            [
                "app main         ok              2 of 2 instances ready",
                "database         ok",
                "redis            not_configured",
                "email            not_configured",
                "stripe           not_configured",
                "blockchain       not_configured",
                "health           ok",
            ]
        );
        assert_eq!(code, 0);
    }

    #[test]
    fn h8_the_exit_code_follows_what_is_away_and_not_what_is_unknown() {
        for (ready, changed, code, word) in [
            (1, (Watched::Redis, Status::Unavailable), 1, "degraded"),
            (1, (Watched::Email, Status::Unavailable), 1, "degraded"),
            (1, (Watched::Redis, Status::Unknown), 0, "unknown"),
            (0, (Watched::Redis, Status::Ok), 1, "unavailable"),
        ] {
            let (lines, got) = lines(&state(vec![app("main", ready, 1)], &[changed]), false);
            assert_eq!((got, lines.last().map(|l| l.ends_with(word))), (code, Some(true)), "{changed:?}");
        }
        assert_eq!(lines(&state(vec![], &[]), false).1, 1);
    }

    #[test]
    fn h8_certificates_have_a_line_where_there_are_any() {
        let mut state = state(vec![app("main", 1, 1)], &[]);
        let expires_in_days = Some(12);
        state.certificates = Some(crate::state::Certificates { status: Status::Degraded, count: 2, expires_in_days });
        let (lines, code) = lines(&state, false);
        assert!(
            lines.iter().any(|line| line.starts_with("certificates     degraded        the next expires in 12 days"))
        );
        assert_eq!(code, 1);
    }

    #[test]
    fn h8_verbose_says_how_long_it_took_and_what_to_set() {
        let mut state = state(vec![app("main", 1, 1)], &[]);
        state.services[0] = ServiceState { latency_ms: Some(3.25), ..ServiceState::new(Watched::Database, Status::Ok) };
        let text = lines(&state, true).0.join("\n");
        for part in ["version          1.0.0", "3.25 ms", "set REDIS_URL or REDIS_HOST", "uptime           3600 s"] {
            assert!(text.contains(part), "{part} in\n{text}");
        }
    }
}
