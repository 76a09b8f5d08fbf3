//! `.env.example` (C7): every variable in use with what it is for, and no value.

use crate::report::Report;

pub fn example(report: &Report) -> String {
    let mut text = String::from("# Every variable in use. Copy to .env and fill in.\n");
    for variable in report.variables.iter() {
        if variable.at.is_none() {
            continue;
        }
        text.push_str(&format!("\n# {}\n{}=\n", variable.doc, variable.name));
    }
    text
}
