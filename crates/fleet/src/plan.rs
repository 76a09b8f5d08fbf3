//! What a new configuration means for the instances that run: which are started, replaced, stopped, left alone.
//!
//! Must never: touch one of them; it compares and says.

use crate::options::{App, Options};
use std::rc::Rc;

/// An app and the number of one of its instances.
pub type Key = (String, u32);

#[derive(Debug, Default, PartialEq, Eq)]
pub struct Plan {
    pub start: Vec<Key>,
    /// In the order in which they are replaced, one at a time.
    pub replace: Vec<Key>,
    pub stop: Vec<Key>,
    pub keep: Vec<Key>,
}

impl Plan {
    pub fn of(old: &Options, new: &Options) -> Plan {
        let mut plan = Plan::default();
        for app in &new.apps {
            match old.app(&app.name) {
                None => plan.start.extend(keys(app, 1, app.instances)),
                Some(before) => plan.compare(before, app),
            }
        }
        for app in old.apps.iter().filter(|app| new.app(&app.name).is_none()) {
            plan.stop.extend(keys(app, 1, app.instances));
        }
        plan
    }

    fn compare(&mut self, before: &Rc<App>, app: &Rc<App>) {
        let both = before.instances.min(app.instances);
        let changed = before.tag() != app.tag();
        let stay = if changed { &mut self.replace } else { &mut self.keep };
        stay.extend(keys(app, 1, both));
        self.start.extend(keys(app, both + 1, app.instances));
        self.stop.extend(keys(app, both + 1, before.instances));
    }
}

fn keys(app: &App, from: u32, to: u32) -> impl Iterator<Item = Key> {
    (from..=to).map(|number| (app.name.clone(), number))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::options::{Port, Restart};
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    pub fn app(name: &str, line: &str, instances: u32) -> Rc<App> {
        Rc::new(App {
            name: name.to_owned(),
            line: line.to_owned(),
            argv: vec!["/bin/sh".to_owned(), "-c".to_owned(), line.to_owned()],
            instances,
            port: Port::Own,
            dir: None,
            user: None,
            env: Vec::new(),
            memory_limit: None,
            restart: Restart::Always,
            exposed: false,
            closed: false,
            health: None,
        })
    }

    fn options(apps: &[Rc<App>]) -> Options {
        Options { apps: apps.to_vec(), drain: None }
    }

    fn key(app: &str, number: u32) -> Key {
        (app.to_owned(), number)
    }

    #[test]
    fn only_what_changed_is_touched() {
        let old = options(&[app("api", "a", 2), app("web", "w", 3), app("old", "o", 1), app("up", "u", 1)]);
        let new = options(&[app("api", "a2", 2), app("web", "w", 1), app("new", "n", 1), app("up", "u", 2)]);
        let expected = Plan {
            start: vec![key("new", 1), key("up", 2)],
            replace: vec![key("api", 1), key("api", 2)],
            stop: vec![key("web", 2), key("web", 3), key("old", 1)],
            keep: vec![key("web", 1), key("up", 1)],
        };
        assert_eq!(Plan::of(&old, &new), expected);
    }

    #[test]
    fn a_tag_is_of_what_a_process_was_started_with_alone() {
        let plain = app("api", "a", 1);
        let tag = |change: &dyn Fn(&mut App)| {
            let mut changed = App::clone(&plain);
            change(&mut changed);
            changed.tag()
        };
        assert_eq!(tag(&|app| app.instances = 9), plain.tag());
        assert_eq!(tag(&|app| app.memory_limit = Some(1)), plain.tag());
        assert_eq!(tag(&|app| app.health = Some("/x".to_owned())), plain.tag());
        assert_eq!(tag(&|app| app.restart = Restart::OnFailure), plain.tag());
        assert_ne!(tag(&|app| app.argv[2] = "b".to_owned()), plain.tag());
        assert_ne!(tag(&|app| app.env.push(("A".to_owned(), "1".to_owned()))), plain.tag());
        assert_ne!(tag(&|app| app.user = Some("www".to_owned())), plain.tag());
        assert_ne!(tag(&|app| app.dir = Some("/srv".into())), plain.tag());
        assert_ne!(tag(&|app| app.port = Port::Fixed(3000)), plain.tag());
        assert_ne!(tag(&|app| app.closed = true), plain.tag());
        assert_eq!(plain.tag(), "e9688e7fef4bbc9a", "the same in every build");
    }

    fn some_options() -> impl Strategy<Value = Options> {
        prop::collection::btree_map("[abc]", ("[xy]", 1u32..4), 0..4)
            .prop_map(|apps| options(&apps.iter().map(|(name, (line, n))| app(name, line, *n)).collect::<Vec<_>>()))
    }

    proptest! {
        #[test]
        fn every_instance_has_one_fate(old in some_options(), new in some_options()) {
            let plan = Plan::of(&old, &new);
            let all = |options: &Options| -> BTreeSet<Key> {
                options.apps.iter().flat_map(|a| keys(a, 1, a.instances)).collect()
            };
            let set = |lists: &[&Vec<Key>]| {
                let flat: Vec<Key> = lists.iter().flat_map(|list| list.iter().cloned()).collect();
                let set: BTreeSet<Key> = flat.iter().cloned().collect();
                assert_eq!(flat.len(), set.len());
                set
            };
            prop_assert_eq!(set(&[&plan.start, &plan.replace, &plan.keep]), all(&new));
            prop_assert_eq!(set(&[&plan.stop, &plan.replace, &plan.keep]), all(&old));
            let same = Plan::of(&old, &old);
            prop_assert!(same.start.is_empty() && same.replace.is_empty() && same.stop.is_empty());
        }
    }
}
