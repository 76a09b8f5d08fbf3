//! Where a provider's endpoints are: as it publishes them (OpenID Connect Discovery), or as GitHub's are known.

use super::address::is_safe;
use super::fault::Untrusted;
use super::kind::{Manners, SecretIn};
use super::options::Provider;
use serde_json::{Map, Value};

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Metadata {
    /// What `iss` says, where the provider has such a thing.
    pub issuer: Option<String>,
    pub authorization: String,
    pub token: String,
    /// Where its keys are.
    pub jwks: Option<String>,
    /// Who it is, asked with the access token.
    pub user: Option<String>,
    /// GitHub's list of addresses.
    pub emails: Option<String>,
    /// The secret goes into the header.
    pub basic: bool,
    /// It says who it is when it sends the browser back (RFC 9207), always.
    pub names_itself: bool,
}

impl Metadata {
    /// GitHub publishes nothing. An enterprise server has its API below `/api/v3`.
    pub fn of_github(base: &str) -> Metadata {
        let base = base.trim_end_matches('/');
        let api = if base == "https://github.com" { "https://api.github.com".into() } else { format!("{base}/api/v3") };
        Metadata {
            issuer: None,
            authorization: format!("{base}/login/oauth/authorize"),
            token: format!("{base}/login/oauth/access_token"),
            jwks: None,
            user: Some(format!("{api}/user")),
            emails: Some(format!("{api}/user/emails")),
            basic: false,
            names_itself: false,
        }
    }

    /// # Errors
    /// It is not the document of this issuer, or lacks what a login needs.
    pub fn read(document: &Map<String, Value>, provider: &Provider) -> Result<Metadata, Untrusted> {
        let manners = provider.kind.manners();
        let issuer = document.get("issuer").and_then(Value::as_str).ok_or(Untrusted::Document("issuer"))?;
        if !is_issuer(issuer, provider, &manners) {
            return Err(Untrusted::OtherIssuer);
        }
        let endpoint = |name: &'static str| match document.get(name).and_then(Value::as_str) {
            Some(address) if is_endpoint(address, &provider.issuer) => Ok(Some(address.to_owned())),
            Some(_) => Err(Untrusted::Document(name)),
            None => Ok(None),
        };
        let needed = |name: &'static str| endpoint(name)?.ok_or(Untrusted::Document(name));
        let basic = match manners.secret {
            SecretIn::Body => false,
            SecretIn::AsPublished => prefers_header(document),
        };
        Ok(Metadata {
            issuer: Some(issuer.to_owned()),
            authorization: needed("authorization_endpoint")?,
            token: needed("token_endpoint")?,
            jwks: Some(needed("jwks_uri")?),
            user: endpoint("userinfo_endpoint")?,
            emails: None,
            basic,
            names_itself: document.get("authorization_response_iss_parameter_supported") == Some(&Value::Bool(true)),
        })
    }
}

/// The issuer as it was written in the file, to the letter, or under a name that this kind is known to use.
pub(crate) fn is_issuer(named: &str, provider: &Provider, manners: &Manners) -> bool {
    named == provider.issuer || (manners.issuer == Some(&*provider.issuer) && manners.also.contains(&named))
}

/// An issuer on another machine never leads to one without TLS, nor to what listens on this one.
fn is_endpoint(address: &str, issuer: &str) -> bool {
    let here = |text: &str| text.starts_with("http://");
    is_safe(address).is_ok() && (here(issuer) || !here(address))
}

fn prefers_header(document: &Map<String, Value>) -> bool {
    let Some(methods) = document.get("token_endpoint_auth_methods_supported").and_then(Value::as_array) else {
        return true;
    };
    let has = |name: &str| methods.iter().any(|method| method == name);
    has("client_secret_basic") || !has("client_secret_post")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::oauth::options::tests::provider;
    use serde_json::json;

    fn document() -> Value {
        json!({
            "issuer": "https://id.example",
            "authorization_endpoint": "https://id.example/auth",
            "token_endpoint": "https://id.example/token",
            "jwks_uri": "https://keys.example/jwks",
            "userinfo_endpoint": "https://id.example/me",
        })
    }

    fn read(more: Value) -> Result<Metadata, Untrusted> {
        let mut document = document();
        for (name, value) in more.as_object().expect("an object") {
            document[name] = value.clone();
        }
        Metadata::read(document.as_object().expect("an object"), &provider("corp", "https://id.example"))
    }

    #[test]
    fn a_document_is_its_issuers_own_and_leads_nowhere_without_tls() {
        let good = read(json!({})).expect("good");
        assert!(good.basic && !good.names_itself);
        assert_eq!(good.user.as_deref(), Some("https://id.example/me"));
        assert_eq!(read(json!({"issuer": "https://id.example/"})), Err(Untrusted::OtherIssuer));
        assert_eq!(read(json!({"issuer": "https://evil.example"})), Err(Untrusted::OtherIssuer));
        for name in ["authorization_endpoint", "token_endpoint", "jwks_uri", "userinfo_endpoint"] {
            for address in ["http://id.example/x", "http://127.0.0.1/x", "javascript:alert(1)", "/x"] {
                assert_eq!(read(json!({ name: address })), Err(Untrusted::Document(name)), "{address}");
            }
        }
        assert_eq!(read(json!({"token_endpoint": null})), Err(Untrusted::Document("token_endpoint")));
        assert_eq!(read(json!({"userinfo_endpoint": null})).expect("it may lack").user, None);
    }

    #[test]
    fn the_secret_goes_where_the_provider_takes_it() {
        for (methods, basic) in [
            (json!(["client_secret_post"]), false),
            (json!(["client_secret_post", "client_secret_basic"]), true),
            (json!(["private_key_jwt"]), true),
        ] {
            let read = read(json!({ "token_endpoint_auth_methods_supported": methods })).expect("good");
            assert_eq!(read.basic, basic, "{methods}");
        }
    }

    #[test]
    fn githubs_own_api_and_an_enterprise_servers() {
        let public = Metadata::of_github("https://github.com");
        assert_eq!(public.emails.as_deref(), Some("https://api.github.com/user/emails"));
        let own = Metadata::of_github("https://git.example/");
        assert_eq!(own.authorization, "https://git.example/login/oauth/authorize");
        assert_eq!(own.user.as_deref(), Some("https://git.example/api/v3/user"));
    }
}
