//! Start, death, crash loop, memory, stop.

use crate::house::{app, is_alive, kill, options, with};
use mainstay_fleet::{App, Event, How, Port, Restart, State, Stopped};
use nix::sys::signal::Signal;
use std::time::Duration;

#[test]
fn instances_start_serve_and_come_back_when_killed() {
    with(options(&[app("main", "", 2), app("worker", "worker", 1)]), async |house| {
        house.until_ready(3).await;
        assert_eq!((house.serving("main"), house.serving("worker")), (2, 0));
        let status = house.handle.status();
        assert_eq!((status[0].name.as_str(), status[0].wanted, status[0].ready), ("main", 2, 2));
        assert_eq!(status[0].health.as_deref(), Some("/health"));
        assert_eq!(status[1].instances[0].ready_by, Some(How::Alive));
        let ports: Vec<Option<u16>> = status[0].instances.iter().map(|instance| instance.port).collect();
        assert!(ports[0] != ports[1] && ports.iter().all(|port| *port >= Some(21_000)), "{ports:?}");

        let pid = house.pid("main.1");
        kill(pid, Signal::SIGKILL);
        house.until("left", |house| house.serving("main") == 1).await;
        house.until("back", |house| house.ready().iter().any(|(l, p)| l == "main.1" && *p != pid)).await;
        let main = &house.handle.status()[0].instances[0];
        assert_eq!((main.restarts, main.last_exit.as_deref()), (1, Some("killed by SIGKILL")));
        assert!(house.said().contains("main.1   killed by SIGKILL after"), "{}", house.said());
    });
}

#[test]
fn a_crash_loop_is_told_with_the_last_lines() {
    with(options(&[app("main", "broken", 1)]), async |house| {
        let in_loop = |event: &Event| matches!(event, Event::CrashLoop { .. });
        house.until("a crash loop", |house| house.events.borrow().iter().any(in_loop)).await;
        let said = house.said();
        assert!(said.contains("5 times in a row exit status 3 after"), "{said}");
        assert!(said.contains("| Error: it is broken"), "{said}");
        let status = &house.handle.status()[0];
        assert_eq!((status.ready, status.instances[0].restarts >= 4), (0, true));
    });
}

#[test]
fn a_command_that_cannot_start_is_told_and_tried_again() {
    let missing = App { argv: vec!["/no/such/program".to_owned()], ..app("main", "", 1) };
    with(options(&[missing]), async |house| {
        let exited = |event: &Event| matches!(event, Event::Exited { .. });
        house.until("told", |house| house.events.borrow().iter().filter(|event| exited(event)).count() >= 2).await;
        assert!(house.said().contains("could not be started: No such file"), "{}", house.said());
    });
}

#[test]
fn exit_status_0_is_the_end_where_that_was_asked_for() {
    let once =
        App { argv: vec!["true".to_owned()], port: Port::None, restart: Restart::OnFailure, ..app("once", "", 1) };
    with(options(&[once]), async |house| {
        house.until("finished", |house| house.instances()[0].state == State::Finished).await;
        assert!(house.said().contains("ended with exit status 0"), "{}", house.said());
    });
}

#[test]
fn too_much_memory_is_a_replacement() {
    let fat = App { memory_limit: Some(100 << 20), ..app("main", "fat", 1) };
    with(options(&[fat]), async |house| {
        house.until_ready(1).await;
        let pid = house.pid("main.1");
        house.until("replaced", |house| house.ready().len() == 1 && house.pid("main.1") != pid).await;
        assert!(house.said().contains("more than its memory_limit of 100 MiB"), "{}", house.said());
        let instance = &house.instances()[0];
        assert_eq!((instance.restarts, house.serving("main")), (0, 1), "asked for, so not a restart");
    });
}

#[test]
fn stop_ends_everything_and_names_those_who_would_not() {
    with(options(&[app("main", "", 2), app("mule", "stubborn", 1)]), async |house| {
        house.until_ready(3).await;
        let pids: Vec<i32> = house.ready().into_iter().map(|(_, pid)| pid).collect();
        let stopped = house.handle.stop(Duration::from_secs(1)).await;
        assert_eq!(stopped, Stopped { killed: vec!["mule.1".to_owned()], left: vec![] });
        assert!(pids.iter().all(|pid| !is_alive(*pid)));
        assert_eq!(house.serving("main"), 0);
        assert!(house.handle.restart(None, None).await.is_err());
    });
}
