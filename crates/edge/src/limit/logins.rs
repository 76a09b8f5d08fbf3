//! Limits that a file need not name: logins and registrations of one address, where accounts are kept here.

use crate::options::Options;
use crate::path::Pattern;
use mainstay_config::units::{Per, rate};
use mainstay_config::{Item, Position};
use mainstay_limits::Rule;
use mainstay_limits::rules::Group;

/// As the guides have them.
const USUAL: [(&str, &str, &str); 4] = [
    ("login", "POST /api/v1/auth/login", "5/min"),
    // What a login is finished with is guessed at like what it begins with.
    ("code", "POST /api/v1/auth/login/code", "5/min"),
    ("password", "POST /api/v1/auth/login/password", "5/min"),
    ("register", "POST /api/v1/auth/register", "3/min"),
];

/// A `[[route]]` of the same match that has a limit takes its place.
pub fn add(options: &mut Options) {
    let Some(accounts) = &options.identity.accounts else { return };
    for (name, route, often) in USUAL {
        let (Ok(pattern), Ok(often)) = (Pattern::parse(route), rate(often, None)) else { continue };
        if !options.routes.iter().any(|own| own.pattern == pattern && !own.limits.is_empty()) {
            let rule = Rule::new(format!("identity.{name}"), accounts.at.clone(), &often, Per::Ip);
            options.rate.groups.push(Group { rule, routes: vec![Item::new(route.to_owned(), Position::unset())] });
        }
    }
}
