//! `mainstay run [-- COMMAND]`: the supervisor process.
//!
//! Reads and checks everything before anything is touched; then lock, listeners, supervisor, in this order.

use crate::exit::Failure;
use crate::place::{Place, PlaceArgs};
use crate::settings::{self, Settings};
use anyhow::Context;
use mainstay_config::Inputs;
use mainstay_supervisor::listen::{self, Bound};
use mainstay_supervisor::protocol::Listener;
use mainstay_supervisor::{Data, Error, Options, explain, orphans};
use std::io::IsTerminal;
use std::net::{IpAddr, SocketAddr};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// Where development listens if it can.
const PORT_DEFAULT: u16 = 8080;

// Flattened into `check` and `config`, whose own groups would otherwise have the same name.
#[derive(Debug, clap::Args)]
#[group(skip)]
pub struct Args {
    /// Be strict as in production, whatever NODE_ENV says
    #[arg(long)]
    production: bool,
    /// Variables for the app and for us, from a file
    #[arg(long, value_name = "FILE")]
    env_file: Option<PathBuf>,
    /// Address of the edge, as :8080 or 127.0.0.1:8080 (several: separated by commas)
    #[arg(long, value_name = "ADDRESS")]
    listen: Option<String>,
    /// Instances of the command: a number or auto
    #[arg(long, value_name = "N")]
    instances: Option<String>,
    /// The command that starts your backend
    #[arg(last = true, value_name = "COMMAND")]
    command: Vec<String>,
}

pub fn run(place: &PlaceArgs, args: Args) -> Result<u8, Failure> {
    let place = place.resolve()?;
    let inputs = gather(&place, args)?;
    start(&place, &inputs)
}

/// What `run` was told, `check` and `config` are told the same way.
pub fn gather(place: &Place, args: Args) -> Result<Inputs, Failure> {
    let mut flags = Vec::new();
    if args.production {
        flags.push(("production".to_owned(), "true".to_owned()));
    }
    if let Some(listen) = args.listen {
        flags.push(("edge.listen".to_owned(), listen));
    }
    if let Some(instances) = args.instances {
        flags.push(("app.main.instances".to_owned(), instances));
    }
    let command = (!args.command.is_empty()).then_some(args.command);
    Inputs::gather(&place.dir, place.file.as_deref(), args.env_file.as_deref(), flags, command).map_err(|faults| {
        eprintln!("{}", faults.render(color()).trim_end());
        Failure::Configuration(String::new())
    })
}

pub fn color() -> bool {
    std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|v| v.is_empty())
}

/// Everything from the checked inputs on; `demo` comes in here too.
pub fn start(place: &Place, inputs: &Inputs) -> Result<u8, Failure> {
    let (settings, report) = settings::read(inputs);
    if !report.faults.is_empty() {
        eprintln!("{}", report.render(color()).trim_end());
        return Err(Failure::Configuration(String::new()));
    }
    proven(&settings)?;
    match &inputs.command {
        Some(command) => must_exist(&command[0], &place.dir)?,
        None if settings.fleet.apps.is_empty() && settings.edge.apps.is_empty() => {
            return Err(Failure::Usage(
                "there is nothing to run: no command, and no [app.NAME] in a file\n  fix: mainstay run -- npm start"
                    .to_owned(),
            ));
        }
        None => {}
    }
    let data = Data::open(&place.data).map_err(refused)?;
    let left = orphans::end_older_boots(&data);
    if left > 0 {
        eprintln!("mainstay: ended {left} processes that an earlier run had left behind");
    }
    let mut listeners = bind(&settings.edge, settings.environment.production)?;
    if settings.jobs.is_on {
        let api = Listener::Api(SocketAddr::from(([127, 0, 0, 1], 0)));
        listeners.push(listen::bind(&api).map_err(refused)?);
    }
    if let Some(redis) = &settings.jobs.redis {
        let bound = listen::bind(&Listener::Resp(redis.address));
        listeners.push(bound.map_err(|error| Failure::Refused(format!("{error}\n --> {}", redis.at)))?);
    }
    let control = Listener::Control(place.choose_socket()?);
    listeners.push(listen::bind(&control).map_err(refused)?);
    let own = std::env::current_exe().context("cannot find this program's own file")?;
    let code = mainstay_supervisor::run(Options {
        server: vec![own.to_string_lossy().into_owned(), "server".to_owned()],
        program: as_typed(&place.dir, &own).unwrap_or(own),
        data,
        listeners,
        inputs: inputs.to_json(),
        stop_limit: settings.end_limit(),
    })
    .map_err(|e| Failure::Internal(e.into()))?;
    Ok(u8::try_from(code).unwrap_or(70))
}

/// Files the configuration names must be usable; every one that is not is told.
pub fn proven(settings: &Settings) -> Result<(), Failure> {
    let faults = settings.prove();
    faults.iter().for_each(|fault| eprintln!("error: {fault}"));
    if faults.is_empty() { Ok(()) } else { Err(Failure::Configuration(String::new())) }
}

/// Binds the edge's addresses. Where nobody chose one, a taken port is no fault in development, and a family this
/// machine lacks (IPv6 switched off) none anywhere.
fn bind(edge: &mainstay_edge::Options, production: bool) -> Result<Vec<Bound>, Failure> {
    let addresses: Vec<SocketAddr> = edge.listen.iter().map(|listen| listen.address).collect();
    if edge.listen_is_default && !production {
        let hosts: Vec<IpAddr> = addresses.iter().map(SocketAddr::ip).collect();
        let port = addresses.first().map_or(PORT_DEFAULT, SocketAddr::port);
        return Ok(listen::bind_free(&hosts, port).map_err(refused)?.1);
    }
    let mut bound: Vec<Bound> = Vec::new();
    for (index, wanted) in edge.listen.iter().enumerate() {
        match listen::bind(&Listener::Tcp(wanted.address)) {
            Ok(one) => bound.push(one),
            Err(Error::AddressMissing(_)) if edge.listen_is_default && index > 0 || wanted.is_optional() => {}
            Err(error) => return Err(Failure::Configuration(format!("{}   ({})", explain(&error), wanted.at))),
        }
    }
    Ok(bound)
}

/// The supervisor's errors say what to type; they are no faults inside.
fn refused(error: Error) -> Failure {
    Failure::Configuration(explain(&error))
}

/// A command that is not there will not be there in a second either: no crash loop for it.
fn must_exist(program: &str, dir: &Path) -> Result<(), Failure> {
    let search = std::env::var_os("PATH").unwrap_or_default();
    if find(program, dir, &search).is_some() {
        return Ok(());
    }
    Err(Failure::NeverReady(if program.contains('/') {
        format!(
            "`{program}` cannot be run from {}: it is missing or not executable\n  fix: ls -l {program}",
            dir.display()
        )
    } else if program.contains(' ') {
        format!("`{program}` was not found: it is taken as one word\n  fix: mainstay run -- {program}   (no quotes)")
    } else {
        format!("`{program}` was not found in PATH\n  fix: command -v {program}   or give its full path")
    }))
}

fn find(program: &str, dir: &Path, search: &std::ffi::OsStr) -> Option<PathBuf> {
    let is_program =
        |path: &PathBuf| path.is_file() && nix::unistd::access(path.as_path(), nix::unistd::AccessFlags::X_OK).is_ok();
    if program.contains('/') {
        return Some(dir.join(program)).filter(is_program);
    }
    std::env::split_paths(search).map(|folder| dir.join(folder).join(program)).find(is_program)
}

/// The path this process was started from, links not resolved: an upgrade may turn the link to the next version.
fn as_typed(dir: &Path, own: &Path) -> Option<PathBuf> {
    let typed = std::env::args_os().next()?;
    let search = std::env::var_os("PATH").unwrap_or_default();
    let path = std::path::absolute(find(typed.to_str()?, dir, &search)?).ok()?;
    let place = |path: &Path| std::fs::metadata(path).ok().map(|file| (file.dev(), file.ino()));
    (place(&path)? == place(own)?).then_some(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_is_found_where_a_shell_would_find_it() {
        let path = "/nowhere:/bin:/usr/bin".as_ref();
        assert!(find("sh", Path::new("/"), path).is_some());
        assert!(find("/bin/sh", Path::new("/tmp"), "".as_ref()).is_some());
        assert!(find("bin/sh", Path::new("/"), "".as_ref()).is_some());
        assert!(find("/etc/passwd", Path::new("/"), path).is_none());
        assert!(find("no-such-program", Path::new("/"), path).is_none());
    }

    #[test]
    fn a_missing_command_says_what_to_type() {
        let quoted = must_exist("npm start", Path::new("/")).expect_err("missing").to_string();
        assert!(quoted.contains("mainstay run -- npm start"), "{quoted}");
        let missing = must_exist("no-such-program", Path::new("/")).expect_err("missing");
        assert_eq!(missing.code(), 69);
    }
}
