//! Rolling restarts.

use crate::house::{app, is_alive, options, with};
use mainstay_fleet::{App, Error, State};
use std::net::TcpListener;

#[test]
fn one_after_the_other_and_never_fewer_than_before() {
    with(options(&[app("main", "", 2)]), async |house| {
        house.until_ready(2).await;
        let before = house.ready();
        let watching = house.until("fewer serve", |house| house.serving("main") < 2);
        let restarting = house.handle.restart(None, None);
        tokio::select! {
            count = restarting => assert_eq!(count, Ok(2)),
            () = watching => panic!("fewer than two served"),
        }
        let after = house.ready();
        assert_eq!(after.len(), 2);
        assert!(after.iter().all(|one| !before.contains(one)));
        assert!(before.iter().all(|(_, pid)| !is_alive(*pid)));
        assert!(house.instances().iter().all(|instance| instance.restarts == 0));
    });
}

#[test]
fn one_instance_alone_and_wishes_that_cannot_be() {
    with(options(&[app("main", "", 2)]), async |house| {
        house.until_ready(2).await;
        let (one, two) = (house.pid("main.1"), house.pid("main.2"));
        assert_eq!(house.handle.restart(Some("main"), Some(2)).await, Ok(1));
        assert_eq!(house.pid("main.1"), one);
        assert_ne!(house.pid("main.2"), two);
        let unknown = Error::NoSuchApp { name: "mian".to_owned(), known: "main".to_owned() };
        assert_eq!(house.handle.restart(Some("mian"), None).await, Err(unknown));
        let number = Error::NoSuchInstance { app: "main".to_owned(), number: 3, count: 2 };
        assert_eq!(house.handle.restart(Some("main"), Some(3)).await, Err(number));
        assert_eq!(house.handle.restart(None, Some(3)).await, Err(Error::NumberWithoutApp));
    });
}

#[test]
fn nothing_is_signalled_while_a_request_is_in_flight() {
    with(options(&[app("main", "", 1)]), async |house| {
        house.until_ready(1).await;
        let old = house.pid("main.1");
        let upstream = house.members.group("main").list().upstreams[0].clone();
        let request = upstream.begin().expect("it serves");
        let restarting = house.handle.restart(Some("main"), None);
        let watching = async {
            house.until("draining", |house| house.instances().iter().any(|i| i.state == State::Draining)).await;
            // Many looks of the loop later it still has its request and its life.
            tokio::time::sleep(std::time::Duration::from_millis(400)).await;
            assert!(house.supervisor.signals.lock().expect("lock").is_empty());
            drop(request);
        };
        let (count, ()) = tokio::join!(restarting, watching);
        assert_eq!(count, Ok(1));
        assert!(!is_alive(old));
    });
}

#[test]
fn a_new_one_that_does_not_come_up_leaves_the_old_one_and_says_why() {
    let flag = std::env::temp_dir().join(format!("fleet-flag-{}", std::process::id()));
    let mode = format!("unless:{}", flag.display());
    with(options(&[app("main", &mode, 2)]), async |house| {
        house.until_ready(2).await;
        let before = house.ready();
        std::fs::write(&flag, "").expect("a file");
        let error = house.handle.restart(None, None).await.expect_err("it cannot start twice").to_string();
        std::fs::remove_file(&flag).expect("the file");
        assert!(error.starts_with("main.1 was not replaced: the new one: exit status 4 after"), "{error}");
        assert!(error.ends_with("| Error: not twice"), "{error}");
        assert_eq!(house.ready(), before);
        assert_eq!(house.serving("main"), 2);
        assert_eq!(house.handle.restart(None, None).await, Ok(2), "and it can be asked again");
    });
}

#[test]
fn an_app_with_its_own_idea_of_a_port_is_used_there_and_stopped_before_it_is_started() {
    let free = TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = free.local_addr().expect("its address").port();
    drop(free);
    with(options(&[app("main", &format!("port:{port}"), 1)]), async |house| {
        house.until_ready(1).await;
        let old = house.pid("main.1");
        assert_eq!(house.instances()[0].address, Some(format!("127.0.0.1:{port}")));
        assert!(house.said().contains("and not on its PORT"), "{}", house.said());
        assert_eq!(house.handle.restart(None, None).await, Ok(1));
        assert_ne!(house.pid("main.1"), old);
        assert_eq!(house.serving("main"), 1);
    });
}

#[test]
fn a_worker_is_stopped_before_it_is_started() {
    let worker = App { instances: 2, ..app("worker", "worker", 2) };
    with(options(&[worker]), async |house| {
        house.until_ready(2).await;
        let before = house.ready();
        assert_eq!(house.handle.restart(Some("worker"), None).await, Ok(2));
        assert!(house.ready().iter().all(|one| !before.contains(one)));
    });
}
