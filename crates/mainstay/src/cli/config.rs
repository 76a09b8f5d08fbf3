//! `mainstay config`: every setting, its value and where it came from; and what can be derived from reading them.

use super::run;
use crate::exit::{self, Failure};
use crate::place::PlaceArgs;
use crate::settings;
use mainstay_config::{Report, Setting};
use serde_json::{Value, json};

#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    run: run::Args,
    #[command(flatten)]
    form: Form,
}

#[derive(Debug, clap::Args)]
#[group(multiple = false)]
struct Form {
    /// An .env.example: every variable in use, and no value
    #[arg(long)]
    example: bool,
    /// A commented file with every key and its default
    #[arg(long)]
    reference: bool,
    /// A JSON Schema of the file
    #[arg(long)]
    schema: bool,
    /// The settings as JSON
    #[arg(long)]
    json: bool,
}

pub fn run(place: &PlaceArgs, args: Args) -> Result<u8, Failure> {
    let inputs = run::gather(&place.resolve()?, args.run)?;
    let (_, report) = settings::read(&inputs);
    if args.form.example {
        print!("{}", mainstay_config::example(&report));
    } else if args.form.reference {
        print!("{}", settings::describe().reference());
    } else if args.form.schema {
        println!("{:#}", settings::describe().schema());
    } else if args.form.json {
        println!("{:#}", Value::Array(report.settings.iter().map(setting).collect()));
    } else {
        print!("{}", text(&report));
    }
    if report.faults.is_empty() {
        return Ok(exit::ASKED);
    }
    // What is printed is still true of everything that could be read.
    eprintln!("{}", report.render(run::color()).trim_end());
    Err(Failure::Configuration(String::new()))
}

fn text(report: &Report) -> String {
    let shown = |setting: &Setting| setting.value.clone().unwrap_or_else(|| "-".to_owned());
    let wide = |width: usize, cell: usize| width.max(cell.min(COLUMN_MAX));
    let keys = report.settings.iter().fold(0, |width, s| wide(width, s.key.chars().count()));
    let values = report.settings.iter().fold(0, |width, s| wide(width, shown(s).chars().count()));
    let mut text = String::new();
    for setting in &report.settings {
        text.push_str(&format!("{:<keys$}  {:<values$}  {}", setting.key, shown(setting), setting.origin));
        for over in &setting.overrode {
            text.push_str(&format!("   over {} ({})", over.value, over.at));
        }
        text.push('\n');
    }
    text
}

/// One long value must not push everybody's origin out of sight.
const COLUMN_MAX: usize = 40;

fn setting(setting: &Setting) -> Value {
    let overrode = setting.overrode.iter().map(|over| json!({ "value": over.value, "at": over.at.to_string() }));
    json!({
        "key": setting.key,
        "value": setting.value,
        "origin": setting.origin.to_string(),
        "default": setting.default,
        "doc": setting.doc,
        "secret": setting.secret,
        "overrode": overrode.collect::<Vec<_>>(),
    })
}
