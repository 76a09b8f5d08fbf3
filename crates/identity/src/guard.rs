//! Who may come through a guarded route. Decided here and nowhere else.

use crate::identity::Identity;

/// What one `[[route]]` asks of whoever comes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Guard {
    /// Any of these will do; empty: whoever is logged in.
    pub roles: Vec<String>,
    /// Where it stands, for trails.
    pub at: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Decision {
    Allow,
    /// 401: nobody known asks.
    LogIn,
    /// 403: somebody known who may not.
    Forbid,
}

pub fn decide(guard: &Guard, who: Option<&Identity>) -> Decision {
    match who {
        None => Decision::LogIn,
        Some(identity) if guard.roles.is_empty() || guard.roles.iter().any(|role| identity.has_role(role)) => {
            Decision::Allow
        }
        Some(_) => Decision::Forbid,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_of_the_roles_will_do_and_nobody_never_does() {
        let guard =
            |roles: &[&str]| Guard { roles: roles.iter().map(|r| (*r).to_owned()).collect(), at: String::new() };
        let user = |roles: &[&str]| Identity {
            user: "u".into(),
            roles: roles.iter().map(|r| (*r).to_owned()).collect(),
            tenant: None,
            tier: None,
            expires_s: 0,
        };
        for (asked, own, decision) in [
            (&[][..], Some(&[][..]), Decision::Allow),
            (&["admin"], Some(&["user", "admin"]), Decision::Allow),
            (&["admin", "moderator"], Some(&["moderator"]), Decision::Allow),
            (&["admin"], Some(&["user"]), Decision::Forbid),
            (&["admin"], Some(&["Admin"]), Decision::Forbid),
            (&["admin"], Some(&["administrator"]), Decision::Forbid),
            (&["admin"], None, Decision::LogIn),
            (&[], None, Decision::LogIn),
        ] {
            assert_eq!(decide(&guard(asked), own.map(user).as_ref()), decision, "{asked:?} {own:?}");
        }
    }
}
