//! Which names hold secrets, and which secrets are too weak. Pure; no message holds a value.

mod samples;

/// Endings of names whose values are secret.
const SECRET_ENDINGS: [&str; 20] = [
    "SECRET",
    "PASSWORD",
    "PASSWD",
    "PASS",
    "PASSPHRASE",
    "TOKEN",
    "API_KEY",
    "APIKEY",
    "PRIVATE_KEY",
    "SECRET_KEY",
    "SECRET_KEY_BASE",
    "SECRET_ACCESS_KEY",
    "SECRET_PREVIOUS",
    "ACCESS_KEY",
    "ENCRYPTION_KEY",
    "SIGNING_KEY",
    "SSH_KEY",
    "WEBHOOK_URL",
    "CREDENTIALS",
    "PGPASSWORD",
];

/// Shorter signing secrets can be guessed offline from one token.
const LEAST_CHARS: usize = 32;

/// `*_SECRET`, `*_PASSWORD`, `*_TOKEN`, `*_API_KEY`, `PRIVATE_KEY` and the like, in any case.
pub fn is_secret_name(name: &str) -> bool {
    let name = name.to_ascii_uppercase().replace(['-', '.'], "_");
    SECRET_ENDINGS
        .iter()
        .any(|ending| name.strip_suffix(ending).is_some_and(|before| before.is_empty() || before.ends_with('_')))
        || ["DATABASEPASSWORD", "JWTSECRET", "SESSIONSECRET"].contains(&name.as_str())
}

/// The length a name asks for; 0 where any will do.
pub fn least_chars(name: &str) -> usize {
    if crate::checks::SECRETS.contains(&name) { LEAST_CHARS } else { 0 }
}

/// What makes this value too weak for production, as a sentence without the value; `None` when it will do.
pub fn weakness(name: &str, value: &str) -> Option<String> {
    weakness_below(name, value, least_chars(name))
}

/// Like `weakness`, with the least length said.
pub fn weakness_below(name: &str, value: &str, least_chars: usize) -> Option<String> {
    let trimmed = value.trim();
    if trimmed.is_empty() {
        return Some(format!("{name} is empty"));
    }
    if let Some(sample) = samples::sample(trimmed, least_chars > 0) {
        return Some(format!("{name} is {sample}"));
    }
    let chars = trimmed.chars().count();
    if chars < least_chars {
        let plural = if chars == 1 { "" } else { "s" };
        return Some(format!("{name} is {chars} character{plural}, at least {least_chars} are needed"));
    }
    if least_chars > 0 {
        return samples::pattern(trimmed).map(|pattern| format!("{name} is {pattern}"));
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_hold_secrets() {
        for name in [
            "JWT_SECRET",
            "jwt_secret",
            "POSTGRES_PASSWORD",
            "SMTP_PASS",
            "SNYK_TOKEN",
            "ANTHROPIC_API_KEY",
            "PRIVATE_KEY",
            "AWS_SECRET_ACCESS_KEY",
            "PGPASSWORD",
            "JWT_SECRET_PREVIOUS",
            "SLACK_WEBHOOK_URL",
            "password",
            "auth-token",
        ] {
            assert!(is_secret_name(name), "{name}");
        }
        for name in [
            "PORT",
            "REFRESH_TOKEN_EXPIRES_IN",
            "DATABASE_URL",
            "key",
            "BYPASS",
            "JWT_SECRET_FILE",
            "AWS_ACCESS_KEY_ID",
            "",
        ] {
            assert!(!is_secret_name(name), "{name}");
        }
    }

    #[test]
    fn length_is_counted_in_characters() {
        let short = weakness("JWT_SECRET", "k3J9xQ_7vZt").expect("short");
        assert_eq!(short, "JWT_SECRET is 11 characters, at least 32 are needed");
        let good = "k3J9xQ7vZtB2mW8rLpYc5NdHs6Gf4TqA";
        assert_eq!(weakness("JWT_SECRET", good), None);
        assert!(weakness_below("JWT_SECRET", good, 64).is_some_and(|w| w.contains("at least 64")));
        assert_eq!(weakness("SMTP_PASS", "k3J9"), None);
        assert!(weakness("SMTP_PASS", "changeme").is_some());
        assert!(weakness("SESSION_SECRET", "  ").is_some_and(|w| w.contains("empty")));
    }

    #[test]
    fn no_message_holds_the_value() {
        for value in ["hunter2hunter2", "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa", "your-secret-key-here", "<secret>"] {
            let weakness = weakness("JWT_SECRET", value).expect(value);
            assert!(!weakness.contains(value), "{weakness}");
        }
    }

    #[test]
    fn every_sample_of_the_guides_is_refused() {
        for value in [
            "your-secret-key-here",
            "your-production-secret-key",
            "your-super-secret-jwt-key",
            "your-super-secret-jwt-key-change-in-production",
            "your-app-password",
            "your-smtp-password",
            "<generate-64-char-random-string>",
            "<generate-strong-password-64-chars>",
            "<production-google-client-secret>",
            "<secret>",
            "...",
            "0x...",
            "sk-ant-...",
            "secret",
            "changeme",
            "ChangeMe123",
            "password",
            "postgres",
            "supersecret",
            "keyboard cat",
            "please-change-this-to-a-long-random-string-1234",
            "${JWT_SECRET}",
            "a-string-secret-at-least-256-bits-long",
            "my_secret_key_that_is_long_enough_for_everyone",
            "development-secret-do-not-use-in-production-ever",
        ] {
            assert!(weakness("JWT_SECRET", value).is_some_and(|w| !w.contains("at least")), "{value}");
        }
    }

    #[test]
    fn patterns_are_refused_and_random_values_are_not() {
        for value in [
            "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
            "abababababababababababababababababab",
            "abcdefghijklmnopqrstuvwxyz0123456789",
            "qwertyuiopasdfghjklzxcvbnm1234567890",
            "12345678901234567890123456789012",
            "deadbeefdeadbeefdeadbeefdeadbeef",
            "0123456789abcdef0123456789abcdef",
        ] {
            assert!(weakness("JWT_SECRET", value).is_some(), "{value}");
        }
        for value in [
            "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08",
            "4a1e7c52-0b7b-4f0e-9c55-1b1f6a7e2d90",
            "q83vEjRWeJASNFZ4kBI0VniQEjRWeJASNFZ4kKvN7wE=",
            "correct horse battery staple quiet lamp",
        ] {
            assert_eq!(weakness("JWT_SECRET", value), None, "{value}");
        }
    }
}
