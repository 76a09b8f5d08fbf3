//! Exit codes, and how a failure is told to the person who typed the verb.

use std::fmt;
use std::process::ExitCode;

/// What was asked was done.
pub const ASKED: u8 = 0;
/// The answer to the question is no: unhealthy, or nobody there to ask.
pub const NO: u8 = 1;

/// Why a verb failed. The kind decides the exit code, the text is for people.
#[derive(Debug)]
pub enum Failure {
    /// The verb was not used as it can be.
    Usage(String),
    /// The configuration is not usable. The report may have been printed already: then the text is empty.
    Configuration(String),
    /// The app cannot be started at all.
    NeverReady(String),
    /// No server answers at this data folder.
    Unreachable(String),
    /// The server answered that it could not do it.
    Refused(String),
    Internal(anyhow::Error),
}

impl Failure {
    pub fn code(&self) -> u8 {
        match self {
            Failure::Usage(_) => 2,
            Failure::Configuration(_) => 78,
            Failure::NeverReady(_) => 69,
            Failure::Unreachable(_) | Failure::Refused(_) => NO,
            Failure::Internal(_) => 70,
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Failure::Usage(text)
            | Failure::Configuration(text)
            | Failure::NeverReady(text)
            | Failure::Unreachable(text)
            | Failure::Refused(text) => f.write_str(text),
            Failure::Internal(error) => {
                write!(f, "{error}")?;
                error.chain().skip(1).try_for_each(|cause| write!(f, "\n  because {cause}"))
            }
        }
    }
}

impl<E: Into<anyhow::Error>> From<E> for Failure {
    fn from(error: E) -> Self {
        Failure::Internal(error.into())
    }
}

/// Prints what failed to stderr and gives the process its code.
pub fn code(result: Result<u8, Failure>) -> ExitCode {
    match result {
        Ok(code) => ExitCode::from(code),
        Err(failure) => {
            let text = failure.to_string();
            if !text.is_empty() {
                eprintln!("error: {text}");
            }
            ExitCode::from(failure.code())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_kind_has_the_documented_code_and_causes_are_told() {
        assert_eq!(Failure::Configuration(String::new()).code(), 78);
        assert_eq!(Failure::NeverReady(String::new()).code(), 69);
        let inner = anyhow::anyhow!("disk full").context("cannot write");
        let failure = Failure::from(inner);
        assert_eq!((failure.code(), failure.to_string().as_str()), (70, "cannot write\n  because disk full"));
    }
}
