//! `mainstay check`: reads the configuration as `run` would and tells every fault; starts and binds nothing.

use super::run;
use crate::exit::{self, Failure};
use crate::place::PlaceArgs;
use crate::settings;
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
    let (settings, report) = settings::read(&inputs);
    if args.json {
        let list = |faults: &[Fault]| faults.iter().map(fault).collect::<Vec<_>>();
        let report = json!({
            "environment": settings.environment.name,
            "faults": list(&report.faults),
            "warnings": list(&report.warnings),
        });
        println!("{report:#}");
    } else {
        eprintln!("environment: {}", settings.environment);
        match report.render(run::color()).trim_end() {
            "" => eprintln!("0 faults, 0 warnings"),
            text => eprintln!("{text}"),
        }
    }
    run::proven(&settings)?;
    if report.faults.is_empty() { Ok(exit::ASKED) } else { Err(Failure::Configuration(String::new())) }
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
