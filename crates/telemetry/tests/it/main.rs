//! Telemetry as its users see it: a thread that writes, files that are read back, accounts of requests.

mod entry;
mod own;
mod read;
mod service;

use mainstay_config::{Inputs, Reader};
use mainstay_telemetry::{Console, Handle, Names, Options, Redactor, Running, Service, Setup};
use std::io::Write;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// The bound of every wait here.
pub const WAIT: Duration = Duration::from_secs(30);

/// What was written to a console.
#[derive(Clone, Default)]
pub struct Screen(Arc<Mutex<Vec<u8>>>);

impl Write for Screen {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().expect("screen").extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl Screen {
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.0.lock().expect("screen")).into_owned()
    }
}

pub fn options(file: &str) -> Options {
    let mut inputs = Inputs::of_file(file);
    inputs.environment.push(("NODE_ENV".to_owned(), "production".to_owned()));
    Options::read(&Reader::new(&inputs))
}

/// A running service on this folder.
pub fn start(
    dir: &Path,
    file: &str,
    names: &Names,
    secrets: &[(&str, &str)],
    screen: Option<&Screen>,
) -> (Running, Handle) {
    let console = screen.map(|screen| Console::start(screen.clone(), true, false).expect("console"));
    let setup = Setup {
        dir: dir.to_owned(),
        options: options(file),
        names: names.clone(),
        secrets: Redactor::new(secrets.iter().copied()),
        console,
        beside: false,
    };
    let (service, handle) = Service::new(setup).expect("service");
    (service.spawn().expect("thread"), handle)
}

pub fn wait(what: &str, mut condition: impl FnMut() -> bool) {
    let start = Instant::now();
    while !condition() {
        assert!(start.elapsed() < WAIT, "{what}: still not after {:?}", start.elapsed());
        std::thread::yield_now();
    }
}
