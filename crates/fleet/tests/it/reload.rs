//! A reload touches what changed, or nothing.

use crate::house::{House, app, options, with};
use mainstay_fleet::{App, Changes, Error};
use std::cell::Cell;
use std::rc::Rc;

fn changed(app: App) -> App {
    let mut app = app;
    app.env.push(("CHANGED".to_owned(), "1".to_owned()));
    app
}

async fn reload(house: &House, apps: &[App]) -> Result<Changes, Error> {
    house.handle.reload(options(apps), Box::new(|| Ok(()))).await
}

#[test]
fn only_what_changed_is_touched() {
    with(options(&[app("api", "", 1), app("gone", "", 1), app("stay", "", 2)]), async |house| {
        house.until_ready(4).await;
        let (api, stay) = (house.pid("api.1"), house.pid("stay.1"));
        let seen = Rc::new(Cell::new(0));
        let (at_swap, members) = (seen.clone(), house.members.clone());
        let swap = Box::new(move || {
            at_swap.set(members.group("new").list().upstreams.len() + members.group("gone").list().upstreams.len());
            Ok(())
        });
        let next = options(&[changed(app("api", "", 1)), app("stay", "", 3), app("new", "", 1)]);
        let changes = house.handle.reload(next, swap).await;
        assert_eq!(changes, Ok(Changes { started: 2, replaced: 1, stopped: 1, kept: 2 }));
        assert_eq!(seen.get(), 2, "the new one serves and the old one still does when routes are swapped");
        house.until("gone", |house| house.handle.status().iter().all(|app| app.name != "gone")).await;
        house.until_ready(5).await;
        assert_eq!(house.supervisor.signals.lock().expect("lock").len(), 2, "the old api, and gone");
        assert_ne!(house.pid("api.1"), api);
        assert_eq!(house.pid("stay.1"), stay);

        let fewer = [changed(app("api", "", 1)), app("stay", "", 1), app("new", "", 1)];
        assert_eq!(reload(house, &fewer).await, Ok(Changes { started: 0, replaced: 0, stopped: 2, kept: 3 }));
        house.until_ready(3).await;
        let same = reload(house, &fewer).await.map(|changes| changes.to_string());
        assert_eq!(same, Ok("0 started, 0 replaced, 0 stopped, 3 left alone".to_owned()));
    });
}

#[test]
fn an_error_anywhere_leaves_everything_as_it_was() {
    let old = [app("api", "", 2), app("web", "", 1), app("worker", "worker", 1)];
    with(options(&old), async |house| {
        house.until_ready(4).await;
        let before = house.ready();
        let bad_new = [old.as_slice(), &[app("bad", "broken", 1)]].concat();
        let error = reload(house, &bad_new).await.expect_err("it cannot start").to_string();
        assert!(error.starts_with("bad.1 was not replaced: the new one: exit status 3"), "{error}");
        house.until("the old", |house| house.ready() == before && house.instances().len() == 4).await;

        // The first app is replaced already when the second fails: it goes back to what it was.
        let bad_change = [changed(app("api", "", 2)), app("web", "broken", 1), changed(app("worker", "worker", 1))];
        let error = reload(house, &bad_change).await.expect_err("it cannot start").to_string();
        assert!(error.starts_with("web.1 was not replaced"), "{error}");
        house.until_ready(4).await;
        assert_eq!((house.pid("web.1"), house.pid("worker.1")), (before[2].1, before[3].1));
        let unchanged = Changes { started: 0, replaced: 0, stopped: 0, kept: 4 };
        assert_eq!(reload(house, &old).await, Ok(unchanged), "it runs as the old options say");

        let swap = Box::new(|| Err("port 80 is taken".to_owned()));
        let added = options(&[old.as_slice(), &[app("new", "", 1)]].concat());
        let error = house.handle.reload(added, swap).await.expect_err("the swap failed");
        assert_eq!(error, Error::NotSwapped("port 80 is taken".to_owned()));
        house.until("the new one gone", |house| house.instances().len() == 4).await;
    });
}

#[test]
fn a_worker_that_fails_with_new_settings_runs_with_the_old_ones() {
    let old = [app("worker", "worker", 1)];
    with(options(&old), async |house| {
        house.until_ready(1).await;
        let bad = App { argv: vec!["false".to_owned()], ..app("worker", "worker", 1) };
        let error = reload(house, &[bad]).await.expect_err("it ends at once").to_string();
        assert!(error.contains("exit status 1"), "{error}");
        house.until_ready(1).await;
        let unchanged = Changes { started: 0, replaced: 0, stopped: 0, kept: 1 };
        assert_eq!(reload(house, &old).await, Ok(unchanged));
    });
}

#[test]
fn settings_that_no_process_was_started_with_change_without_touching_one() {
    with(options(&[app("api", "", 1)]), async |house| {
        house.until_ready(1).await;
        let pid = house.pid("api.1");
        let limited = App { memory_limit: Some(1 << 40), health: Some("/health".to_owned()), ..app("api", "", 1) };
        let kept = Changes { started: 0, replaced: 0, stopped: 0, kept: 1 };
        assert_eq!(reload(house, &[limited]).await, Ok(kept));
        assert_eq!(house.pid("api.1"), pid);
        assert_eq!(house.handle.status()[0].memory_limit_bytes, Some(1 << 40));
    });
}
