//! The providers as they are: where each lives, and how each deviates from OpenID Connect.

/// How a provider speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Google,
    GitHub,
    LinkedIn,
    /// Any that publishes `/.well-known/openid-configuration`.
    Oidc,
}

/// Where a client's secret stands in a token request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum SecretIn {
    /// As the provider publishes; where it does not, in the header (OpenID Connect Discovery §3).
    AsPublished,
    Body,
}

/// What is special about a kind.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Manners {
    /// As a person writes it.
    pub title: &'static str,
    /// Where it lives, if there is one such place.
    pub issuer: Option<&'static str>,
    /// Other names it gives itself in `iss`.
    pub also: &'static [&'static str],
    pub scopes: &'static [&'static str],
    /// Refuses a request with a challenge otherwise.
    pub pkce: bool,
    /// The id token repeats the nonce.
    pub echoes_nonce: bool,
    pub secret: SecretIn,
    /// There are id tokens; else a user endpoint is asked.
    pub has_id_token: bool,
}

impl Kind {
    pub(crate) const NAMES: [&str; 4] = ["google", "github", "linkedin", "oidc"];

    pub(crate) fn of(name: &str) -> Option<Kind> {
        match name {
            "google" => Some(Kind::Google),
            "github" => Some(Kind::GitHub),
            "linkedin" => Some(Kind::LinkedIn),
            "oidc" => Some(Kind::Oidc),
            _ => None,
        }
    }

    pub(crate) fn manners(self) -> Manners {
        match self {
            Kind::Google => Manners {
                title: "Google",
                issuer: Some("https://accounts.google.com"),
                also: &["accounts.google.com"],
                scopes: &["openid", "email", "profile"],
                pkce: true,
                echoes_nonce: true,
                secret: SecretIn::Body,
                has_id_token: true,
            },
            // No OpenID Connect at all: who it is stands at /user, the addresses at /user/emails.
            Kind::GitHub => Manners {
                title: "GitHub",
                issuer: Some("https://github.com"),
                also: &[],
                scopes: &["read:user", "user:email"],
                pkce: true,
                echoes_nonce: false,
                secret: SecretIn::Body,
                has_id_token: false,
            },
            // A challenge is refused as `invalid_client` unless it was turned on for the app, and no nonce comes back.
            Kind::LinkedIn => Manners {
                title: "LinkedIn",
                issuer: Some("https://www.linkedin.com/oauth"),
                also: &["https://www.linkedin.com"],
                scopes: &["openid", "profile", "email"],
                pkce: false,
                echoes_nonce: false,
                secret: SecretIn::Body,
                has_id_token: true,
            },
            Kind::Oidc => Manners {
                title: "the provider",
                issuer: None,
                also: &[],
                scopes: &["openid", "email", "profile"],
                pkce: true,
                echoes_nonce: true,
                secret: SecretIn::AsPublished,
                has_id_token: true,
            },
        }
    }
}
