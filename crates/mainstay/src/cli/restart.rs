//! `mainstay restart [APP [INSTANCE]]`: rolling, one instance after another.

use crate::control::{Command, Restart, client};
use crate::exit::{self, Failure};
use crate::place::PlaceArgs;

#[derive(Debug, clap::Args)]
pub struct Args {
    /// App; all of them if left out
    app: Option<String>,
    /// Number of one instance, as `status` shows it
    instance: Option<u32>,
}

pub fn run(place: &PlaceArgs, args: Args) -> Result<u8, Failure> {
    let (app, instance) = split(args);
    client::ask(&place.resolve()?, &Command::Restart(Restart { app, instance }), client::to_stderr)?;
    Ok(exit::ASKED)
}

/// `main.2` means what `main 2` means: it is how `status` and the logs write it.
fn split(args: Args) -> (Option<String>, Option<u32>) {
    if let (Some(app), None) = (&args.app, args.instance)
        && let Some((name, number)) = app.rsplit_once('.')
        && let Ok(number) = number.parse()
    {
        return (Some(name.to_owned()), Some(number));
    }
    (args.app, args.instance)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_instance_may_be_written_as_the_logs_write_it() {
        let args = |app: &str, instance| Args { app: Some(app.to_owned()), instance };
        assert_eq!(split(args("main.2", None)), (Some("main".to_owned()), Some(2)));
        assert_eq!(split(args("main", Some(3))), (Some("main".to_owned()), Some(3)));
        assert_eq!(split(args("api.v", None)), (Some("api.v".to_owned()), None));
    }
}
