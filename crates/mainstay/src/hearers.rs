//! Who wants to hear what the fleet does while a command of theirs is carried out.

use crate::control::Say;
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;

/// Cheap to clone; lives on the control thread.
#[derive(Debug, Clone, Default)]
pub struct Hearers(Rc<RefCell<Table>>);

#[derive(Debug, Default)]
struct Table {
    next: u64,
    all: BTreeMap<u64, Say>,
}

/// Hears as long as it lives.
#[derive(Debug)]
pub struct Hearing {
    hearers: Hearers,
    number: u64,
}

impl Hearers {
    pub fn add(&self, say: &Say) -> Hearing {
        let mut table = self.0.borrow_mut();
        table.next += 1;
        let number = table.next;
        table.all.insert(number, say.clone());
        Hearing { hearers: self.clone(), number }
    }

    pub fn tell(&self, line: &str) {
        for say in self.0.borrow().all.values() {
            say.try_line(line);
        }
    }
}

impl Drop for Hearing {
    fn drop(&mut self) {
        self.hearers.0.borrow_mut().all.remove(&self.number);
    }
}
