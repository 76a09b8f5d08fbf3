//! A new server takes over what the last one left.

use crate::house::{again, app, is_alive, lasting, options};
use mainstay_fleet::{App, State};

#[test]
fn groups_are_taken_over_with_their_pids() {
    let first = [app("main", "", 2), app("worker", "worker", 1), app("gone", "", 1)];
    lasting(|supervisor| {
        let mut before = Vec::new();
        again(options(&first), supervisor, async |house| {
            house.until_ready(4).await;
            before = house.ready();
        });
        // `main` as it was, `worker` with other settings, `gone` not at all.
        let mut worker = first[1].clone();
        worker.env.push(("CHANGED".to_owned(), "1".to_owned()));
        again(options(&[first[0].clone(), worker]), supervisor, async |house| {
            house.until("main serves", |house| house.serving("main") == 2).await;
            let main: Vec<_> = house.ready().into_iter().filter(|(label, _)| label.starts_with("main")).collect();
            assert_eq!(main, before[1..3]);
            let worker = before[3].1;
            house.until("new worker", |house| house.ready().iter().any(|(l, p)| l == "worker.1" && *p != worker)).await;
            house.until("strays gone", |_| !is_alive(before[0].1) && !is_alive(worker)).await;
            assert!(house.said().contains("gone.1"), "{}", house.said());
            assert_eq!(house.instances().len(), 3);
        });
    });
}

#[test]
fn a_replacement_that_was_under_way_goes_on() {
    let slow = [app("main", "", 1)];
    lasting(|supervisor| {
        again(options(&slow), supervisor, async |house| {
            house.until_ready(1).await;
            // The server dies while the new one starts.
            let restarting = house.handle.restart(None, None);
            let two = house.until("two", |house| house.instances().iter().filter(|i| i.pid.is_some()).count() == 2);
            tokio::select! {
                _ = restarting => {}
                () = two => {}
            }
        });
        again(options(&slow), supervisor, async |house| {
            house
                .until("one", |house| {
                    let all = house.instances();
                    all.len() == 1 && all[0].state == State::Ready && house.supervisor.instances().len() == 1
                })
                .await;
        });
    });
}

#[test]
fn one_that_died_meanwhile_is_simply_started() {
    lasting(|supervisor| {
        let apps = [App { instances: 2, ..app("main", "", 2) }];
        let mut one = 0;
        again(options(&apps), supervisor, async |house| {
            house.until_ready(2).await;
            one = house.pid("main.1");
        });
        crate::house::kill(one, nix::sys::signal::Signal::SIGKILL);
        while supervisor.instances().len() == 2 {
            std::thread::yield_now();
        }
        again(options(&apps), supervisor, async |house| {
            house.until_ready(2).await;
            assert_ne!(house.pid("main.1"), one);
        });
    });
}
