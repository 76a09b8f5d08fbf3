//! `mainstay check`: reads the configuration as `run` would and tells every fault, those of the stores it names among
//! them; starts and binds nothing.

use super::run;
use crate::exit::{self, Failure};
use crate::place::PlaceArgs;
use crate::{settings, stores};
use mainstay_config::Fault;
use serde_json::{Value, json};

#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    run: run::Args,
    /// The report as JSON, on stdout
    #[arg(long)]
    json: bool,
}

pub fn run(place: &PlaceArgs, args: Args) -> Result<u8, Failure> {
    let inputs = run::gather(&place.resolve()?, args.run)?;
    let (settings, mut report) = settings::read(&inputs);
    if report.is_ok() {
        let (faults, warnings) = stores::judged(&settings);
        report.faults.extend(faults);
        report.warnings.extend(warnings);
    }
    if args.json {
        let list = |faults: &[Fault]| faults.iter().map(fault).collect::<Vec<_>>();
        let document = json!({
            "environment": settings.environment.name,
            "faults": list(&report.faults),
            "warnings": list(&report.warnings),
        });
        println!("{document:#}");
        return ended(report.is_ok() && settings.prove().is_empty());
    }
    eprintln!("environment: {}", settings.environment);
    let is_proven = run::proven(&settings).is_ok();
    match report.render(run::color()).trim_end() {
        "" if is_proven => eprintln!("0 faults, 0 warnings"),
        "" => {}
        text => eprintln!("{text}"),
    }
    ended(report.is_ok() && is_proven)
}

fn ended(is_good: bool) -> Result<u8, Failure> {
    if is_good { Ok(exit::ASKED) } else { Err(Failure::Configuration(String::new())) }
}

fn fault(fault: &Fault) -> Value {
    json!({
        "at": fault.position.to_string(),
        "what": fault.what,
        "found": fault.found,
        "expected": fault.expected,
        "fix": fault.fix,
    })
}
