//! A Procfile: one process type a line, `web: npm start`. Only `web` takes requests, as on all platforms that read it.

use super::found::{App, Found, Port, Seen, app_name};

/// Heroku's own: a command before each deploy, not a process.
const RELEASE: &str = "release";

pub fn read(file: &str, text: &str, found: &mut Found) {
    for (number, line) in text.lines().enumerate() {
        let at = format!("{file}:{}", number + 1);
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let is_name =
            |name: &str| !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_' || c == '-');
        match line.split_once(':').map(|(name, command)| (name.trim(), command.trim())) {
            Some((RELEASE, _)) => {
                found.note(at, "release is not carried over: this version has no deploys; run it before you restart");
            }
            Some((name, command)) if is_name(name) && !command.is_empty() => {
                let port = if name == "web" { Port::Own } else { Port::None };
                let run = Some(Seen::new(command.to_owned(), &at));
                let name = app_name(name);
                if found.app(&name).is_some() {
                    found.note(at, format!("{name} is there a second time; the first counts"));
                } else {
                    found.apps.push(App { run, port, ..App::named(name) });
                }
            }
            _ => found.not_understood(at, line),
        }
    }
    // A single process type is the app, whatever it is called.
    if let [only] = found.apps.as_mut_slice() {
        only.port = Port::Own;
    }
}
