//! Who may come through a guarded route. Decided here and nowhere else.

use crate::identity::Identity;

/// What one `[[route]]` asks of whoever comes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Guard {
    /// Any of these will do; empty: whoever is logged in.
    pub roles: Vec<String>,
    /// Whoever comes logged in with a second factor.
    pub second_factor: bool,
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
    /// 403: somebody known who may, once he has logged in with a second factor.
    SecondFactor,
}

pub fn decide(guard: &Guard, who: Option<&Identity>) -> Decision {
    match who {
        None => Decision::LogIn,
        Some(identity) if !guard.roles.is_empty() && !guard.roles.iter().any(|role| identity.has_role(role)) => {
            Decision::Forbid
        }
        Some(identity) if guard.second_factor && !identity.second_factor => Decision::SecondFactor,
        Some(_) => Decision::Allow,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn owned(roles: &[&str]) -> Vec<String> {
        roles.iter().map(|role| (*role).to_owned()).collect()
    }

    fn guard(roles: &[&str], second_factor: bool) -> Guard {
        Guard { roles: owned(roles), second_factor, at: String::new() }
    }

    fn user(roles: &[&str], second_factor: bool) -> Identity {
        Identity { user: "u".into(), roles: owned(roles), tenant: None, tier: None, second_factor, expires_s: 0 }
    }

    /// ASVS 4.3.1: neither a role nor a second factor stands for the other.
    #[test]
    fn i3_a_second_factor_is_asked_for_beside_the_role() {
        for (asked, own, decision) in [
            (&["admin"][..], Some((&["admin"][..], true)), Decision::Allow),
            (&["admin"], Some((&["admin"], false)), Decision::SecondFactor),
            (&["admin"], Some((&["user"], true)), Decision::Forbid),
            (&["admin"], Some((&["user"], false)), Decision::Forbid),
            (&[], Some((&[], true)), Decision::Allow),
            (&[], Some((&[], false)), Decision::SecondFactor),
            (&[], None, Decision::LogIn),
        ] {
            let own = own.map(|(roles, second)| user(roles, second));
            assert_eq!(decide(&guard(asked, true), own.as_ref()), decision, "{asked:?} {own:?}");
        }
    }

    #[test]
    fn any_of_the_roles_will_do_and_nobody_never_does() {
        let guard = |roles: &[&str]| guard(roles, false);
        let user = |roles: &[&str]| user(roles, false);
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
