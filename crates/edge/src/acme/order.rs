//! One order, from the account to the chain, as RFC 8555 has it.
//!
//! Must never be called in a loop without `schedule`: authorities count.

use super::challenge::{Challenges, Placed};
use super::client::Http;
use super::failure::{Failure, Kind};
use super::options::Directory;
use super::revoke::Reason;
use super::store::{Store, plain};
use instant_acme::{
    Account, AccountCredentials, AuthorizationStatus, CertificateIdentifier, ChallengeType, ExternalAccountKey,
    Identifier, NewAccount, NewOrder, Order, OrderStatus, RetryPolicy, RevocationReason, RevocationRequest,
};
use rcgen::{CertificateParams, DistinguishedName, KeyPair};
use rustls::pki_types::CertificateDer;
use std::time::Duration;

/// Orders begun anew within one attempt, where the fault is a nonce or an account that is gone.
const AGAIN_MAX: usize = 5;
/// An authority looks from several places, and queues.
const STEP_MAX: Duration = Duration::from_secs(90);
const ORDER_MAX: Duration = Duration::from_secs(240);
const POLL_FIRST: Duration = Duration::from_millis(250);

pub struct Ask<'a> {
    pub http: &'a Http,
    pub store: &'a Store,
    pub challenges: &'a Challenges,
    pub directory: &'a Directory,
    pub email: Option<&'a str>,
    pub names: &'a [String],
    pub key: &'a KeyPair,
    pub challenge: ChallengeType,
    /// What this one takes the place of, where the authority gives renewal information.
    pub replaces: Option<&'a CertificateDer<'a>>,
}

/// The chain, PEM.
pub async fn obtain(mut ask: Ask<'_>) -> Result<String, Failure> {
    let attempts = async {
        let mut again = 0;
        loop {
            match once(&ask).await {
                Err(failure) if failure.may_repeat() && again < AGAIN_MAX => {
                    again += 1;
                    match failure.kind {
                        Kind::Account => forget_account(&ask)?,
                        Kind::Replaced => ask.replaces = None,
                        _ => {}
                    }
                }
                Err(failure) if matches!(failure.kind, Kind::Limited(_)) => {
                    return Err(Failure { kind: Kind::Limited(ask.http.retry_after()), ..failure });
                }
                end => return end,
            }
        }
    };
    let late = || Failure::new(format!("no certificate within {} s", ORDER_MAX.as_secs()));
    tokio::time::timeout(ORDER_MAX, attempts).await.map_err(|_| late())?
}

async fn once(ask: &Ask<'_>) -> Result<String, Failure> {
    let account = account(ask).await?;
    let identifiers: Vec<Identifier> = ask.names.iter().map(|name| identifier(name)).collect();
    let mut new = NewOrder::new(&identifiers);
    if let Some(id) = ask.replaces.and_then(|old| CertificateIdentifier::try_from(old).ok()) {
        new = new.replaces(id);
    }
    let mut order = match account.new_order(&new).await.map_err(Failure::from) {
        // It may not know what is to be replaced, or give no renewal information any more: the order is made without,
        // or the certificate would never be renewed.
        Err(failure) if ask.replaces.is_some() && failure.kind == Kind::Refused => {
            return Err(Failure { kind: Kind::Replaced, ..failure });
        }
        order => order?,
    };
    let policy = RetryPolicy::new().initial_delay(POLL_FIRST).backoff(1.5).timeout(STEP_MAX);
    let placed = answer(ask, &mut order).await?;
    match order.poll_ready(&policy).await {
        Ok(OrderStatus::Ready) => {}
        Ok(_) => return Err(why(&mut order).await),
        Err(error @ instant_acme::Error::Api(_)) => {
            let failure = Failure::from(error);
            let told = if failure.kind == Kind::Refused { why(&mut order).await } else { failure };
            return Err(told);
        }
        Err(error) => return Err(error.into()),
    }
    drop(placed);
    let mut request = CertificateParams::new(ask.names.to_vec()).map_err(unmakable)?;
    request.distinguished_name = DistinguishedName::new();
    let request = request.serialize_request(ask.key).map_err(unmakable)?;
    order.finalize_csr(request.der()).await?;
    Ok(order.poll_certificate(&policy).await?)
}

fn unmakable(error: rcgen::Error) -> Failure {
    Failure::new(format!("the request could not be made: {error}"))
}

fn identifier(name: &str) -> Identifier {
    name.parse().map_or_else(|_| Identifier::Dns(name.to_owned()), Identifier::Ip)
}

/// Puts what the authority will look for in its place, then says so.
async fn answer(ask: &Ask<'_>, order: &mut Order) -> Result<Vec<Placed>, Failure> {
    let mut placed = Vec::new();
    let mut authorizations = order.authorizations();
    while let Some(authorization) = authorizations.next().await {
        let mut authorization = authorization?;
        let name = authorization.identifier().to_string();
        match authorization.status {
            AuthorizationStatus::Pending => {}
            AuthorizationStatus::Valid => continue,
            other => return Err(Failure::new(format!("{name}: the authorization is {other:?}"))),
        }
        let missing = || Failure::new(format!("{name}: the authority offers no {}", word(&ask.challenge)));
        let mut challenge = authorization.challenge(ask.challenge.clone()).ok_or_else(missing)?;
        let answer = challenge.key_authorization();
        placed.push(ask.challenges.place(&ask.challenge, &name, &challenge.token, &answer)?);
        challenge.set_ready().await?;
    }
    Ok(placed)
}

pub fn word(challenge: &ChallengeType) -> &'static str {
    match challenge {
        ChallengeType::TlsAlpn01 => "tls-alpn-01",
        _ => "http-01",
    }
}

/// What the authority found when it looked; the order itself says only that it failed.
async fn why(order: &mut Order) -> Failure {
    let mut found = Vec::new();
    let mut authorizations = order.authorizations();
    while let Some(Ok(mut authorization)) = authorizations.next().await {
        let name = authorization.identifier().to_string();
        let Ok(state) = authorization.refresh().await else { continue };
        for challenge in &state.challenges {
            if let Some(problem) = &challenge.error {
                let detail = problem.detail.clone().unwrap_or_else(|| problem.to_string());
                found.push(format!("{name}: {} failed: {detail}", word(&challenge.r#type)));
            }
        }
    }
    match found.is_empty() {
        true => Failure::new("the authority refused the order and did not say why"),
        false => Failure::new(found.join("; ")),
    }
}

fn account_key(directory: &Directory) -> String {
    format!("accounts/{}.json", plain(directory.url.split("://").nth(1).unwrap_or(&directory.url)))
}

fn forget_account(ask: &Ask<'_>) -> Result<(), Failure> {
    ask.store.remove(&account_key(ask.directory)).map_err(|error| Failure::new(error.to_string()))
}

/// The stored account of this directory, or a new one.
async fn account(ask: &Ask<'_>) -> Result<Account, Failure> {
    if let Some(account) = known_account(ask.http, ask.store, ask.directory).await? {
        return Ok(account);
    }
    let builder = Account::builder_with_http(Box::new(ask.http.clone()));
    let contact = ask.email.map(|email| format!("mailto:{email}"));
    let contact: Vec<&str> = contact.as_deref().into_iter().collect();
    let new = NewAccount { contact: &contact, terms_of_service_agreed: true, only_return_existing: false };
    let eab = ask.directory.eab.as_ref().map(|eab| ExternalAccountKey::new(eab.kid.clone(), &eab.key));
    let (account, credentials) = builder.create(&new, ask.directory.url.clone(), eab.as_ref()).await?;
    let text = serde_json::to_string(&credentials).map_err(|error| Failure::new(error.to_string()))?;
    ask.store
        .put(&account_key(ask.directory), &text)
        .map_err(|error| Failure::new(format!("the account cannot be kept: {error}")))?;
    Ok(account)
}

async fn known_account(http: &Http, store: &Store, directory: &Directory) -> Result<Option<Account>, Failure> {
    let stored = store.get(&account_key(directory)).map_err(|error| Failure::new(error.to_string()))?;
    // What cannot be read is made anew: an account holds nothing but a key.
    let credentials = stored.and_then(|text| serde_json::from_str::<AccountCredentials>(&text).ok());
    let Some(credentials) = credentials else { return Ok(None) };
    let builder = Account::builder_with_http(Box::new(http.clone()));
    Ok(Some(builder.from_credentials(credentials).await?))
}

/// By the account that ordered it, which needs no other key.
pub async fn revoke(
    http: &Http,
    store: &Store,
    directory: &Directory,
    certificate: &CertificateDer<'_>,
    reason: Reason,
) -> Result<(), Failure> {
    let Some(account) = known_account(http, store, directory).await? else {
        return Err(Failure::new(
            "the account that ordered it is no longer in the data folder; the authority's own site can revoke it too",
        ));
    };
    let reason = match reason {
        Reason::Unspecified => RevocationReason::Unspecified,
        Reason::KeyCompromise => RevocationReason::KeyCompromise,
        Reason::AffiliationChanged => RevocationReason::AffiliationChanged,
        Reason::Superseded => RevocationReason::Superseded,
        Reason::CessationOfOperation => RevocationReason::CessationOfOperation,
    };
    let mut again = 0;
    loop {
        let asked = RevocationRequest { certificate, reason: Some(reason.clone()) };
        match account.revoke(&asked).await.map_err(Failure::from) {
            Err(failure) if failure.kind == Kind::Nonce && again < AGAIN_MAX => again += 1,
            end => return end,
        }
    }
}

/// When the authority would have this certificate renewed: a window, and in how many seconds to ask again. `None`:
/// it gives no such information.
pub async fn window(
    http: &Http,
    store: &Store,
    directory: &Directory,
    certificate: &CertificateDer<'_>,
) -> Result<Option<((u64, u64), u64)>, Failure> {
    let Some(account) = known_account(http, store, directory).await? else { return Ok(None) };
    let Ok(id) = CertificateIdentifier::try_from(certificate) else { return Ok(None) };
    match account.renewal_info(&id).await {
        Ok((told, again)) => {
            let second = |at: time::OffsetDateTime| u64::try_from(at.unix_timestamp()).unwrap_or(0);
            let window = (second(told.suggested_window.start), second(told.suggested_window.end));
            // RFC 9773 §4.2: such an answer is none.
            if window.1 <= window.0 {
                return Err(Failure::new("the suggested window ends before it begins"));
            }
            if let Some(page) = told.explanation_url {
                tracing::info!(authority = directory.name(), page, "the authority says why it would have it renewed");
            }
            Ok(Some((window, again.as_secs())))
        }
        Err(instant_acme::Error::Unsupported(_)) => Ok(None),
        Err(error) => Err(error.into()),
    }
}
