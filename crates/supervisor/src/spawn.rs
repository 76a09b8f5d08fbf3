//! Starts an instance: a process group of its own with pipes, an environment, a directory and perhaps another user.
//!
//! Must never let a descriptor of ours into a child, nor start one that could outlive the supervisor unnoticed.

mod refusal;
mod user;

use crate::kernel::{BeforeExec, Identity, before_exec};
use crate::limits::Limits;
use crate::{BOOT_VARIABLE, Error, protocol};
use nix::unistd::Pid;
use std::os::fd::OwnedFd;
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};
use std::sync::Arc;

/// A process group that has just begun.
#[derive(Debug)]
pub(crate) struct Started {
    pub pid: i32,
    /// Held open, never written: `esbuild --watch` and others end with their standard input.
    pub stdin: OwnedFd,
    pub stdout: Arc<OwnedFd>,
    pub stderr: Arc<OwnedFd>,
}

/// Starts what `spec` asks for, or says in a sentence why not and what to type.
pub(crate) fn start(spec: &protocol::Spawn, boot: &str, limits: Limits) -> Result<Started, Error> {
    let Some((program, arguments)) = spec.argv.split_first() else {
        return Err(Error::Spawn("there is no command to start".into()));
    };
    refusal::check_dir(spec)?;
    let account = spec.user.as_deref().map(user::find).transpose()?.flatten();
    let mut command = Command::new(program);
    command.args(arguments).process_group(0).env_clear();
    command.envs(spec.env.iter().map(|(name, value)| (name, value)));
    command.env(BOOT_VARIABLE, boot);
    if let Some(account) = &account {
        user::at_home(&mut command, spec, account);
    }
    if let Some(dir) = &spec.dir {
        command.current_dir(dir);
    }
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let identity: Option<Identity> = account.map(|account| account.identity);
    let die_with = Some(Pid::this());
    let limits = Some(limits);
    before_exec(&mut command, BeforeExec { limits, identity, die_with, third: None, ignore_ttou: false });
    let mut child = command.spawn().map_err(|error| refusal::sentence(spec, &error))?;
    let (Some(stdin), Some(stdout), Some(stderr)) = (child.stdin.take(), child.stdout.take(), child.stderr.take())
    else {
        return Err(Error::Spawn(format!("{program}: its pipes are missing")));
    };
    Ok(Started {
        pid: child.id() as i32,
        stdin: stdin.into(),
        stdout: Arc::new(stdout.into()),
        stderr: Arc::new(stderr.into()),
    })
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use std::io::Read as _;

    pub(crate) fn spec(argv: &[&str]) -> protocol::Spawn {
        let env = vec![("PATH".to_owned(), std::env::var("PATH").unwrap_or_default())];
        protocol::Spawn {
            app: "main".into(),
            number: 1,
            port: None,
            argv: argv.iter().map(|part| (*part).to_owned()).collect(),
            dir: None,
            user: None,
            env,
            tag: String::new(),
        }
    }

    /// PDEATHSIG follows the thread that forked; each test keeps its own thread until the child is done.
    fn output(spec: &protocol::Spawn) -> String {
        let started = start(spec, "id:1", Limits::default()).unwrap();
        let mut text = String::new();
        let mut stdout = std::fs::File::from(started.stdout.try_clone().unwrap());
        stdout.read_to_string(&mut text).unwrap();
        let _ = nix::sys::wait::waitpid(Pid::from_raw(started.pid), None);
        text
    }

    #[test]
    fn a_child_has_its_environment_its_group_and_no_descriptor_of_ours() {
        let open = tempfile::NamedTempFile::new().unwrap();
        let text = output(&spec(&["/bin/sh", "-c", "env; ls -l /proc/self/fd; cat /proc/$$/stat; echo pid $$"]));
        assert!(text.contains("MAINSTAY_BOOT=id:1\n") && !text.contains("CARGO_"), "{text}");
        assert!(!text.contains(open.path().to_str().unwrap()), "{text}");
        let pid = text.trim().rsplit(' ').next().unwrap();
        let stat = text.lines().find(|line| line.starts_with(pid)).unwrap();
        assert_eq!(stat.split(' ').nth(4), Some(pid), "the leader's pid is the group: {stat}");
    }

    #[test]
    fn signals_are_as_a_shell_would_give_them() {
        let text = output(&spec(&["grep", "-E", "Sig(Blk|Ign)", "/proc/self/status"]));
        let masks: Vec<u64> = text.lines().map(|line| u64::from_str_radix(&line[8..], 16).unwrap()).collect();
        // 32 and 33 are the C library's own and stay as they were inherited.
        assert_eq!(masks.iter().map(|mask| mask & !(0b11 << 31)).collect::<Vec<_>>(), [0, 0], "{text}");
    }

    #[test]
    fn another_user_is_taken_whole() {
        if !nix::unistd::geteuid().is_root() {
            return;
        }
        let mut spec = spec(&["/bin/sh", "-c", "id -u; id -g; id -G; echo $HOME $USER"]);
        spec.env.push(("HOME".into(), std::env::var("HOME").unwrap_or_default()));
        spec.user = Some("nobody".into());
        let account = nix::unistd::User::from_name("nobody").unwrap().unwrap();
        let expected = format!("{}\n{}\n{}\n{} nobody\n", account.uid, account.gid, account.gid, account.dir.display());
        assert_eq!(output(&spec), expected);
        spec.user = Some("4711:4712".into());
        assert!(output(&spec).starts_with("4711\n4712\n4712\n"));
    }
}
