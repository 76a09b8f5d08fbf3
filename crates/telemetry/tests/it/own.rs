//! Mainstay's own `tracing` events.

use crate::{WAIT, start};
use mainstay_telemetry::own::{LevelSwitch, OwnLog};
use mainstay_telemetry::read::{Logs, Query};
use mainstay_telemetry::{Level, Names};
use tracing_subscriber::layer::SubscriberExt;

#[test]
fn events_become_lines_with_their_fields() {
    let (dir, names) = (tempfile::tempdir().expect("folder"), Names::default());
    let (_running, handle) = start(dir.path(), "", &names, &[], None);
    let level = LevelSwitch::new(Level::Info);
    let subscriber = tracing_subscriber::registry().with(OwnLog::new(handle.clone(), level.clone()));
    tracing::subscriber::with_default(subscriber, || {
        let error = std::io::Error::other("disk full");
        tracing::warn!(target: "mainstay_fleet", app = "main", instance = "main.1", tries = 3, "exited {}", 7);
        tracing::error!(target: "mainstay_edge", error = &error as &dyn std::error::Error, "cannot bind");
        tracing::debug!(target: "mainstay_fleet", "not wanted");
        tracing::info!(target: "somebody_else", "not ours");
        tracing::warn!(target: "somebody_else", "theirs");
        level.set(Level::Debug);
        tracing::debug!(target: "mainstay_fleet", flag = true, level = "x", "wanted");
    });
    assert!(handle.sync(WAIT));
    let lines = Logs::new(dir.path()).last(&Query::default(), 10).expect("read");
    let ends = [
        "\"message\":\"wanted\",\"flag\":true,\"level_\":\"x\"}",
        "\"message\":\"theirs\",\"target\":\"somebody_else\"}",
        "\"message\":\"cannot bind\",\"error\":\"disk full\"}",
        "\"message\":\"exited 7\",\"app\":\"main\",\"instance\":\"main.1\",\"tries\":3}",
    ];
    assert_eq!(lines.len(), ends.len(), "{lines:#?}");
    for (line, end) in lines.iter().zip(ends) {
        assert!(line.ends_with(end) && line.contains("\"service\":\"mainstay\""), "{line}");
    }
}
