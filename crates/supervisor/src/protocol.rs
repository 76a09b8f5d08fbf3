//! What the supervisor and the server say to each other over their socket pair.
//!
//! One message is a 4-byte little-endian length, then that many bytes of JSON; the descriptors that belong to
//! it travel with its first bytes (`SCM_RIGHTS`, at most 253 a byte), in the order the message's documentation names.
//!
//! A server that comes after another learns of every end exactly once: `Hello` lists an instance with `exit` set only
//! if its `LeaderExited` was sent to an earlier server; what ended while there was none is listed as if it still ran,
//! and its `LeaderExited` and `GroupEmpty` follow `Hello` at once. A group whose `GroupEmpty` was sent is not listed.

use serde::{Deserialize, Serialize};
use std::net::SocketAddr;

/// Raised with every change of a message, or of what a supervisor carries over into the next file's, that the other
/// side would misread. An upgrade between two numbers is refused before anything is touched.
pub const PROTOCOL: u32 = 2;

/// From the supervisor to the server.
#[derive(Debug, Serialize, Deserialize)]
pub enum ToServer {
    /// The first message, once. Descriptors: one a listener, in order; then stdout and stderr of each instance.
    Hello(Box<Hello>),
    /// Answer to `ToSupervisor::Spawn`. Descriptors: the child's stdout and stderr, read ends.
    Spawned { ticket: u64, instance: Instance },
    /// Answer to `ToSupervisor::Spawn`. `error` is a sentence: what, and what to type.
    SpawnFailed { ticket: u64, error: String },
    /// The group's first process ended; others of its group may go on (npm ends long before node has drained).
    LeaderExited { pid: i32, exit: Exit },
    /// The last process of the group is gone, its leader's `exit` included. Sent once, after `LeaderExited`.
    GroupEmpty { pid: i32, exit: Exit },
    /// Answer to `ToSupervisor::Listen`. Descriptor: the listening socket.
    Listening { ticket: u64, listener: Listener },
    /// Answer to `ToSupervisor::Listen`.
    ListenFailed { ticket: u64, error: String },
    /// SIGHUP.
    Reload,
    /// SIGTERM or SIGINT: stop accepting, finish, stop the instances, answer `Drained`.
    Drain,
    /// Answered by `Alive`, by the thread that does everything else.
    AreYouAlive,
    /// SIGUSR2: ask for an upgrade as `mainstay upgrade` would.
    Upgrade,
    /// Answer to `ToSupervisor::Upgrade`: it came to nothing, and why. After `Retire` the server that was to take over
    /// is gone; one of the old file takes its place, and this one finishes all the same.
    UpgradeFailed { why: String },
    /// The server of the new file is ready: accept no more, let go of what has one owner, answer `Released`, then
    /// finish what was begun without starting or ending an instance, and end with `Drained`.
    Retire { pid: i32, version: String },
    /// To the server of a new file: the one before has let go; what it remembered. Descriptor: the standard error to
    /// write to from now on.
    TakeOver { memory: String },
    /// To a retiring server: its successor has started this instance.
    Joined { instance: Instance },
    /// The upgrade is over: the server before this one has ended and the supervisor is the new file's, or why not.
    Upgraded { problem: Option<String> },
}

/// From the server to the supervisor.
#[derive(Debug, Serialize, Deserialize)]
pub enum ToSupervisor {
    /// The first message of every server, before it has read anything. Its shape must never change: it is how two
    /// versions find out that they do not understand each other.
    Here { protocol: u32, version: String },
    /// Start a process group. Answered by `Spawned` or `SpawnFailed` with the same ticket.
    Spawn { ticket: u64, spec: Box<Spawn> },
    /// Send a signal to a whole group.
    Kill { pid: i32, signal: i32 },
    /// Bind one more address. Answered by `Listening` or `ListenFailed`.
    Listen { ticket: u64, listener: Listener },
    /// Close a listener that the new configuration no longer names.
    Unlisten { listener: Listener },
    /// The server accepts connections.
    Ready,
    /// Answer to `ToServer::AreYouAlive`.
    Alive,
    /// What `ToServer::Reload` asked for is over; `refused` is why nothing was changed.
    Reloaded { refused: Option<String> },
    /// This configuration is in force; hand it to the next server.
    Adopt { inputs: String },
    /// How long the configuration in force gives a drain; the supervisor waits that long and 10 s for `Drained`.
    StopLimit { limit_ms: u64 },
    /// Everything is finished: end with this exit code. Also unasked, as after `mainstay stop`.
    Drained { code: i32 },
    /// Start the server of another file (`None`: of the path this one was started from) and have it take over once it
    /// sees these apps serve. Answered by `Retire`, or `UpgradeFailed`.
    Upgrade { binary: Option<std::path::PathBuf>, serving: Vec<String> },
    /// Answer to `Retire`: accepts no more, reads no more of the children's output, has written its files; and what it
    /// remembered, for its successor: opaque here.
    Released { memory: String },
    /// Answer to `TakeOver`: files, pipes, control socket and standard error are its own.
    Taken,
}

/// The text of `MAINSTAY_BOOT`.
pub fn boot(id: &str, number: u64) -> String {
    format!("{id}:{number}")
}

/// All that a server needs in order to take over where the last one stopped.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Hello {
    /// Value of `MAINSTAY_BOOT` in every process of this boot: data-folder id, a colon, boot number.
    pub boot: String,
    pub data: std::path::PathBuf,
    /// The last configuration that was in force, opaque here: the binary's own JSON.
    pub inputs: String,
    pub listeners: Vec<Listener>,
    pub instances: Vec<Instance>,
    /// How many servers of this supervisor died before this one; 0 for the first.
    pub crashes: u32,
    /// When the supervisor started, microseconds since the Unix epoch.
    pub started_unix_us: u64,
    /// Set for the server of a new file.
    pub handover: Option<Handover>,
    /// What a server before this one remembered when it let go and nobody has taken yet.
    pub memory: Option<String>,
}

/// For a server that is to take over from one that serves: say `Ready` once these apps are seen to serve, touch
/// nothing that has one owner (pipes, files, the control socket) before `TakeOver`.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Handover {
    /// The server that serves.
    pub from: i32,
    pub serving: Vec<String>,
}

/// A listening socket the supervisor holds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Listener {
    /// A TCP address of the edge.
    Tcp(SocketAddr),
    /// Where apps ask for what Mainstay gives them; loopback.
    Api(SocketAddr),
    /// Where tools of Redis read queues; loopback.
    Resp(SocketAddr),
    /// Where operators come by a browser; loopback.
    Console(SocketAddr),
    /// The control socket, mode 0600.
    Control(std::path::PathBuf),
}

/// A running process group.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Instance {
    /// Process id of the leader, which is the group id.
    pub pid: i32,
    pub app: String,
    /// 1, 2, … within the app.
    pub number: u32,
    pub port: Option<u16>,
    pub started_unix_us: u64,
    /// The fleet's own words about it (hash of the spec it was started from), kept through a server's death.
    pub tag: String,
    /// Set once the leader has ended while others of the group go on.
    pub exit: Option<Exit>,
}

/// What to start.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Spawn {
    pub app: String,
    pub number: u32,
    pub port: Option<u16>,
    /// Program and arguments; a shell line is `["/bin/sh", "-c", LINE]`.
    pub argv: Vec<String>,
    pub dir: Option<std::path::PathBuf>,
    /// A name, a number, or `UID:GID`.
    pub user: Option<String>,
    /// The whole environment of the child, but for `MAINSTAY_BOOT`, which the supervisor adds, and for `HOME`, `USER`
    /// and `LOGNAME`, which become those of `user` where they are still the supervisor's own.
    pub env: Vec<(String, String)>,
    pub tag: String,
}

/// How a process ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Exit {
    Code(i32),
    Signal(i32),
}

impl std::fmt::Display for Exit {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Exit::Code(code) => write!(f, "exit status {code}"),
            Exit::Signal(signal) => match nix::sys::signal::Signal::try_from(*signal) {
                Ok(name) => write!(f, "killed by {name}"),
                Err(_) => write!(f, "killed by signal {signal}"),
            },
        }
    }
}
