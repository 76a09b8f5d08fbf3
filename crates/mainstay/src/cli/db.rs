//! `mainstay db install`: the tables of jobs and `mainstay.add_job` in the Postgres that the file names, by whoever may
//! make them; a server makes them too, where its user may.

use super::run;
use crate::exit::{self, Failure};
use crate::place::PlaceArgs;
use crate::settings;
use mainstay_store::Lasting;

#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, clap::Subcommand)]
enum Verb {
    /// Make or update the tables of jobs, and mainstay.add_job() for an app's own transactions
    Install {
        #[command(flatten)]
        run: run::Args,
    },
}

pub fn run(place: &PlaceArgs, args: Args) -> Result<u8, Failure> {
    let Verb::Install { run: args } = args.verb;
    let (settings, report) = settings::read(&run::gather(&place.resolve()?, args)?);
    if !report.faults.is_empty() {
        eprintln!("{}", report.render(run::color()).trim_end());
        return Err(Failure::Configuration(String::new()));
    }
    let Lasting::Postgres(options) = &settings.store.durable else {
        return Err(Failure::Refused(
            "jobs are kept in a file here, and need nothing installed\n  fix: [store] durable = \"postgres\", with \
             DATABASE_URL"
                .to_owned(),
        ));
    };
    let (runtime, local) = mainstay_runtime::current_thread()?;
    let done = local.block_on(&runtime, mainstay_jobs::store::install(options));
    let done = done.map_err(|error| Failure::Refused(settings::chain(&error)))?;
    done.iter().for_each(|line| println!("{line}"));
    Ok(exit::ASKED)
}
