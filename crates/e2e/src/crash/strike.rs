//! What is done to a round at its moment: processes are killed, the disk fails, the clock jumps, or Mainstay is stopped
//! as it should be.

use super::client::Client;
use super::failpoint::{Attached, Point};
use super::journal::{Journal, Line, What};
use super::producer::{Add, produce_one};
use super::{Dice, Fault};
use crate::processes;
use crate::wait::{pause, poll};
use crate::{Mainstay, Setup};
use nix::sys::signal::Signal;
use std::path::{Path, PathBuf};
use std::process::Child;
use std::sync::Arc;
use std::time::Duration;

/// Where Debian's package puts it; a file there is the offset by which a server's clock is wrong.
const FAKETIME: &str = "/usr/lib/x86_64-linux-gnu/faketime/libfaketime.so.1";
const FAKETIME_ARM: &str = "/usr/lib/aarch64-linux-gnu/faketime/libfaketime.so.1";
/// A restarted server, on a loaded machine, with an app that has to start too.
const UP_LIMIT: Duration = Duration::from_secs(60);
/// A failing disk is mended after so long.
const FAILS_FOR_MS: u64 = 1200;
/// Enough for SQLite to copy its log into the file, which it does after 1000 pages.
const CHECKPOINT_JOBS: usize = 60;
const CHECKPOINT_BYTES: usize = 90_000;

/// What a round consists of while it runs.
#[derive(Debug)]
pub struct Scene {
    /// Taken while it is being replaced.
    pub mainstay: Option<Mainstay>,
    pub workers: Vec<(String, Child)>,
    pub journal: Arc<Journal>,
    pub folder: PathBuf,
    pub client: Client,
    pub dice: Dice,
}

impl Drop for Scene {
    fn drop(&mut self) {
        self.end_workers();
    }
}

/// A clock that can be moved by a file in the folder of Mainstay.
pub fn movable(setup: Setup) -> Setup {
    let library = [FAKETIME, FAKETIME_ARM].into_iter().find(|path| Path::new(path).exists());
    let library = library.expect("libfaketime is not installed: apt-get install libfaketime");
    let file = setup.path().join("clock");
    std::fs::write(&file, "+0").expect("write the offset of the clock");
    let file = file.to_string_lossy().into_owned();
    setup
        .env("LD_PRELOAD", library)
        .env("FAKETIME_TIMESTAMP_FILE", &file)
        .env("FAKETIME_NO_CACHE", "1")
        .env("FAKETIME_DONT_FAKE_MONOTONIC", "1")
        .env("FAKETIME_DONT_RESET", "1")
}

impl Scene {
    pub fn mainstay(&self) -> &Mainstay {
        self.mainstay.as_ref().expect("mainstay is there between strikes")
    }

    fn note(&self, what: What, who: &str) {
        self.journal.write(&Line::now(what).who(who));
    }

    pub fn end_workers(&mut self) {
        for (_, child) in &mut self.workers {
            let _ = child.kill();
            let _ = child.wait();
        }
        self.workers.clear();
    }

    /// Does it, and comes back when Mainstay answers again.
    ///
    /// # Errors
    /// When it does not, or did not take a full disk as it should.
    pub fn strike(&mut self, fault: Fault) -> Result<(), String> {
        self.journal.write(&Line::now(What::Fault).word(fault.name()));
        match fault {
            Fault::KillServer => self.kill_server()?,
            Fault::KillSupervisor => self.kill_supervisor()?,
            Fault::KillWorker => return self.kill_worker(),
            Fault::KillApp => self.kill_app()?,
            Fault::KillServerAndWorker => {
                self.kill_worker()?;
                self.kill_server()?;
            }
            Fault::BeforeWrite => self.kill_at(Point::BeforeWrite, 12)?,
            Fault::BeforeSync => self.kill_at(Point::BeforeSync, 4)?,
            Fault::AfterSync => self.kill_at(Point::AfterSync, 4)?,
            Fault::MidCheckpoint => self.kill_at(Point::MidCheckpoint, 400)?,
            Fault::DiskFull => return self.fail(Point::DiskFull),
            Fault::SyncFails => return self.fail(Point::SyncFails),
            Fault::ClockForward => return self.move_clock("+3600"),
            Fault::ClockBack => return self.move_clock("-3600"),
            Fault::Stop => self.stop_and_start()?,
        }
        self.up()
    }

    /// Waits until jobs are answered, by a client that knows of nothing before.
    ///
    /// # Errors
    /// When they are not.
    pub fn up(&mut self) -> Result<(), String> {
        self.client = Client::new(self.mainstay().edge());
        let client = &mut self.client;
        match poll(UP_LIMIT, || matches!(client.get("/v1/queues"), Ok((200, _))).then_some(())) {
            Some(_) => self.note(What::Up, "server"),
            None => return Err(format!("jobs are not answered again:\n{}", self.mainstay().said())),
        }
        Ok(())
    }

    fn kill_server(&mut self) -> Result<(), String> {
        let server = self.mainstay().server();
        processes::signal(server, Signal::SIGKILL);
        self.gone(server)
    }

    /// Until the server is no more; the app's requests from it are then cut.
    fn gone(&self, server: i32) -> Result<(), String> {
        poll(UP_LIMIT, || (!processes::alive(server)).then_some(())).ok_or(format!("the server {server} lives on"))?;
        self.note(What::Killed, "server");
        Ok(())
    }

    fn kill_supervisor(&mut self) -> Result<(), String> {
        let server = self.mainstay().server();
        let instances = self.mainstay().instances();
        self.mainstay().signal(Signal::SIGKILL);
        self.gone(server)?;
        let ended = || instances.iter().all(|instance| !processes::alive(instance.pid));
        // An app that outlives its supervisor is ended by the next one, at the latest.
        let _ = poll(Duration::from_secs(2), || ended().then_some(()));
        self.start_again();
        poll(UP_LIMIT, || ended().then_some(())).ok_or("an app has outlived the next supervisor's start")?;
        self.note(What::Killed, "app");
        Ok(())
    }

    fn start_again(&mut self) {
        if let Some(mainstay) = self.mainstay.take() {
            let mut mainstay = mainstay.again();
            mainstay.accepting();
            self.mainstay = Some(mainstay);
        }
    }

    fn kill_worker(&mut self) -> Result<(), String> {
        let (name, mut child) = self.workers.remove(0);
        child.kill().and_then(|()| child.wait()).map_err(|e| e.to_string())?;
        self.note(What::Killed, &name);
        Ok(())
    }

    fn kill_app(&mut self) -> Result<(), String> {
        let instances = self.mainstay().instances();
        instances.iter().for_each(|instance| processes::signal(instance.pid, Signal::SIGKILL));
        let ended = || instances.iter().all(|instance| !processes::alive(instance.pid));
        poll(UP_LIMIT, || ended().then_some(())).ok_or("the app lives on")?;
        self.note(What::Killed, "app");
        Ok(())
    }

    /// Waits until the server has been killed at its `nth` call of this kind.
    fn kill_at(&mut self, point: Point, most: u64) -> Result<(), String> {
        let server = self.mainstay().server();
        let nth = u32::try_from(self.dice.between(1, most)).unwrap_or(1);
        let attached = self.attached(server, point, nth)?;
        let adding = (point == Point::MidCheckpoint).then(|| self.add_much());
        if point == Point::AfterSync {
            poll(UP_LIMIT, || attached.has_struck().then_some(())).ok_or("nothing was synced")?;
            processes::signal(server, Signal::SIGKILL);
        }
        let died = self.gone(server);
        drop(attached);
        died.map_err(|why| format!("{why}: {point:?} {nth} was not reached"))?;
        match adding {
            Some(adding) => adding.join().map_err(|_| "the large add panicked".to_owned())?,
            None => Ok(()),
        }
    }

    fn attached(&self, server: i32, point: Point, nth: u32) -> Result<Attached, String> {
        let data = self.mainstay().path().join(".mainstay");
        Attached::to(server, &data, point, nth, &self.folder.join("strace"))
    }

    /// More than SQLite leaves in its log.
    fn add_much(&mut self) -> std::thread::JoinHandle<Result<(), String>> {
        let add = Add::many("retried", "large", CHECKPOINT_JOBS, CHECKPOINT_BYTES);
        let (journal, edge, mut dice) = (self.journal.clone(), self.mainstay().edge(), self.dice.clone());
        std::thread::spawn(move || produce_one(&mut Client::new(edge), "large", &add, &journal, &mut dice))
    }

    /// The disk fails for a while and then does not: adds are refused meanwhile, and taken by the same process after.
    fn fail(&mut self, point: Point) -> Result<(), String> {
        let server = self.mainstay().server();
        let mut attached = self.attached(server, point, 1)?;
        let mut refused = Vec::new();
        let began = std::time::Instant::now();
        while began.elapsed() < Duration::from_millis(FAILS_FOR_MS) {
            let key = format!("full-{}", refused.len());
            self.journal.write(&Line::now(What::Asked).queue("retried").who("full").word(&key));
            let told = self.client.add("retried", &serde_json::json!({ "data": { "key": key } }), &key);
            if let Ok((200 | 201, told)) = &told {
                return Err(format!("{point:?}, and an add was acknowledged: {told}"));
            }
            refused.push(told);
            pause(Duration::from_millis(100));
        }
        if !attached.has_struck() {
            return Err(format!("{point:?} was not reached"));
        }
        attached.detach();
        for told in &refused {
            let is_clear = |(status, told): &super::client::Told| {
                matches!(status, 503 | 507) && told["error"].as_str().is_some_and(|text| text.contains("the disk"))
            };
            if !told.as_ref().is_ok_and(is_clear) {
                return Err(format!("{point:?}: an add was answered {told:?}"));
            }
        }
        let add = Add { may_leave: false, ..Add::one("retried", "after", 0, 1, 0) };
        let began = std::time::Instant::now();
        produce_one(&mut self.client, "full", &add, &self.journal, &mut self.dice)?;
        if began.elapsed() > Duration::from_secs(5) || self.mainstay().find_server() != Some(server) {
            return Err(format!("{point:?} is over, and jobs are not taken as before: {:?}", began.elapsed()));
        }
        Ok(())
    }

    fn move_clock(&mut self, offset: &str) -> Result<(), String> {
        std::fs::write(self.mainstay().path().join("clock"), offset).map_err(|e| e.to_string())
    }

    fn stop_and_start(&mut self) -> Result<(), String> {
        self.mainstay().verb(&["stop"]).ok();
        self.start_again();
        Ok(())
    }
}
