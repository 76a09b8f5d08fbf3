//! The systemd unit of `init --systemd`: own user, one capability, everything else shut.
//!
//! Pure text; that systemd itself finds it safe is tested with `systemd-analyze security`.

use std::path::{Path, PathBuf};
use std::time::Duration;

/// Of the Debian package, too.
pub const USER: &str = "mainstay";
/// The supervisor waits ten seconds longer than the drain, then ends what is left within five; systemd waits longer.
const STOP_MARGIN: Duration = Duration::from_secs(30);
/// `PATH` of a service where nobody sets it.
const PATH_DEFAULT: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
/// `Type=notify-reload` came with this version.
const NOTIFY_RELOAD_SINCE: u32 = 253;

#[derive(Debug)]
pub struct Unit {
    /// What is served, as a unit may be called.
    pub name: String,
    /// The name of the folder as it is: by it the verbs find the data.
    pub folder: String,
    pub program: PathBuf,
    pub file: PathBuf,
    pub dir: PathBuf,
    pub env_file: Option<PathBuf>,
    /// How long the configuration gives requests and instances to finish.
    pub end_limit: Duration,
    /// Where node is, if that is not where a service looks.
    pub node: Option<PathBuf>,
    pub systemd: Option<u32>,
}

impl Unit {
    /// As the file is called.
    pub fn file_name(&self) -> String {
        if self.name == USER { "mainstay.service".to_owned() } else { format!("mainstay-{}.service", self.name) }
    }

    pub fn text(&self) -> String {
        [self.head(), self.service(), HARDENING.to_owned(), self.places(), INSTALL.to_owned()].join("\n")
    }

    fn head(&self) -> String {
        let (name, file, user) = (escaped(&self.name), self.file_name(), USER);
        format!(
            "\
# Written by `mainstay init --systemd`. To use it:
#   id -u {user} || sudo useradd --system --home-dir /var/lib/mainstay --no-create-home --shell /usr/sbin/nologin {user}
#   sudo install -m 644 {file} /etc/systemd/system/ && sudo systemctl daemon-reload
#   sudo systemctl enable --now {file}

[Unit]
Description=Mainstay in front of {name}
Documentation=man:mainstay(1)
After=network-online.target
Wants=network-online.target
# Tried again for ever: what it waits for may come.
StartLimitIntervalSec=0
"
        )
    }

    fn service(&self) -> String {
        let reloads = self.systemd.is_some_and(|version| version >= NOTIFY_RELOAD_SINCE);
        let kind = if reloads {
            "Type=notify-reload".to_owned()
        } else {
            // By the shell's own `kill`: a small Debian has no `/bin/kill` (it comes with procps).
            format!(
                "# notify-reload needs systemd {NOTIFY_RELOAD_SINCE}; this does the same.\n\
                 Type=notify\nExecReload=/bin/sh -c 'kill -HUP $MAINPID'"
            )
        };
        let env_file = self.env_file.as_ref();
        let env_file = env_file.map_or_else(String::new, |file| format!(" --env-file {}", word(file)));
        let mut text = format!(
            "\
[Service]
{kind}
NotifyAccess=main
ExecStart={} run --file {}{env_file}
WorkingDirectory={}
Environment=NODE_ENV=production
",
            word(&self.program),
            word(&self.file),
            escaped(&self.dir.to_string_lossy()),
        );
        if let Some(node) = &self.node {
            text.push_str(&format!("Environment=\"PATH={}:{PATH_DEFAULT}\"\n", escaped(&node.to_string_lossy())));
        }
        text.push_str(&format!(
            "\
# A named user and no DynamicUser: what the app writes (uploads, SQLite) keeps its owner, and the operator has a name
# to give it to.
User={USER}
Group={USER}
UMask=0027

# Comes back by itself, also after a reboot; not where it would only fail again (a wrong command line or configuration).
Restart=always
RestartSec=2
RestartPreventExitStatus=2 78
# Told of life only while the server answers the supervisor.
WatchdogSec=30
TimeoutStartSec=60
# SIGTERM to the supervisor alone, which drains for at most {} s; SIGKILL to whatever is left after.
KillMode=mixed
TimeoutStopSec={}
LimitNOFILE=65536
TasksMax=8192
# An instance the kernel ends for its memory is replaced; the others go on.
OOMPolicy=continue
",
            self.end_limit.as_secs(),
            (self.end_limit + STOP_MARGIN).as_secs(),
        ));
        text
    }

    fn places(&self) -> String {
        let name = word(&Path::new(USER).join(&self.folder));
        let home = escaped(&Path::new("/var/cache").join(USER).join(&self.folder).to_string_lossy());
        let needed = [Some(&self.dir), Some(&self.program), self.node.as_ref()];
        let in_home = |path: &&PathBuf| ["/home", "/root", "/run/user"].iter().any(|home| path.starts_with(home));
        let homes = if needed.into_iter().flatten().any(|path| in_home(&path)) {
            "# Something it needs lies in a home: readable, if the user may go there; /srv would be a better place.\n\
             ProtectHome=read-only"
        } else {
            "ProtectHome=yes"
        };
        // The folder of a package's file is no app's; apps lie where an operator puts them.
        let (variables, writable) = if self.dir.starts_with("/etc") {
            ("EnvironmentFile=-/etc/default/mainstay\n", "-/srv -/opt -/var/www".to_owned())
        } else {
            ("", format!("-{}", word(&self.dir)))
        };
        format!(
            "\
# Where it may write: its state, its cache (npm wants a HOME), and the app's own folder. The app only reads? Remove
# ReadWritePaths.
ProtectSystem=strict
{homes}
PrivateTmp=yes
StateDirectory={name}
StateDirectoryMode=0700
CacheDirectory={name}
Environment=\"HOME={home}\"
{variables}ReadWritePaths={writable}
"
        )
    }
}

const HARDENING: &str = "\
# Ports below 1024, and nothing else a user of its own does not have. (PrivateUsers=yes would take this away.)
AmbientCapabilities=CAP_NET_BIND_SERVICE
CapabilityBoundingSet=CAP_NET_BIND_SERVICE
NoNewPrivileges=yes

# MemoryDenyWriteExecute must stay off: node (and every other JIT) writes code and runs it.
# ProcSubset=pid must stay off: node and the health documents read /proc/meminfo and /proc/stat.
# A browser (puppeteer) needs its own namespaces: RestrictNamespaces=no.
LockPersonality=yes
PrivateDevices=yes
ProtectClock=yes
ProtectControlGroups=yes
ProtectHostname=yes
ProtectKernelLogs=yes
ProtectKernelModules=yes
ProtectKernelTunables=yes
ProtectProc=invisible
RemoveIPC=yes
RestrictAddressFamilies=AF_INET AF_INET6 AF_UNIX AF_NETLINK
RestrictNamespaces=yes
RestrictRealtime=yes
RestrictSUIDSGID=yes
SystemCallArchitectures=native
SystemCallErrorNumber=EPERM
SystemCallFilter=@system-service
SystemCallFilter=~@privileged
# Binds cores to processors and raises the limit of open files: refused, it would only be slower.
SystemCallFilter=sched_setaffinity setrlimit
";

const INSTALL: &str = "\
[Install]
WantedBy=multi-user.target
";

/// `%` begins a specifier of systemd's, wherever it stands.
fn escaped(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).collect::<String>().replace('%', "%%")
}

/// A path as one word of a command line.
fn word(path: &Path) -> String {
    let text = escaped(&path.to_string_lossy());
    let is_plain = |c: char| c.is_alphanumeric() || "-_./+:=@,%~".contains(c);
    if text.chars().all(is_plain) {
        return text;
    }
    format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\"").replace('$', "$$"))
}

/// The version of this machine's systemd, by its own library: no process is started to ask.
pub fn systemd_version() -> Option<u32> {
    let folders = ["/usr/lib/systemd", "/lib/systemd", "/usr/lib/x86_64-linux-gnu/systemd", "/usr/lib64/systemd"];
    folders.iter().filter_map(|folder| std::fs::read_dir(folder).ok()).flatten().flatten().find_map(|entry| {
        let name = entry.file_name();
        let rest = name.to_str()?.strip_prefix("libsystemd-shared-")?;
        rest.split(|c: char| !c.is_ascii_digit()).next()?.parse().ok()
    })
}

/// The folder of a program, if a service would not look there.
pub fn unusual_folder(program: &str) -> Option<PathBuf> {
    let search = std::env::var_os("PATH")?;
    let folder = std::env::split_paths(&search).find(|folder| folder.join(program).is_file())?;
    let usual = PATH_DEFAULT.split(':').any(|known| Path::new(known) == folder);
    (!usual && folder.is_absolute()).then_some(folder)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn unit(systemd: Option<u32>) -> Unit {
        Unit {
            name: "my-shop".into(),
            folder: "my shop".into(),
            program: "/usr/bin/mainstay".into(),
            file: "/srv/my shop/mainstay.toml".into(),
            dir: "/srv/my shop".into(),
            env_file: None,
            end_limit: Duration::from_secs(60),
            node: None,
            systemd,
        }
    }

    #[test]
    fn the_type_follows_the_version_and_the_stop_is_longer_than_the_drain() {
        let old = unit(Some(252)).text();
        assert!(old.contains("\nType=notify\nExecReload=/bin/sh -c 'kill -HUP $MAINPID'\n"), "{old}");
        assert!(old.contains("\nTimeoutStopSec=90\n"), "{old}");
        let new = unit(Some(255)).text();
        assert!(new.contains("\nType=notify-reload\n") && !new.contains("ExecReload"), "{new}");
    }

    #[test]
    fn paths_are_words_and_a_percent_is_one() {
        let text = Unit { dir: "/home/a%b".into(), ..unit(None) }.text();
        assert!(text.contains("run --file \"/srv/my shop/mainstay.toml\"\n"), "{text}");
        assert!(text.contains("\nStateDirectory=\"mainstay/my shop\"\n"), "{text}");
        assert!(text.contains("\nWorkingDirectory=/home/a%%b\n") && text.contains("ProtectHome=read-only"), "{text}");
        assert!(!text.contains("\nMemoryDenyWriteExecute"), "node would not start");
    }
}
