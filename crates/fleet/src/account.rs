//! From what an instance notes to what a person is told, with the facts that belong to it.

use crate::crew::Process;
use crate::event::{End, Event as Said, Trouble};
use crate::fleet::Fleet;
use crate::instance::{Note, READY, Serial, Why};
use crate::plan::Key;
use mainstay_supervisor::protocol::Exit;

/// So many of a child's last lines make a message; the rest is in its log.
const LINES: usize = 10;

impl Fleet {
    pub fn note(&mut self, key: &Key, serial: Serial, note: Note) {
        let who = self.who(key);
        match note {
            Note::Late => self.say_late(key, serial),
            Note::Exited(exit) => {
                let end = self.end(key, serial, exit);
                let start = self.member(key).and_then(|member| member.machine.start_at());
                let again_in = start.map(|at| at.since(self.now())).unwrap_or_default();
                self.say(Said::Exited { who, end, again_in });
            }
            Note::CrashLoop => {
                let exit = self.member(key).and_then(|member| member.process(serial)?.exit);
                let end = self.end(key, serial, exit);
                let exits = self.member(key).map_or(0, |member| member.machine.early_exits());
                self.say(Said::CrashLoop { who, end, exits });
            }
            Note::Finished => self.say(Said::Finished { who }),
            Note::Replaced => self.outcomes.push((key.clone(), Ok(()))),
            Note::Kept(why) => {
                let trouble = self.trouble(key, serial, why);
                self.outcomes.push((key.clone(), Err(trouble)));
            }
            Note::HadToKill => {
                let Some(member) = self.member_mut(key) else { return };
                member.killed = true;
                let limit = member.machine.rules().limit;
                self.say(Said::HadToKill { who, limit });
            }
            Note::WouldNotStop => {
                let Some(member) = self.member_mut(key) else { return };
                member.hangs = true;
                let pid = member.process(serial).and_then(|process| process.pid).unwrap_or_default();
                self.say(Said::WouldNotStop { who, pid });
            }
        }
    }

    pub fn say_late(&self, key: &Key, serial: Serial) {
        if let Trouble::NotReady { waited, port, seen, lines, .. } = self.trouble(key, serial, Why::NotReady) {
            self.say(Said::Late { who: self.who(key), waited, port, seen, lines });
        }
    }

    fn process(&self, key: &Key, serial: Serial) -> Option<&Process> {
        self.member(key)?.process(serial)
    }

    fn trouble(&self, key: &Key, serial: Serial, why: Why) -> Trouble {
        match why {
            Why::Exited(exit) => Trouble::Ended(self.end(key, serial, Some(exit))),
            Why::NotStarted => Trouble::Ended(self.end(key, serial, None)),
            Why::NotReady => {
                let process = self.process(key, serial);
                Trouble::NotReady {
                    app: key.0.clone(),
                    waited: READY,
                    port: process.and_then(|process| process.port()),
                    seen: process.map(|process| process.seen.borrow().clone()).unwrap_or_default(),
                    lines: self.last_lines(key),
                }
            }
        }
    }

    fn end(&self, key: &Key, serial: Serial, exit: Option<Exit>) -> End {
        let process = self.process(key, serial);
        let now = self.now();
        End {
            exit,
            error: process.and_then(|process| process.error.clone()),
            ran: process.map(|process| now.since(process.spawned_at)).unwrap_or_default(),
            was_ready: process.is_some_and(|process| process.how.is_some()),
            listening: process.map(|process| process.seen.borrow().listening.clone()).unwrap_or_default(),
            lines: self.last_lines(key),
        }
    }

    fn last_lines(&self, key: &Key) -> Vec<String> {
        let mut lines = (self.outside.tail)(&key.0, key.1);
        lines.split_off(lines.len().saturating_sub(LINES))
    }
}
