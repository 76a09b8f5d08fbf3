//! What Mainstay itself says while it serves: for a person the first minute's screen, elsewhere log lines.

use crate::hearers::Hearers;
use crate::screen;
use crate::server::Server;
use crate::settings::Settings;
use mainstay_config::Report;
use mainstay_fleet::{Event, event};
use mainstay_runtime::Clock;
use mainstay_telemetry::{Handle, Level, Line};
use std::cell::RefCell;
use std::rc::Rc;

/// Cheap to clone; lives on the control thread.
#[derive(Clone)]
pub struct Voice {
    telemetry: Handle,
    hearers: Hearers,
    level: Level,
    /// A person reads along.
    text: bool,
    /// Said once, after the first app became ready.
    welcome: Rc<RefCell<Vec<(Level, String)>>>,
}

impl Voice {
    pub fn new(telemetry: Handle, level: Level, text: bool) -> Voice {
        Voice { telemetry, hearers: Hearers::default(), level, text, welcome: Rc::default() }
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
        if level <= self.level {
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
        if level > self.level {
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
            let line = Line::own(Clock::unix_micros(), level, screen::without_label(&text));
            let mut line = Line { app: app.into(), ..line };
            if let Some(number) = number {
                line.instance = format!("{app}.{number}").into();
            }
            self.telemetry.line(line);
        }
        if is_first {
            self.welcome();
        }
    }

    fn welcome(&self) {
        for (level, line) in self.welcome.take() {
            self.screen(level, &line);
        }
    }

    /// The first line now; the rest when there is something to open.
    pub fn opening(&self, server: &Server, settings: &Settings, report: &Report) {
        if server.facts.crashes > 0 {
            return self.warn("the server died and was replaced; the instances run on");
        }
        let current = server.current.borrow();
        let file = current.inputs.file.as_ref().map(|file| file.path.display().to_string());
        let data = server.facts.shown_data();
        self.screen(Level::Info, &screen::opening(&settings.environment.to_string(), &data, file.as_deref()));
        let mut rest: Vec<(Level, String)> =
            screen::open(&server.listeners()).into_iter().map(|line| (Level::Info, line)).collect();
        if settings.fleet.apps.iter().any(|app| app.port != mainstay_fleet::Port::None) {
            rest.push((Level::Info, screen::given()));
        }
        rest.extend(report.warnings.iter().map(|warning| (Level::Warn, screen::warn(warning))));
        self.welcome.replace(rest);
        if settings.fleet.apps.is_empty() {
            self.welcome();
        }
    }
}
