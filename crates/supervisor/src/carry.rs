//! The supervisor becomes the one of another file: `execve` in place, so that pid, children, pipes, listeners and the
//! folder's lock stay what they are.
//!
//! What memory holds is written into a file without a name; descriptors keep their numbers. Must never begin while a
//! message is half read or half written, nor leave a descriptor open to children when the kernel refuses.

use crate::data::CarriedData;
use crate::instances::{CarriedInstance, Instances};
use crate::limits::Limits;
use crate::listen::{Bound, CarriedBound};
use crate::notify::Notify;
use crate::protocol::ToServer;
use crate::run::{Phase, Supervisor, prepare, say};
use crate::server::{History, Server};
use crate::upgrade::Upgrade;
use crate::{Data, Error, explain, kernel};
use nix::errno::Errno;
use nix::fcntl::{FcntlArg, FdFlag, fcntl};
use nix::sys::memfd::{MFdFlags, memfd_create};
use serde::{Deserialize, Serialize};
use std::ffi::CString;
use std::fs::{self, File};
use std::io::{self, Read as _, Seek as _, Write as _};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// Tells the process this one becomes where its memory is: pid, colon, descriptor. With another pid it means nothing.
pub(crate) const RESUME_VARIABLE: &str = "MAINSTAY_RESUME";

#[derive(Debug, Serialize, Deserialize)]
struct Carried {
    data: CarriedData,
    program: PathBuf,
    listeners: Vec<CarriedBound>,
    instances: Vec<CarriedInstance>,
    server: CarriedServer,
    history: History,
    inputs: String,
    stop_limit_ms: u64,
    started_unix_us: u64,
    /// What the first of these processes was given; the limits in force stay with the process.
    limits: Limits,
}

#[derive(Debug, Serialize, Deserialize)]
struct CarriedServer {
    pid: i32,
    socket: RawFd,
    lived_ms: u64,
}

/// Goes on where the supervisor of another file stopped, if this process was one a moment ago. Call it first of all.
pub fn resume() -> Option<Result<i32, Error>> {
    let value = std::env::var(RESUME_VARIABLE).ok()?;
    let (pid, fd) = value.split_once(':')?;
    if pid != std::process::id().to_string() {
        return None;
    }
    Some(fd.parse().map_err(|_| unreadable()).and_then(go_on))
}

fn unreadable() -> Error {
    Error::Spawn(format!("{RESUME_VARIABLE} is mainstay's own word between two versions; fix: unset {RESUME_VARIABLE}"))
}

fn go_on(memory: RawFd) -> Result<i32, Error> {
    let mut text = String::new();
    let memory = kernel::inherited(memory).map_err(Error::io("the memory of the last supervisor is gone"))?;
    File::from(memory).read_to_string(&mut text).map_err(Error::io("cannot read the last supervisor's memory"))?;
    let carried: Carried = serde_json::from_str(&text).map_err(Error::Message)?;
    let signals = prepare()?;
    let mut supervisor = restore(carried)?;
    supervisor.upgraded(None);
    supervisor.serve(&signals)
}

fn restore(carried: Carried) -> Result<Supervisor, Error> {
    let Carried { data, program, listeners, instances, server, history, inputs, .. } = carried;
    let data = Data::from_carried(data)?;
    let own = std::env::current_exe().map_err(Error::io("cannot find this program's own file"))?;
    let socket = kernel::inherited(server.socket).map_err(Error::io("the server's connection is gone"))?;
    let now = Instant::now();
    Ok(Supervisor {
        argv: vec![own.to_string_lossy().into_owned(), "server".to_owned()],
        program,
        boot: data.boot(),
        data,
        listeners: listeners.into_iter().map(Bound::from_carried).collect::<Result<_, _>>()?,
        inputs,
        stop_limit: Duration::from_millis(carried.stop_limit_ms),
        started_unix_us: carried.started_unix_us,
        limits: carried.limits,
        instances: Instances::from_carried(instances).map_err(Error::io("the pipe of an instance is gone"))?,
        server: Some(Server::carried(server.pid, socket, Duration::from_millis(server.lived_ms))),
        start_at: None,
        history,
        phase: Phase::Serving,
        asked: false,
        looked: now,
        looked_thoroughly: now,
        notify: Notify::from_environment(now),
        upgrade: Upgrade::default(),
    })
}

impl Supervisor {
    /// Becomes the supervisor of the server's file, as soon as one is due and nothing is half said. Comes back only
    /// if there is nothing to do, or if it cannot be done: then everything goes on with this one.
    pub(crate) fn become_next(&mut self) {
        let serving = matches!(self.phase, Phase::Serving) && !self.asked;
        let Some(server) = self.server.as_ref().filter(|server| server.ready) else { return };
        if !self.upgrade.is_over() || !serving || !server.is_quiet() {
            return;
        }
        self.upgrade.becoming = false;
        let file = file_of(server.pid).unwrap_or_else(|| self.upgrade.program.clone());
        let error = match self.carry_over(server, &file) {
            Ok(never) => match never {},
            Err(error) => explain(&error),
        };
        let problem =
            format!("the server is the new one, but the supervisor cannot become {}: {error}", file.display());
        say(&problem);
        self.upgraded(Some(problem));
    }

    fn upgraded(&mut self, problem: Option<String>) {
        if let Some(server) = &mut self.server {
            server.tell(&ToServer::Upgraded { problem }, Vec::new());
        }
    }

    fn carry_over(&self, server: &Server, file: &Path) -> Result<std::convert::Infallible, Error> {
        let (data, lock) = self.data.carried();
        let (listeners, sockets): (Vec<_>, Vec<_>) = self.listeners.iter().map(Bound::carried).unzip();
        let (instances, pipes) = self.instances.carried();
        let socket = server.socket_for_exec();
        let lived_ms = u64::try_from(server.lived(Instant::now()).as_millis()).unwrap_or(u64::MAX);
        let carried = Carried {
            data,
            program: self.upgrade.program.clone(),
            listeners,
            instances,
            server: CarriedServer { pid: server.pid, socket: socket.as_raw_fd(), lived_ms },
            history: self.history.clone(),
            inputs: self.inputs.clone(),
            stop_limit_ms: u64::try_from(self.stop_limit.as_millis()).unwrap_or(u64::MAX),
            started_unix_us: self.started_unix_us,
            limits: self.limits,
        };
        let text = serde_json::to_vec(&carried).map_err(Error::Message)?;
        let memory = written(&text).map_err(Error::io("cannot write down what is to be kept"))?;
        let kept: Vec<BorrowedFd<'_>> =
            [lock, socket, memory.as_fd()].into_iter().chain(sockets).chain(pipes).collect();
        let done = keep(&kept, true).and_then(|()| exec(file, memory.as_raw_fd()));
        // Still here: children must not see any of it.
        let _ = keep(&kept, false);
        done.map_err(|errno| Error::io("execve")(errno.into()))
    }
}

fn written(text: &[u8]) -> io::Result<File> {
    let mut file = File::from(memfd_create(c"mainstay", MFdFlags::MFD_CLOEXEC)?);
    file.write_all(text)?;
    file.rewind()?;
    Ok(file)
}

/// Open across the next `execve`, or closed by it.
fn keep(fds: &[BorrowedFd<'_>], keep: bool) -> Result<(), Errno> {
    let flags = if keep { FdFlag::empty() } else { FdFlag::FD_CLOEXEC };
    fds.iter().try_for_each(|fd| fcntl(fd, FcntlArg::F_SETFD(flags)).map(drop))
}

/// The words this process was started with stay, so that `ps` shows what a person typed.
fn exec(file: &Path, memory: RawFd) -> Result<std::convert::Infallible, Errno> {
    let text = |bytes: &[u8]| CString::new(bytes).map_err(|_| Errno::EINVAL);
    let arguments: Vec<CString> = std::env::args_os().map(|word| text(word.as_bytes())).collect::<Result<_, _>>()?;
    let resume = format!("{RESUME_VARIABLE}={}:{memory}", std::process::id());
    let mut environment = vec![text(resume.as_bytes())?];
    for (name, value) in std::env::vars_os().filter(|(name, _)| name != RESUME_VARIABLE) {
        environment.push(text(&[name.as_bytes(), b"=", value.as_bytes()].concat())?);
    }
    nix::unistd::execve(&text(file.as_os_str().as_bytes())?, &arguments, &environment)
}

/// The very file a process runs: its path while that still leads there, so that the process keeps its name; else the
/// kernel's own link.
fn file_of(pid: i32) -> Option<PathBuf> {
    let link = PathBuf::from(format!("/proc/{pid}/exe"));
    let place = |path: &Path| fs::metadata(path).ok().map(|file| (file.dev(), file.ino()));
    let runs = place(&link)?;
    let named = fs::read_link(&link).ok().filter(|path| place(path) == Some(runs));
    Some(named.unwrap_or(link))
}
