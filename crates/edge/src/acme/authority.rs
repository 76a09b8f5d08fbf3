//! Mainstay's own authority, for names no public one vouches for, and stand-ins for names that have no certificate
//! yet.
//!
//! Invariant: its root is limited to local names and private addresses, so that a stolen key of a developer's machine
//! vouches for nobody's site. A stand-in is signed by itself alone: nothing ever makes it trusted.

use super::failure::{Failure, chain};
use super::leaf;
use super::names::LOCAL_SUFFIXES;
use super::schedule::{DAY_S, Validity};
use super::store::Store;
use crate::tls;
use rcgen::{
    BasicConstraints, CertificateParams, CidrSubnet, DistinguishedName, DnType, ExtendedKeyUsagePurpose,
    GeneralSubtree, IsCa, Issuer, KeyPair, KeyUsagePurpose, NameConstraints, PublicKeyData,
};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::sign::CertifiedKey;
use std::path::Path;
use time::OffsetDateTime;

/// Within the store.
pub const ROOT_FILE: &str = "local/root.pem";
const ROOT_KEY: &str = "local/root.key";
const ROOT_LIFE_S: u64 = 10 * 365 * DAY_S;
/// A root this close to its end is replaced: leaves must end before it.
const ROOT_LEFT_MIN_S: u64 = 30 * DAY_S;
const LEAF_LIFE_S: u64 = 7 * DAY_S;
const STAND_IN_LIFE_S: u64 = 365 * DAY_S;
/// Clocks of clients may be behind.
const BEHIND_S: u64 = 3600;

pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    until_s: u64,
}

impl Authority {
    /// The one in the store; made where there is none, or none that can still be used.
    pub fn open(store: &Store, now_s: u64) -> Result<Authority, Failure> {
        let unreadable = |error: std::io::Error| Failure::new(error.to_string());
        let (root, key) = (store.get(ROOT_FILE).map_err(unreadable)?, store.get(ROOT_KEY).map_err(unreadable)?);
        if let (Some(root), Some(key)) = (root, key)
            && let Some(found) = Authority::read(&root, &key)
            && found.until_s > now_s + ROOT_LEFT_MIN_S
        {
            return Ok(found);
        }
        Authority::make(store, now_s)
    }

    fn read(root: &str, key: &str) -> Option<Authority> {
        let key = KeyPair::from_pem(key).ok()?;
        let der = CertificateDer::from_pem_slice(root.as_bytes()).ok()?;
        let leaf = leaf::Leaf::read(&der)?;
        // A key that is not the root's would sign what nobody believes.
        if leaf.pin != leaf::pin(&key.subject_public_key_info()) {
            return None;
        }
        let params = root_params(&key, leaf.validity);
        Some(Authority { issuer: Issuer::new(params, key), until_s: leaf.validity.until_s })
    }

    fn make(store: &Store, now_s: u64) -> Result<Authority, Failure> {
        let key = KeyPair::generate().map_err(cannot)?;
        let validity = Validity { from_s: now_s.saturating_sub(BEHIND_S), until_s: now_s + ROOT_LIFE_S };
        let params = root_params(&key, validity);
        let root = params.self_signed(&key).map_err(cannot)?;
        let unwritable = |error: std::io::Error| Failure::new(format!("the local authority cannot be kept: {error}"));
        store.put(ROOT_KEY, &key.serialize_pem()).map_err(unwritable)?;
        store.put(ROOT_FILE, &root.pem()).map_err(unwritable)?;
        Ok(Authority { issuer: Issuer::new(params, key), until_s: validity.until_s })
    }

    /// A certificate for local names, a week long.
    pub fn leaf(&self, names: &[String], now_s: u64) -> Result<CertifiedKey, Failure> {
        let key = KeyPair::generate().map_err(cannot)?;
        let until_s = (now_s + LEAF_LIFE_S).min(self.until_s);
        let params = leaf_params(names, Validity { from_s: now_s.saturating_sub(BEHIND_S), until_s })?;
        let made = params.signed_by(&key, &self.issuer).map_err(cannot)?;
        certified(made.der().clone(), &key)
    }
}

fn root_params(key: &KeyPair, validity: Validity) -> CertificateParams {
    let mut params = CertificateParams::default();
    // Two machines' roots lie side by side in a browser: their names differ, and are the same after a restart.
    let pin = leaf::pin(&key.subject_public_key_info());
    let mark: String = pin.chars().filter(char::is_ascii_alphanumeric).take(6).collect();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::OrganizationName, "Mainstay local authority");
    params.distinguished_name.push(DnType::CommonName, format!("Mainstay local authority {mark}"));
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    let names = LOCAL_SUFFIXES.iter().map(|suffix| GeneralSubtree::DnsName((*suffix).to_owned()));
    let private = [
        CidrSubnet::from_v4_prefix([127, 0, 0, 0], 8),
        CidrSubnet::from_v4_prefix([10, 0, 0, 0], 8),
        CidrSubnet::from_v4_prefix([172, 16, 0, 0], 12),
        CidrSubnet::from_v4_prefix([192, 168, 0, 0], 16),
        CidrSubnet::from_v4_prefix([169, 254, 0, 0], 16),
        CidrSubnet::from_v6_prefix([0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1], 128),
        CidrSubnet::from_v6_prefix([0xfc, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0], 7),
        CidrSubnet::from_v6_prefix([0xfe, 0x80, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0], 10),
    ];
    let permitted_subtrees = names.chain(private.into_iter().map(GeneralSubtree::IpAddress)).collect();
    params.name_constraints = Some(NameConstraints { permitted_subtrees, excluded_subtrees: Vec::new() });
    set(&mut params, validity);
    params
}

fn leaf_params(names: &[String], validity: Validity) -> Result<CertificateParams, Failure> {
    let mut params = CertificateParams::new(names.to_vec()).map_err(cannot)?;
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::OrganizationName, "Mainstay");
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    params.use_authority_key_identifier_extension = true;
    set(&mut params, validity);
    Ok(params)
}

fn set(params: &mut CertificateParams, validity: Validity) {
    let at = |s: u64| i64::try_from(s).ok().and_then(|s| OffsetDateTime::from_unix_timestamp(s).ok());
    params.not_before = at(validity.from_s).unwrap_or(OffsetDateTime::UNIX_EPOCH);
    params.not_after = at(validity.until_s).unwrap_or(OffsetDateTime::UNIX_EPOCH);
}

/// Signed by itself: a client that checks says so, one that does not can go on.
pub fn stand_in(names: &[String]) -> Result<CertifiedKey, Failure> {
    let key = KeyPair::generate().map_err(cannot)?;
    let now_s = mainstay_runtime::Clock::unix_micros() / 1_000_000;
    let validity = Validity { from_s: now_s.saturating_sub(BEHIND_S), until_s: now_s + STAND_IN_LIFE_S };
    let made = leaf_params(names, validity)?.self_signed(&key).map_err(cannot)?;
    certified(made.der().clone(), &key)
}

/// What an authority wants to see over TLS (RFC 8737 §3).
pub fn challenge(name: &str, digest: &[u8; 32]) -> Result<CertifiedKey, Failure> {
    let key = KeyPair::generate().map_err(cannot)?;
    let mut params = CertificateParams::new([name.to_owned()]).map_err(cannot)?;
    params.custom_extensions = vec![rcgen::CustomExtension::new_acme_identifier(digest)];
    let made = params.self_signed(&key).map_err(cannot)?;
    let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
    tls::unproved(made.der().clone(), &key).map_err(|error| Failure::new(chain(&error)))
}

fn certified(der: CertificateDer<'static>, key: &KeyPair) -> Result<CertifiedKey, Failure> {
    let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
    tls::pair(vec![der], &key).map_err(|error| Failure::new(chain(&error)))
}

fn cannot(error: rcgen::Error) -> Failure {
    Failure::new(format!("a certificate could not be made: {error}"))
}

/// How this system is told to believe the root; `is_there` looks for a folder or program.
pub fn trust_command(root: &Path, is_there: impl Fn(&str) -> bool) -> String {
    let root = root.display();
    let (folder, update) = if is_there("/usr/bin/security") {
        return format!("sudo security add-trusted-cert -d -k /Library/Keychains/System.keychain {root}");
    } else if is_there("/usr/local/share/ca-certificates") {
        ("/usr/local/share/ca-certificates", "update-ca-certificates")
    } else if is_there("/etc/pki/ca-trust/source/anchors") {
        ("/etc/pki/ca-trust/source/anchors", "update-ca-trust")
    } else if is_there("/etc/ca-certificates/trust-source/anchors") {
        ("/etc/ca-certificates/trust-source/anchors", "update-ca-trust")
    } else {
        return format!("curl --cacert {root} https://…   (this system's own store was not found)");
    };
    format!("sudo cp {root} {folder}/mainstay-local.crt && sudo {update}")
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW_S: u64 = 1_800_000_000;

    #[test]
    fn the_root_stays_and_its_leaves_are_short() {
        let dir = tempfile::tempdir().expect("dir");
        let store = Store::new(dir.path());
        let first = Authority::open(&store, NOW_S).expect("made");
        let again = Authority::open(&store, NOW_S).expect("read");
        let root = || store.get(ROOT_FILE).expect("get").expect("there");
        let had = root();
        assert_eq!(first.until_s, again.until_s);
        let leaf = again.leaf(&["app.localhost".to_owned(), "127.0.0.1".to_owned()], NOW_S).expect("leaf");
        let read = leaf::Leaf::read(&leaf.cert[0]).expect("read");
        assert_eq!(read.validity.until_s, NOW_S + LEAF_LIFE_S);
        assert_eq!(read.issuer, "Mainstay local authority");
        assert_eq!(root(), had);
        Authority::open(&store, NOW_S + ROOT_LIFE_S).expect("made anew");
        assert_ne!(root(), had);
    }

    #[test]
    fn a_damaged_root_is_replaced_not_fatal() {
        let dir = tempfile::tempdir().expect("dir");
        let store = Store::new(dir.path());
        Authority::open(&store, NOW_S).expect("made");
        let had = store.get(ROOT_FILE).expect("get");
        store.put(ROOT_KEY, &KeyPair::generate().expect("key").serialize_pem()).expect("put");
        Authority::open(&store, NOW_S).expect("made anew");
        assert_ne!(store.get(ROOT_FILE).expect("get"), had);
        store.put(ROOT_FILE, "not PEM").expect("put");
        assert!(Authority::open(&store, NOW_S).is_ok());
    }

    #[test]
    fn a_challenge_is_made_although_no_verifier_takes_it() {
        let made = challenge("a.example", &[7; 32]).expect("made");
        assert_eq!(leaf::Leaf::read(&made.cert[0]).expect("read").names, ["a.example"]);
    }

    #[test]
    fn the_command_fits_the_system() {
        let root = Path::new("/x/root.pem");
        let debian = trust_command(root, |path| path == "/usr/local/share/ca-certificates");
        assert!(debian.contains("update-ca-certificates") && debian.contains("/x/root.pem"), "{debian}");
        assert!(trust_command(root, |_| false).starts_with("curl --cacert"));
    }
}
