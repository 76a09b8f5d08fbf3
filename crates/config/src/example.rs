//! `.env.example` (C7): every variable in use with what it is for, and no value. It is meant to be committed, so it
//! takes nothing from the env files but names.

use crate::report::Report;
use crate::setting::Variable;

const HEAD: &str = "\
# Every variable in use, without its value. Copy to .env, fill in, keep .env out of the repository.
";

/// The text of the file; what is not in use but would be read follows as comments. In use is what is set in an env
/// file, what the guides name and the environment sets, and what the configuration needs though nobody set it.
pub fn example(report: &Report) -> String {
    let mut text = String::from(HEAD);
    for variable in report.variables.iter().filter(|variable| variable.in_use()) {
        let secret = if variable.secret { " (secret)" } else { "" };
        text.push_str(&format!("\n# {}{secret}\n{}=\n", variable.doc, variable.name));
    }
    let others: Vec<&Variable> = report.variables.iter().filter(|variable| !variable.in_use()).collect();
    if !others.is_empty() {
        text.push_str("\n# Read by mainstay too, and not set now:\n");
    }
    for variable in others {
        text.push_str(&format!("# {}=   {}\n", variable.name, variable.doc));
    }
    text
}

impl Variable {
    /// Set somewhere, or needed though it is not.
    pub fn in_use(&self) -> bool {
        self.at.is_some() || self.needed
    }
}
