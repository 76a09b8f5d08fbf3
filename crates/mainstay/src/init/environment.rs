//! `.env`: names alone, never a value. What Mainstay reads of it is read at each start, and is not copied.

use super::found::{Found, Seen};
use mainstay_config::parse_env_file;

/// Without them a deployment is not worth starting (C8), where the project uses them at all.
const REQUIRED: [&str; 6] =
    ["DATABASE_URL", "JWT_SECRET", "REDIS_URL", "SESSION_SECRET", "SENTRY_DSN", "OTEL_EXPORTER_OTLP_ENDPOINT"];

pub fn read(file: &str, text: &str, found: &mut Found) {
    let (assignments, faults) = parse_env_file(file, text);
    for fault in faults {
        let line = fault.position.line().map_or_else(String::new, |line| format!(":{line}"));
        // The fault's own words hold no value.
        found.note(format!("{file}{line}"), format!("not understood: {}", fault.what));
    }
    for assignment in assignments {
        let at = assignment.at.to_string();
        match assignment.name.as_str() {
            "PORT" | "HOST" => {
                let what = format!("{} names the edge's address; each instance gets its own", assignment.name);
                found.note(at, what);
            }
            name if REQUIRED.contains(&name) && !found.required.iter().any(|known| known.value == name) => {
                found.required.push(Seen::new(name.to_owned(), at));
            }
            _ => {}
        }
    }
}
