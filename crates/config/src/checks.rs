//! What is wrong with variables whatever block reads them: weak secrets and broken connection strings.

use crate::reader::Reader;

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
    for name in URLS {
        let _ = reader.url(name);
    }
}
