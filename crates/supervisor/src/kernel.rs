//! What std does not offer: descriptors out of a message, the steps between fork and exec, pidfds.
//!
//! Must never hold a decision: each function is one kernel call, or a fixed list of them.
#![allow(unsafe_code)]

use crate::limits::Limits;
use crate::protocol::Exit;
use nix::sys::signal::{SigHandler, SigSet, SigmaskHow, Signal, signal, sigprocmask};
use nix::unistd::{Gid, Pid, Uid, getppid, setgid, setgroups, setuid};
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::process::CommandExt;
use std::process::Command;

/// Takes what the kernel has just installed for us, as from `SCM_RIGHTS`.
pub fn installed(raw: &[RawFd]) -> Vec<OwnedFd> {
    // SAFETY: the kernel made these descriptors for this process in the call just before; nobody else knows them.
    raw.iter().map(|fd| unsafe { OwnedFd::from_raw_fd(*fd) }).collect()
}

/// Takes a descriptor that the parent passed by number, and closes it at the next exec.
pub fn inherited(raw: RawFd) -> io::Result<OwnedFd> {
    // SAFETY: fcntl on a number that may not be open is defined: EBADF.
    if unsafe { libc::fcntl(raw, libc::F_SETFD, libc::FD_CLOEXEC) } == -1 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: open, as just shown; the caller is the one who was told the number.
    Ok(unsafe { OwnedFd::from_raw_fd(raw) })
}

/// Descriptors leaked by whoever started us must not reach children.
pub fn close_inherited_at_exec() {
    // SAFETY: no memory is passed. An old kernel answers ENOSYS or EINVAL, and nothing is worse than before.
    unsafe { libc::syscall(libc::SYS_close_range, 3, libc::c_uint::MAX, libc::CLOSE_RANGE_CLOEXEC) };
}

/// A handle on a process that never comes to mean another one.
pub fn pidfd(pid: i32) -> io::Result<OwnedFd> {
    // SAFETY: no memory is passed.
    let raw = unsafe { libc::syscall(libc::SYS_pidfd_open, pid, 0) };
    if raw < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the call has just made it; descriptors fit an int.
    Ok(unsafe { OwnedFd::from_raw_fd(raw as RawFd) })
}

pub fn pidfd_signal(pidfd: BorrowedFd<'_>, signal: Signal) -> io::Result<()> {
    let info = std::ptr::null::<libc::siginfo_t>();
    // SAFETY: a null siginfo is allowed and means what kill(2) would send.
    let done = unsafe { libc::syscall(libc::SYS_pidfd_send_signal, pidfd.as_raw_fd(), signal as i32, info, 0) };
    if done < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Waits for any child that has ended, without blocking. (nix cannot tell of a death by a real-time signal.)
pub fn reap() -> Option<(i32, Exit)> {
    loop {
        let mut status: libc::c_int = 0;
        // SAFETY: `status` outlives the call.
        let pid = unsafe { libc::waitpid(-1, &mut status, libc::WNOHANG) };
        if pid == -1 && io::Error::last_os_error().kind() == io::ErrorKind::Interrupted {
            continue;
        }
        if pid <= 0 {
            return None;
        }
        if libc::WIFEXITED(status) {
            return Some((pid, Exit::Code(libc::WEXITSTATUS(status))));
        }
        if libc::WIFSIGNALED(status) {
            return Some((pid, Exit::Signal(libc::WTERMSIG(status))));
        }
    }
}

/// Any number a caller may send: nix knows no real-time signals.
pub fn signal_group(group: i32, number: i32) -> io::Result<()> {
    // SAFETY: no memory is passed.
    if unsafe { libc::killpg(group, number) } == -1 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// `CLOCK_MONOTONIC`, which a service manager compares with its own; std's `Instant` does not show its number.
pub fn monotonic_micros() -> u64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `time` outlives the call. The clock exists on every Linux; were it missing, zero would be told.
    unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &mut time) };
    u64::try_from(time.tv_sec).unwrap_or(0) * 1_000_000 + u64::try_from(time.tv_nsec).unwrap_or(0) / 1000
}

/// What a child does to itself between fork and exec, in this order.
#[derive(Debug, Clone)]
pub struct BeforeExec {
    /// Those the supervisor itself was given, where they are to be given on.
    pub limits: Option<Limits>,
    pub identity: Option<Identity>,
    /// Ask for SIGTERM when this parent ends; after the change of user, which clears it.
    pub die_with: Option<Pid>,
    /// Becomes descriptor 3.
    pub third: Option<RawFd>,
    /// A background group that writes to a terminal with `tostop` would be stopped by SIGTTOU.
    pub ignore_ttou: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    pub uid: Uid,
    pub gid: Gid,
    pub groups: Vec<Gid>,
}

pub fn before_exec(command: &mut Command, steps: BeforeExec) {
    // SAFETY: `steps.take` only makes system calls on memory allocated before the fork: no allocation, no lock.
    unsafe { command.pre_exec(move || steps.take()) };
}

impl BeforeExec {
    fn take(&self) -> io::Result<()> {
        if let Some(limits) = &self.limits {
            limits.give_back()?;
        }
        if let Some(identity) = &self.identity {
            setgroups(&identity.groups)?;
            setgid(identity.gid)?;
            setuid(identity.uid)?;
        }
        if let Some(parent) = self.die_with {
            nix::sys::prctl::set_pdeathsig(Signal::SIGTERM)?;
            if getppid() != parent {
                return Err(io::Error::from_raw_os_error(libc::ECANCELED));
            }
        }
        for number in 1..=libc::SIGRTMAX() {
            // SAFETY: setting a default disposition runs none of our code; SIGKILL and SIGSTOP answer EINVAL.
            unsafe { libc::signal(number, libc::SIG_DFL) };
        }
        if self.ignore_ttou {
            // SAFETY: ignoring runs none of our code.
            unsafe { signal(Signal::SIGTTOU, SigHandler::SigIgn) }?;
        }
        sigprocmask(SigmaskHow::SIG_SETMASK, Some(&SigSet::empty()), None)?;
        match self.third {
            // SAFETY: fcntl and dup2 on numbers are defined whatever they name; 3 is not one that std still needs
            // (the caller keeps it open in the parent, so std's own pipe has another number).
            Some(3) if unsafe { libc::fcntl(3, libc::F_SETFD, 0) } == -1 => Err(io::Error::last_os_error()),
            Some(raw) if raw != 3 && unsafe { libc::dup2(raw, 3) } == -1 => Err(io::Error::last_os_error()),
            _ => Ok(()),
        }
    }
}
