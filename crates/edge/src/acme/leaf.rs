//! What a certificate says of itself: names, times, pin, responder. Pure.

use super::names::covers;
use super::schedule::Validity;
use aws_lc_rs::digest;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use std::net::IpAddr;
use x509_parser::prelude::{FromDer, GeneralName, ParsedExtension, X509Certificate};

/// `id-ad-ocsp`, RFC 5280 §4.2.2.1.
const OCSP: &str = "1.3.6.1.5.5.7.48.1";

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Leaf {
    pub names: Vec<String>,
    pub validity: Validity,
    pub issuer: String,
    pub serial: String,
    /// SHA-256 of the public key, base64: what apps pin (RFC 7469 §2.4).
    pub pin: String,
    /// Where its revocation can be asked for.
    pub responder: Option<String>,
}

impl Leaf {
    /// `None`: not a certificate we can read. It may be served all the same.
    pub fn read(der: &[u8]) -> Option<Leaf> {
        let (_, certificate) = X509Certificate::from_der(der).ok()?;
        let second = |at: i64| u64::try_from(at).unwrap_or(0);
        let validity = certificate.validity();
        let issuer = certificate.issuer();
        let said = issuer.iter_organization().chain(issuer.iter_common_name()).find_map(|part| part.as_str().ok());
        Some(Leaf {
            names: names(&certificate),
            validity: Validity {
                from_s: second(validity.not_before.timestamp()),
                until_s: second(validity.not_after.timestamp()),
            },
            issuer: said.map_or_else(|| issuer.to_string(), str::to_owned),
            serial: certificate.raw_serial_as_string(),
            pin: pin(certificate.public_key().raw),
            responder: responder(&certificate),
        })
    }

    pub fn covers(&self, host: &str) -> bool {
        self.names.iter().any(|name| covers(name, host))
    }
}

/// Of a public key in its `SubjectPublicKeyInfo` form.
pub fn pin(key: &[u8]) -> String {
    STANDARD.encode(digest::digest(&digest::SHA256, key))
}

fn names(certificate: &X509Certificate<'_>) -> Vec<String> {
    let Ok(Some(names)) = certificate.subject_alternative_name() else { return Vec::new() };
    let one = |name: &GeneralName<'_>| match name {
        GeneralName::DNSName(name) => Some(name.to_ascii_lowercase()),
        GeneralName::IPAddress(bytes) => match bytes.len() {
            4 => <[u8; 4]>::try_from(*bytes).ok().map(|b| IpAddr::from(b).to_string()),
            _ => <[u8; 16]>::try_from(*bytes).ok().map(|b| IpAddr::from(b).to_string()),
        },
        _ => None,
    };
    names.value.general_names.iter().filter_map(one).collect()
}

fn responder(certificate: &X509Certificate<'_>) -> Option<String> {
    let access = certificate.extensions().iter().find_map(|extension| match extension.parsed_extension() {
        ParsedExtension::AuthorityInfoAccess(access) => Some(access),
        _ => None,
    })?;
    access.accessdescs.iter().find_map(|one| match &one.access_location {
        GeneralName::URI(uri) if one.access_method.to_id_string() == OCSP => Some((*uri).to_owned()),
        _ => None,
    })
}

#[cfg(test)]
mod tests {
    use super::super::authority;
    use super::*;

    #[test]
    fn what_was_put_in_is_read_back() {
        let names = ["a.example".to_owned(), "*.b.example".to_owned(), "10.0.0.1".to_owned()];
        let made = authority::stand_in(&names).expect("made");
        let leaf = Leaf::read(&made.cert[0]).expect("read");
        assert_eq!(leaf.names, names);
        assert!(leaf.validity.from_s < leaf.validity.until_s);
        assert!(leaf.covers("a.example") && leaf.covers("x.b.example") && !leaf.covers("b.example"));
        assert_eq!((leaf.pin.len(), leaf.responder), (44, None));
        assert!(Leaf::read(b"\x30\x03abc").is_none());
    }
}
