//! Whom a verified token speaks of.

/// A user's id, a tenant's, or a role longer than this is no name but a payload.
pub(crate) const NAME_BYTES_MAX: usize = 256;
/// Roles of one user. A token is at most 8 KiB anyway; an app that reads a header should not get all of it.
pub(crate) const ROLES_MAX: usize = 64;

/// What a token's `amr` says of a login with more than one factor (RFC 8176).
pub(crate) const MFA: &str = "mfa";

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    pub user: String,
    pub roles: Vec<String>,
    pub tenant: Option<String>,
    /// What the tenant pays for, where the token says so: chooses its limits.
    pub tier: Option<String>,
    /// A second factor was asked for when he logged in.
    pub second_factor: bool,
    /// Unix seconds.
    pub expires_s: u64,
}

impl Identity {
    pub fn has_role(&self, role: &str) -> bool {
        self.roles.iter().any(|own| own == role)
    }
}

/// What may stand in a header and mean the same on the other side: visible ASCII and inner spaces; in a list no comma.
pub(crate) fn is_name(text: &str, in_list: bool) -> bool {
    !text.is_empty()
        && text.len() <= NAME_BYTES_MAX
        && text.trim() == text
        && text.bytes().all(|b| (0x20..0x7f).contains(&b) && !(in_list && b == b','))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_what_a_header_can_carry() {
        for (text, alone, in_list) in [
            ("u_1", true, true),
            ("Jane Doe", true, true),
            ("admin,user", true, false),
            ("", false, false),
            (" admin", false, false),
            ("a\r\nX-User-Roles: admin", false, false),
            ("a\0", false, false),
            ("jürgen", false, false),
        ] {
            assert_eq!((is_name(text, false), is_name(text, true)), (alone, in_list), "{text:?}");
        }
        assert!(!is_name(&"a".repeat(NAME_BYTES_MAX + 1), false));
    }
}
