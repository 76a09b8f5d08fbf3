//! `mainstay init`: writes `mainstay.toml` from what the project's files say; `--systemd`: a unit to run it by.

use crate::exit::{self, Failure};
use crate::init::found::Found;
use crate::init::unit::{self, Unit};
use crate::init::{self, write};
use crate::place::{Place, PlaceArgs};
use crate::settings;
use anyhow::Context;
use mainstay_config::{Inputs, Text};
use std::fs::OpenOptions;
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};

const FILE: &str = "mainstay.toml";
const EXAMPLE: &str = ".env.example";
/// Where the packages put the schema: in the project by npm, in the system by Debian's.
const SCHEMA_OF_NPM: &str = "node_modules/mainstay/mainstay.schema.json";
const SCHEMA_OF_DEBIAN: &str = "/usr/share/mainstay/mainstay.schema.json";
const SCHEMA_HERE: &str = "./mainstay.schema.json";

#[derive(Debug, clap::Args)]
pub struct Args {
    /// Write to stdout, and no file
    #[arg(long)]
    print: bool,
    /// Write over a file that is there
    #[arg(long)]
    force: bool,
    /// A systemd unit that runs what is in this folder, instead of mainstay.toml
    #[arg(long)]
    systemd: bool,
    /// Read this file too: nginx.conf, compose, Procfile, package.json, .env (may be repeated)
    #[arg(long, value_name = "FILE", conflicts_with = "systemd")]
    from: Vec<PathBuf>,
}

pub fn run(place: &PlaceArgs, args: Args) -> Result<u8, Failure> {
    let place = place.resolve()?;
    if args.systemd { systemd(&place, &args) } else { configuration(&place, &args) }
}

fn configuration(place: &Place, args: &Args) -> Result<u8, Failure> {
    let target = place.file.clone().unwrap_or_else(|| FILE.into());
    let found = init::look(&place.dir, &args.from).map_err(Failure::Usage)?;
    let text = best(place, &target, &found);
    if args.print {
        print!("{text}");
        tell(&found);
        return Ok(exit::ASKED);
    }
    put(&place.dir, &target, &text, args.force)?;
    let from = if found.files.is_empty() { "no file it knows".to_owned() } else { found.files.join(", ") };
    eprintln!("wrote {} from {from}", target.display());
    tell(&found);
    let inputs = with_file(place, &target, text);
    example(&place.dir, inputs.as_ref())?;
    if let Some((_, report)) = inputs.as_ref().map(settings::read)
        && !report.faults.is_empty()
    {
        eprintln!("\nmainstay check would say:\n{}", report.render(super::run::color()).trim_end());
    }
    let named = place.file.as_ref().map_or(String::new(), |file| format!(" --file {}", file.display()));
    eprintln!("next: mainstay check{named}   then: mainstay run{named}   on a server: mainstay init --systemd{named}");
    Ok(exit::ASKED)
}

/// With certificates in force if they are here and fit: then this is the machine that serves.
fn best(place: &Place, target: &Path, found: &Found) -> String {
    let schema = schema(&place.dir);
    let page = |on_the_server| write::file(found, write::Surroundings { schema: &schema, on_the_server });
    if !found.certificates.is_empty() {
        let text = page(true);
        let proven =
            with_file(place, target, text.clone()).is_some_and(|inputs| settings::read(&inputs).0.prove().is_empty());
        if proven {
            return text;
        }
    }
    page(false)
}

/// What `#:schema` names: a file that is there, else the one that `config --schema` would write.
fn schema(dir: &Path) -> String {
    if dir.join(SCHEMA_OF_NPM).exists() {
        format!("./{SCHEMA_OF_NPM}")
    } else if Path::new(SCHEMA_OF_DEBIAN).exists() {
        format!("file://{SCHEMA_OF_DEBIAN}")
    } else {
        SCHEMA_HERE.to_owned()
    }
}

/// The inputs `check` would have with this text as the file.
fn with_file(place: &Place, target: &Path, text: String) -> Option<Inputs> {
    // Not the file that is there: it may be the broken one that is written over.
    let mut inputs = Inputs::gather(&place.dir, Some(Path::new("/dev/null")), None, Vec::new(), None).ok()?;
    inputs.file = Some(Text::new(target, text));
    Some(inputs)
}

/// What is not in the file, each with its place.
fn tell(found: &Found) {
    for note in &found.notes {
        eprintln!("{note}");
    }
    if found.more_notes > 0 {
        eprintln!("and {} more", found.more_notes);
    }
}

/// C7: the names of all variables in use, for a project that keeps its values in `.env` and has no such list.
fn example(dir: &Path, inputs: Option<&Inputs>) -> Result<(), Failure> {
    let Some(inputs) = inputs.filter(|inputs| inputs.dot_env.is_some()) else { return Ok(()) };
    if dir.join(EXAMPLE).exists() || dir.join(".env.sample").exists() {
        return Ok(());
    }
    put(dir, Path::new(EXAMPLE), &mainstay_config::example(&settings::read(inputs).1), false)?;
    eprintln!("wrote {EXAMPLE}: every variable in use, and no value");
    Ok(())
}

/// A file that is there stays as it is, unless it may be written over; then it is replaced as a whole.
fn put(dir: &Path, name: &Path, text: &str, force: bool) -> Result<(), Failure> {
    let path = dir.join(name);
    let shown = name.display();
    if !force {
        let created = OpenOptions::new().write(true).create_new(true).open(&path);
        let mut file = match created {
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {
                let fix = "mainstay init --print   to compare, or --force to write over it";
                return Err(Failure::Refused(format!("{shown} is there already, and was left as it is\n  fix: {fix}")));
            }
            created => created.with_context(|| format!("cannot write {shown}"))?,
        };
        return Ok(file.write_all(text.as_bytes()).with_context(|| format!("cannot write {shown}"))?);
    }
    let beside = path.with_extension("new");
    std::fs::write(&beside, text).with_context(|| format!("cannot write {}", beside.display()))?;
    std::fs::rename(&beside, &path).with_context(|| format!("cannot write {shown}"))?;
    Ok(())
}

fn systemd(place: &Place, args: &Args) -> Result<u8, Failure> {
    let file = place.dir.join(place.file.clone().unwrap_or_else(|| FILE.into()));
    let dir = file.parent().unwrap_or(&place.dir).to_path_buf();
    let name = dir.file_name().map_or("main".into(), |name| name.to_string_lossy());
    let program = std::env::current_exe().context("cannot find this program's own file")?;
    let settings = Inputs::gather(&place.dir, place.file.as_deref(), None, Vec::new(), None).ok();
    let settings = settings.map_or_else(|| settings::read(&Inputs::default()).0, |inputs| settings::read(&inputs).0);
    let env_file = [".env.production", ".env"].map(|name| dir.join(name)).into_iter().find(|path| path.is_file());
    let unit = Unit {
        name: crate::init::found::app_name(&name),
        folder: name.into_owned(),
        program,
        end_limit: settings.end_limit(),
        node: if dir.join("package.json").exists() { unit::unusual_folder("node") } else { None },
        systemd: unit::systemd_version(),
        env_file,
        file,
        dir,
    };
    if args.print {
        print!("{}", unit.text());
        return Ok(exit::ASKED);
    }
    let target = unit.file_name();
    put(&place.dir, Path::new(&target), &unit.text(), args.force)?;
    eprintln!("wrote {target}: its first lines say what to type");
    if !unit.file.exists() {
        eprintln!("{} is not there yet: mainstay init", unit.file.display());
    }
    Ok(exit::ASKED)
}
