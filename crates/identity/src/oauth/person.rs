//! Whom a provider speaks of: read from the claims of an id token or a user endpoint, or from GitHub's two documents.

use super::fault::Untrusted;
use serde_json::{Map, Value};

/// OpenID Connect Core §2.
const SUBJECT_BYTES_MAX: usize = 255;
/// RFC 5321 §4.5.3.1.3.
const EMAIL_BYTES_MAX: usize = 254;
const NAME_CHARS_MAX: usize = 120;

/// What is known of somebody who came back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Person {
    pub subject: String,
    pub email: Option<String>,
    /// The provider says it has seen that the address is his.
    pub email_verified: bool,
    pub name: Option<String>,
}

impl Person {
    /// # Errors
    /// It names nobody.
    pub fn of_claims(claims: &Map<String, Value>) -> Result<Person, Untrusted> {
        let subject = match claims.get("sub") {
            Some(Value::String(subject)) => subject.clone(),
            _ => return Err(Untrusted::NoSubject),
        };
        let verified = match claims.get("email_verified") {
            Some(Value::Bool(verified)) => *verified,
            // LinkedIn writes it in quotes.
            Some(Value::String(verified)) => verified == "true",
            _ => false,
        };
        let email = email(claims.get("email"));
        let email_verified = verified && email.is_some();
        Ok(Person { subject: subject_of(subject)?, email, email_verified, name: name(claims.get("name")) })
    }

    /// What one document lacks the other may say, if both speak of the same.
    pub fn completed(self, other: Person) -> Result<Person, Untrusted> {
        if self.subject != other.subject {
            return Err(Untrusted::OtherSubject);
        }
        // An address and whether it is verified belong together.
        let (email, email_verified) = match self.email {
            Some(email) => (Some(email), self.email_verified),
            None => (other.email, other.email_verified),
        };
        Ok(Person { subject: self.subject, email, email_verified, name: self.name.or(other.name) })
    }

    /// `/user` and `/user/emails`. The address on the profile is whatever somebody wrote there: only the list counts.
    pub fn of_github(user: &Value, emails: Option<&Value>) -> Result<Person, Untrusted> {
        // The number stays when the login is renamed and taken by somebody else.
        let subject = user.get("id").and_then(Value::as_u64).ok_or(Untrusted::NoSubject)?.to_string();
        let is = |entry: &&Value, what: &str| entry.get(what) == Some(&Value::Bool(true));
        let list = emails.and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
        let primary = list.iter().find(|entry| is(entry, "primary") && is(entry, "verified"));
        let email = email(primary.and_then(|entry| entry.get("email")));
        let name = name(user.get("name")).or_else(|| name(user.get("login")));
        Ok(Person { subject, email_verified: email.is_some(), email, name })
    }
}

fn subject_of(text: String) -> Result<String, Untrusted> {
    let is_plain = text.bytes().all(|b| (0x21..0x7f).contains(&b));
    if is_plain && (1..=SUBJECT_BYTES_MAX).contains(&text.len()) { Ok(text) } else { Err(Untrusted::NoSubject) }
}

/// One address, or none: nothing that a mail program could read as two.
fn email(value: Option<&Value>) -> Option<String> {
    let text = value?.as_str()?;
    let (local, domain) = text.rsplit_once('@')?;
    let is_plain = |c: char| !c.is_control() && !c.is_whitespace() && !"<>,;:\"()[]\\@".contains(c);
    let good = !local.is_empty() && domain.contains('.') && text.len() <= EMAIL_BYTES_MAX;
    (good && local.chars().all(is_plain) && domain.chars().all(is_plain)).then(|| text.to_owned())
}

fn name(value: Option<&Value>) -> Option<String> {
    let text: String = value?.as_str()?.chars().filter(|c| !c.is_control()).take(NAME_CHARS_MAX).collect();
    let text = text.trim();
    (!text.is_empty()).then(|| text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn of(claims: Value) -> Result<Person, Untrusted> {
        Person::of_claims(claims.as_object().expect("an object"))
    }

    #[test]
    fn an_address_counts_as_verified_only_where_it_is_said_plainly() {
        for (verified, expected) in [
            (json!(true), true),
            (json!("true"), true),
            (json!(false), false),
            (json!("false"), false),
            (json!("yes"), false),
            (json!(1), false),
            (json!(null), false),
        ] {
            let person = of(json!({"sub": "1", "email": "a@b.example", "email_verified": verified})).expect("somebody");
            assert_eq!(person.email_verified, expected, "{verified}");
        }
        assert!(!of(json!({"sub": "1", "email": "a@b.example"})).expect("somebody").email_verified);
        assert!(!of(json!({"sub": "1", "email_verified": true})).expect("somebody").email_verified);
        for address in
            ["a", "@b.example", "a@b", "a@b.example,c@d.example", "<a@b.example>", "a b@c.example", "a@b.e\n"]
        {
            let person = of(json!({"sub": "1", "email": address, "email_verified": true})).expect("somebody");
            assert_eq!((person.email, person.email_verified), (None, false), "{address}");
        }
        for subject in [json!(""), json!(7), json!(null), json!("a b"), json!("a\n"), json!("x".repeat(256))] {
            assert_eq!(of(json!({ "sub": subject })), Err(Untrusted::NoSubject), "{subject}");
        }
    }

    #[test]
    fn two_documents_are_joined_only_where_they_speak_of_one() {
        let token = of(json!({"sub": "1", "name": "A"})).expect("somebody");
        let user = of(json!({"sub": "1", "email": "a@b.example", "email_verified": true})).expect("somebody");
        let both = token.clone().completed(user.clone()).expect("one");
        assert!(both.email_verified && both.name.as_deref() == Some("A"));
        let other = of(json!({"sub": "2", "email": "a@b.example", "email_verified": true})).expect("somebody");
        assert_eq!(token.completed(other), Err(Untrusted::OtherSubject));
        // That one address is verified says nothing of another.
        let unverified = of(json!({"sub": "1", "email": "c@d.example"})).expect("somebody");
        assert!(!unverified.completed(user).expect("one").email_verified);
    }

    #[test]
    fn githubs_profile_address_proves_nothing() {
        let user = json!({"id": 583231, "login": "octocat", "email": "victim@example.com", "name": null});
        let person = |emails: Value| Person::of_github(&user, Some(&emails)).expect("somebody");
        let list = json!([
            {"email": "second@example.com", "primary": false, "verified": true},
            {"email": "own@example.com", "primary": true, "verified": true},
        ]);
        assert_eq!(person(list).email.as_deref(), Some("own@example.com"));
        let unverified = json!([{"email": "victim@example.com", "primary": true, "verified": false}]);
        for emails in [unverified, json!([]), json!({"message": "Not Found"})] {
            let person = person(emails);
            assert_eq!((person.email, person.email_verified), (None, false));
            assert_eq!((&*person.subject, person.name.as_deref()), ("583231", Some("octocat")));
        }
        assert_eq!(Person::of_github(&user, None).expect("somebody").email, None);
        assert_eq!(Person::of_github(&json!({"login": "octocat"}), None), Err(Untrusted::NoSubject));
    }
}
