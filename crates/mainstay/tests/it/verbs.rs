//! Verbs that need a server, and none is there; and wrong words.

use crate::{Project, has};

#[test]
fn verbs_that_ask_a_server_say_that_there_is_none_and_what_to_type() {
    let project = Project::new(&[]);
    for verb in [
        ["status"].as_slice(),
        &["health"],
        &["why", "r_0"],
        &["restart"],
        &["restart", "main", "1"],
        &["reload"],
        &["stop"],
    ] {
        let said = project.mainstay(verb);
        assert_eq!((said.code, said.out.as_str()), (Some(1), ""), "{verb:?}: {}", said.err);
        has(&said.err, &["no mainstay runs", "mainstay run -- "]);
    }
    assert!(!project.path().join(".mainstay").exists(), "a look must not create the data folder");
}

#[test]
fn wrong_words_are_usage_errors() {
    let project = Project::new(&[]);
    for args in [["frobnicate"].as_slice(), &["run", "--frob"], &["why"], &["logs", "--since", "yesterday"]] {
        let said = project.mainstay(args);
        assert_eq!((said.code, said.out.as_str()), (Some(2), ""), "{args:?}: {}", said.err);
    }
}

#[test]
fn help_names_the_verbs_and_hides_what_is_not_for_people() {
    let said = Project::new(&[]).mainstay(&["--help"]);
    assert_eq!(said.code, Some(0));
    has(&said.out, &["run", "demo", "check", "status", "health", "logs", "why", "restart", "reload", "stop"]);
    assert!(!said.out.contains("demo-backend"));
}

#[test]
fn logs_without_a_data_folder_say_where_they_looked() {
    let said = Project::new(&[]).mainstay(&["logs"]);
    assert_eq!((said.code, said.out.as_str()), (Some(1), ""));
    has(&said.err, &[".mainstay"]);
}
