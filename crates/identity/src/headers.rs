//! The headers an app reads an identity from, and every spelling in which a client could send one of its own.

pub const USER: &str = "X-User-Id";
pub const ROLES: &str = "X-User-Roles";
pub const TENANT: &str = "X-Tenant-Id";
/// The statement: what the other three say, signed.
pub const IDENTITY: &str = "Mainstay-Identity";

const ALL: [&str; 4] = [USER, ROLES, TENANT, IDENTITY];

/// CGI, WSGI, Rack and PHP make one variable of `X-User-Id`, `X_User_Id` and `x.user.id`: to them they are one header.
pub fn is_identity_header(name: &[u8]) -> bool {
    ALL.iter().any(|known| {
        known.len() == name.len() && known.bytes().zip(name).all(|(known, &given)| plain(known) == plain(given))
    })
}

fn plain(byte: u8) -> u8 {
    if byte.is_ascii_alphanumeric() { byte.to_ascii_lowercase() } else { b'-' }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_spelling_is_one_header() {
        for name in
            ["X-User-Id", "x-user-id", "X_USER_ID", "x-user_id", "X.User.Id", "mainstay_identity", "X-TENANT_ID"]
        {
            assert!(is_identity_header(name.as_bytes()), "{name}");
        }
        for name in ["X-User", "X-User-Ids", "XUserId", "X-User-Id2", "Authorization", ""] {
            assert!(!is_identity_header(name.as_bytes()), "{name}");
        }
    }
}
