//! What is wrong with variables whatever block reads them: weak secrets and broken connection strings.

use crate::fault::Fault;
use crate::reader::Reader;
use crate::{mask, secret};

/// Secrets whose strength decides who can sign in.
pub const SECRETS: [&str; 4] = ["JWT_SECRET", "JWT_SECRET_PREVIOUS", "JWT_REFRESH_SECRET", "SESSION_SECRET"];

/// Connection strings of the guides.
pub const URLS: [&str; 3] = ["DATABASE_URL", "DATABASE_REPLICA_URL", "REDIS_URL"];

/// Weak secrets and broken connection strings: faults in production, warnings in development. `least_chars` raises or
/// lowers the least length of every secret; `None` takes the usual 32.
pub fn variables(reader: &Reader, least_chars: Option<usize>) {
    for name in SECRETS {
        let _ = reader.secret(name, least_chars);
    }
    development_values(reader);
    for name in URLS {
        let _ = reader.url(name);
    }
    samples(reader);
}

/// A secret that production has in common with development is known to everybody who has the sources. What is weak
/// besides is refused already; a strong one may be meant, so it is a warning.
fn development_values(reader: &Reader) {
    if !reader.environment().production {
        return;
    }
    for (name, value, at) in reader.set_secrets() {
        if SECRETS.contains(&name.as_str())
            && let Some(place) = reader.in_development(&name, &value)
        {
            let what = format!("{name} has in production the value it has in development ({place})");
            reader.warn_with(Fault::new(&at, what).fix(format!("mainstay secret {name}")));
        }
    }
}

/// Any other secret that holds a guide's sample or a placeholder: worth a word in production, and no more, since it is
/// the app that uses it. In development `POSTGRES_PASSWORD=postgres` is nobody's fault.
fn samples(reader: &Reader) {
    if !reader.environment().production {
        return;
    }
    for (name, value, at) in reader.set_secrets() {
        if SECRETS.contains(&name.as_str()) {
            continue;
        }
        if let Some(weakness) = secret::weakness_below(&name, &value, 0) {
            reader.warn_with(Fault::new(&at, weakness).fix(format!("mainstay secret {}", mask::cut(&name))));
        }
    }
}
