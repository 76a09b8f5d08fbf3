//! The account an app runs as.

use crate::kernel::Identity;
use crate::{Error, protocol};
use nix::unistd::{Gid, Uid, User, geteuid, getgrouplist};
use std::ffi::CString;
use std::process::Command;

#[derive(Debug, Clone)]
pub(super) struct Account {
    pub identity: Identity,
    name: Option<String>,
    home: Option<std::path::PathBuf>,
}

/// A name, a number, or `UID:GID`. `None` if it is who we are already.
pub(super) fn find(text: &str) -> Result<Option<Account>, Error> {
    let account = look_up(text)?;
    let me = geteuid();
    if me.is_root() {
        return Ok(Some(account));
    }
    if account.identity.uid == me {
        return Ok(None);
    }
    Err(Error::Spawn(format!(
        "only root may start an app as another user ({text}); fix: start mainstay as root, or leave `user` out"
    )))
}

fn look_up(text: &str) -> Result<Account, Error> {
    if let Some((uid, gid)) = text.split_once(':') {
        let number = |part: &str| part.parse::<u32>().ok();
        let (Some(uid), Some(gid)) = (number(uid), number(gid)) else {
            return Err(Error::Spawn(format!("user {text:?} is not UID:GID; fix: user = \"1000:1000\", or a name")));
        };
        let gid = Gid::from_raw(gid);
        let identity = Identity { uid: Uid::from_raw(uid), gid, groups: vec![gid] };
        return Ok(Account { identity, name: None, home: None });
    }
    let found = match text.parse::<u32>() {
        Ok(uid) => User::from_uid(Uid::from_raw(uid)),
        Err(_) => User::from_name(text),
    };
    let user = found.map_err(|errno| Error::io(format!("cannot look up user {text}"))(errno.into()))?;
    let Some(user) = user else {
        let fix = match text.parse::<u32>() {
            Ok(uid) => format!("user = \"{uid}:{uid}\" names a group as well"),
            Err(_) => format!("create it: useradd --system {text}"),
        };
        return Err(Error::Spawn(format!("there is no user {text} on this machine; fix: {fix}")));
    };
    let name = CString::new(user.name.as_str()).map_err(|_| Error::Spawn(format!("user {text:?} is not a name")))?;
    let groups = getgrouplist(&name, user.gid)
        .map_err(|errno| Error::io(format!("cannot read the groups of user {text}"))(errno.into()))?;
    let identity = Identity { uid: user.uid, gid: user.gid, groups };
    Ok(Account { identity, name: Some(user.name), home: Some(user.dir) })
}

/// The supervisor's own HOME, USER and LOGNAME are not another user's: npm would write into root's home.
/// A value that differs from ours was set for this app and stays.
pub(super) fn at_home(command: &mut Command, spec: &protocol::Spawn, account: &Account) {
    let name = account.name.as_deref().map(std::ffi::OsStr::new);
    let home = account.home.as_deref().map(std::path::Path::as_os_str);
    for (variable, value) in [("HOME", home), ("USER", name), ("LOGNAME", name)] {
        let given = spec.env.iter().find(|(key, _)| key == variable).map(|(_, value)| value.clone());
        if given.is_some() && given != std::env::var(variable).ok() {
            continue;
        }
        match value {
            Some(value) => command.env(variable, value),
            None => command.env_remove(variable),
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn users_that_are_not_there() {
        let error = find("nosuchuser").unwrap_err().to_string();
        assert!(error.contains("no user nosuchuser") && error.contains("useradd"), "{error}");
        let error = find("3999999").unwrap_err().to_string();
        assert!(error.contains("3999999:3999999"), "{error}");
        assert!(find("a:b").is_err() && find("1:").is_err() && find("").is_err());
    }
}
