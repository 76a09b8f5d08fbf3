//! What Mainstay itself says while it serves: for a person the first minute's screen, elsewhere log lines.

use crate::hearers::Hearers;
use crate::screen;
use crate::server::Server;
use crate::settings::Settings;
use mainstay_config::Report;
use mainstay_fleet::{Event, event};
use mainstay_runtime::Clock;
use mainstay_telemetry::own::LevelSwitch;
use mainstay_telemetry::{Handle, Level, Line};
use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::Duration;

/// Instances that become ready this close to the first one stand above the address to open, as one screen.
const TOGETHER: Duration = Duration::from_millis(250);

/// Cheap to clone; lives on the control thread.
#[derive(Clone)]
pub struct Voice {
    telemetry: Handle,
    hearers: Hearers,
    level: LevelSwitch,
    /// A person reads along.
    text: bool,
    /// For a person, once, shortly after the first instance became ready.
    welcome: Rc<RefCell<Vec<String>>>,
    welcoming: Rc<Cell<bool>>,
    /// On trial beside a server that serves: what happens is that one's to tell.
    quiet: Rc<Cell<bool>>,
}

impl Voice {
    pub fn new(telemetry: Handle, level: LevelSwitch, text: bool) -> Voice {
        let (hearers, welcome, welcoming, quiet) = Default::default();
        Voice { telemetry, hearers, level, text, welcome, welcoming, quiet }
    }

    pub fn hush(&self, quiet: bool) {
        self.quiet.set(quiet);
    }

    pub fn hearers(&self) -> Hearers {
        self.hearers.clone()
    }

    pub fn info(&self, text: &str) {
        self.own(Level::Info, text);
    }

    pub fn warn(&self, text: &str) {
        self.own(Level::Warn, text);
    }

    pub fn error(&self, text: &str) {
        self.own(Level::Error, text);
    }

    fn own(&self, level: Level, text: &str) {
        if level <= self.level.get() && !self.quiet.get() {
            self.telemetry.line(Line::own(Clock::unix_micros(), level, text));
        }
    }

    /// A line of the screen: as it is for a person, without its column for a log.
    fn screen(&self, level: Level, line: &str) {
        if self.text {
            eprintln!("{}", line.trim_end());
        } else {
            self.own(level, screen::without_label(line).trim_end());
        }
    }

    /// What the fleet has to say; whoever waits for a command of theirs hears it too.
    pub fn event(&self, event: &Event) {
        let level = match event.level() {
            event::Level::Debug => Level::Debug,
            event::Level::Info => Level::Info,
            event::Level::Warn => Level::Warn,
            event::Level::Error => Level::Error,
        };
        if level > self.level.get() || self.quiet.get() {
            return;
        }
        let text = event.to_string();
        if level <= Level::Info {
            self.hearers.tell(&text);
        }
        let is_first = matches!(event, Event::Ready { .. }) && !self.welcome.borrow().is_empty();
        if is_first && self.text {
            self.screen(level, &text);
        } else {
            let (app, number) = event.about();
            let instance = number.map(|number| format!("{app}.{number}")).unwrap_or_default();
            let text = without_names(screen::without_label(&text), [instance.as_str(), app]);
            let line = Line::own(Clock::unix_micros(), level, text);
            self.telemetry.line(Line { app: app.into(), instance: instance.into(), ..line });
        }
        if is_first && !self.welcoming.replace(true) {
            let voice = self.clone();
            tokio::task::spawn_local(async move {
                tokio::time::sleep(TOGETHER).await;
                voice.welcome();
            });
        }
    }

    fn welcome(&self) {
        for line in self.welcome.take() {
            self.screen(Level::Info, &line);
        }
    }

    /// The first line now; the rest when there is something to open.
    pub fn opening(&self, server: &Server, settings: &Settings, report: &Report) {
        if server.facts.crashes > 0 {
            return self.error("the server died and was replaced; the instances run on");
        }
        let current = server.current.borrow();
        let file = current.inputs.file.as_ref().map(|file| file.path.display().to_string());
        let data = server.facts.shown_data();
        self.screen(Level::Info, &screen::opening(&settings.environment.to_string(), &data, file.as_deref()));
        let listeners = server.listeners();
        if !self.text {
            let addresses: Vec<String> = listeners.iter().map(|(address, _)| address.to_string()).collect();
            self.info(&format!("listening on {}", addresses.join(" ")));
            report.warnings.iter().for_each(|warning| self.screen(Level::Warn, &screen::warn(warning)));
            return;
        }
        let mut rest = screen::open(&listeners);
        let has_ports = settings.fleet.apps.iter().any(|app| app.port != mainstay_fleet::Port::None);
        rest.extend(screen::given(has_ports, settings.jobs.is_on && !settings.fleet.apps.is_empty()));
        rest.extend(report.warnings.iter().map(screen::warn));
        self.welcome.replace(rest);
        if settings.fleet.apps.is_empty() {
            self.welcome();
        }
    }
}

/// The line names whom it is about in a place of its own.
fn without_names<'a>(text: &'a str, names: [&str; 2]) -> &'a str {
    let named = names.into_iter().filter(|name| !name.is_empty());
    let rests = named.filter_map(|name| text.strip_prefix(name)?.strip_prefix(' '));
    rests.map(str::trim_start).next().unwrap_or(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_log_line_names_its_instance_once() {
        let names = ["main.1", "main"];
        assert_eq!(without_names("main.1   exit status 3", names), "exit status 3");
        assert_eq!(without_names("main   npm start", names), "npm start");
        assert_eq!(without_names("main.10 listens", names), "main.10 listens");
        assert_eq!(without_names("other", ["", "main"]), "other");
    }
}
