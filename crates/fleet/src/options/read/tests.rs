//! Files, variables and flags by table: what comes out, and every complaint.

use super::*;
use mainstay_config::Text;

const MACHINE: Machine = Machine { cpus: 4, memory: Some(4 << 30), root: false, contained: false };

fn inputs(file: &str, variables: &[(&str, &str)]) -> Inputs {
    let pair = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
    let file = (!file.is_empty()).then(|| Text::new("mainstay.toml", file));
    Inputs { file, environment: variables.iter().map(pair).collect(), pid: 4711, ..Inputs::default() }
}

/// The options, and what is wrong and doubtful, a line each.
fn read(inputs: &Inputs) -> (Options, Vec<String>, Vec<String>) {
    read_on(&MACHINE, inputs)
}

fn read_on(machine: &Machine, inputs: &Inputs) -> (Options, Vec<String>, Vec<String>) {
    let reader = Reader::new(inputs);
    let options = Options::read_on(&reader, inputs, machine);
    let report = reader.finish();
    let lines = |faults: &[mainstay_config::Fault]| faults.iter().map(mainstay_config::Fault::line).collect();
    (options, lines(&report.faults), lines(&report.warnings))
}

fn good(file: &str, variables: &[(&str, &str)]) -> Options {
    let (options, faults, warnings) = read(&inputs(file, variables));
    assert_eq!((faults, warnings), (vec![], vec![]), "{file}");
    options
}

#[track_caller]
fn complains(file: &str, variables: &[(&str, &str)], expected: &[&str]) {
    let (_, faults, warnings) = read(&inputs(file, variables));
    let all: Vec<String> = faults.into_iter().chain(warnings).collect();
    assert_eq!(all.len(), expected.len(), "{all:#?}");
    for (line, part) in all.iter().zip(expected) {
        assert!(line.contains(part), "{part:?} is not in {line:?}");
    }
}

#[test]
fn a_line_is_for_the_shell_where_it_needs_one_and_a_list_never_is() {
    let options =
        good("[app.api]\nrun = \"node server.js\"\n[app.b]\nrun = [\"node\", \"b.js\", 3]\nport = false", &[]);
    let api = options.app("api").expect("api");
    // Without a shell between, a signal reaches the program and its pid is the one shown.
    assert_eq!(api.argv, ["node", "server.js"]);
    for line in ["cd app && node x.js", "PORT=1 node x.js", "node x.js | tee log", "exec node x.js", "node \"a b.js\""]
    {
        assert_eq!(argv(line), ["/bin/sh", "-c", line]);
    }
    assert_eq!((api.line.as_str(), api.instances, api.port), ("node server.js", 1, Port::Own));
    let b = options.app("b").expect("b");
    assert_eq!(b.argv, ["node", "b.js", "3"]);
    assert_eq!((b.line.as_str(), b.port), ("node b.js 3", Port::None));
}

#[test]
fn the_command_line_is_app_main() {
    let mut inputs = inputs("", &[]);
    inputs.command = Some(vec!["npm".to_owned(), "start".to_owned()]);
    let (options, faults, _) = read(&inputs);
    assert_eq!(faults, Vec::<String>::new());
    assert_eq!(options.apps.len(), 1);
    assert_eq!(options.app("main").map(|app| app.argv.clone()), Some(vec!["npm".to_owned(), "start".to_owned()]));

    inputs.file = Some(Text::new("mainstay.toml", "[app.main]\nrun = \"x\""));
    let (_, faults, _) = read(&inputs);
    assert!(faults.len() == 1 && faults[0].contains("mainstay run, without -- npm"), "{faults:?}");
}

#[test]
fn instances_in_every_form() {
    let count = |value: &str, variables: &[(&str, &str)]| {
        let line = if value.is_empty() { String::new() } else { format!("instances = {value}") };
        let options = read(&inputs(&format!("[app.api]\nrun = \"x\"\n{line}"), variables)).0;
        options.app("api").map(|app| app.instances)
    };
    assert_eq!(count("", &[]), Some(1));
    assert_eq!(count("3", &[]), Some(3));
    assert_eq!(count("\"auto\"", &[]), Some(4));
    assert_eq!(count("{ min = 2, max = 10, cpu = 70, memory = 80 }", &[]), Some(2));
    assert_eq!(count("", &[("CLUSTER_WORKERS", "2")]), Some(2));
    assert_eq!(count("3", &[("CLUSTER_WORKERS", "auto")]), Some(4), "the environment ranks above the file");
    assert_eq!(count("3", &[("CLUSTER_WORKERS", "max")]), Some(3));
    complains("[app.api]\nrun = \"x\"\ninstances = 0", &[], &["mainstay.toml:3: instances cannot be"]);
    complains("[app.api]\nrun = \"x\"\ninstances = \"3\"", &[], &["instances cannot be"]);
    complains(
        "[app.api]\nrun = \"x\"\ninstances = { min = 3, max = 2 }",
        &[],
        &["max is less", "not built yet: 3 run"],
    );
    complains("[app.api]\nrun = \"x\"", &[("CLUSTER_WORKERS", "many")], &["environment CLUSTER_WORKERS"]);
    let two = "[app.a]\nrun = \"x\"\n[app.b]\nrun = \"y\"";
    complains(two, &[("CLUSTER_WORKERS", "2")], &["does not say which app"]);
}

#[test]
fn what_runs_elsewhere_is_the_edges() {
    let (options, _, _) = read(&inputs("[app.x]\nupstreams = [\"10.0.0.1:3000\"]", &[]));
    assert_eq!(options.apps, []);
    let (_, faults, _) = read(&inputs("[app.x]\nport = true", &[]));
    assert!(faults[0].contains("says nothing to run") && faults[0].contains("upstreams"), "{faults:?}");
}

#[test]
fn ports_that_cannot_be() {
    let fixed = good("[app.x]\nrun = \"x\"\nport = 3000", &[]);
    assert_eq!(fixed.app("x").map(|app| app.port), Some(Port::Fixed(3000)));
    complains("[app.x]\nrun = \"x\"\nport = 3000\ninstances = 2", &[], &["2 instances cannot all listen on 3000"]);
    complains("[app.x]\nrun = \"x\"\nport = 70000", &[], &["port cannot be the number 70000"]);
    complains("[app.x]\nrun = \"x\"\nport = \"yes\"", &[], &["port cannot be"]);
    complains("[app.x]\nrun = \"x\"\nenv = { PORT = 3000 }", &[], &["PORT is always replaced"]);
    complains("[app.\"a.b\"]\nrun = \"x\"", &[], &["cannot be the name of an app"]);
}

#[test]
fn required_names_are_refused_in_production_and_doubted_in_development() {
    let file = "[app.x]\nrun = \"x\"\nrequired = [\"SENTRY_DSN\", \"SESSION_SECRET\", \"OWN\"]\nenv = { OWN = \"1\" }";
    let (_, faults, warnings) = read(&inputs(file, &[("NODE_ENV", "production"), ("SENTRY_DSN", "https://x@y/1")]));
    assert_eq!(warnings, Vec::<String>::new());
    assert_eq!(faults.len(), 1, "{faults:?}");
    assert!(faults[0].starts_with("mainstay.toml:3: SESSION_SECRET is required and not set"), "{faults:?}");
    let (_, faults, warnings) = read(&inputs(file, &[("SENTRY_DSN", "")]));
    assert_eq!((faults.len(), warnings.len()), (0, 2), "an empty variable is an unset one");
}

#[test]
fn the_childs_environment_ranks_its_sources() {
    let mut inputs =
        inputs("[app.x]\nrun = \"x\"\nenv = { A = \"app\" }", &[("A", "env"), ("B", "env"), ("PORT", "80")]);
    inputs.env_file = Some(Text::new("prod.env", "B=file\nC=file\n"));
    inputs.dot_env = Some(Text::new(".env", "D=never\n"));
    let (options, _, _) = read(&inputs);
    let env = &options.app("x").expect("x").env;
    let shown: Vec<String> = env.iter().map(|(name, value)| format!("{name}={value}")).collect();
    assert_eq!(shown, ["A=app", "B=env", "C=file"]);
}

#[test]
fn memory_is_compared_with_what_there_is() {
    let file = "[app.x]\nrun = \"x\"\ninstances = 3\nmemory_limit = \"512MiB\"";
    let options = read(&inputs(file, &[("NODE_OPTIONS", "--max-old-space-size=2048")]));
    assert_eq!(options.0.app("x").and_then(|app| app.memory_limit), Some(512 << 20));
    assert!(options.2.len() == 1 && options.2[0].contains("3 instances with a heap of 2048 MiB"), "{:?}", options.2);
    complains("[app.x]\nrun = \"x\"\nmemory_limit = \"8GiB\"", &[], &["more than the 4096 MiB there are"]);
}

#[test]
fn the_rest_and_where_it_runs() {
    let mut inputs = inputs("", &[]);
    let text = "[app.x]\nrun = \"x\"\ndir = \"web\"\nuser = \"www\"\nrestart = \"on-failure\"\nexposed = true";
    inputs.file = Some(Text::new("/etc/shop/mainstay.toml", text));
    let (options, faults, _) = read(&inputs);
    assert_eq!(faults, Vec::<String>::new());
    let app = options.app("x").expect("x");
    assert_eq!(app.dir.as_deref(), Some(Path::new("/etc/shop/web")));
    assert_eq!((app.user.as_deref(), app.restart, app.exposed), (Some("www"), Restart::OnFailure, true));
    let edge = options.under_edge(std::time::Duration::from_secs(7), |app| Some(format!("/{app}/health")));
    assert_eq!((edge.drain().as_secs(), edge.apps[0].health.as_deref()), (7, Some("/x/health")));
}

#[test]
fn what_is_guarded_is_closed_unless_the_file_says_that_others_may_come() {
    for (more, guarded, closed) in [("", true, true), ("", false, false), ("exposed = true", true, false)] {
        let (options, ..) = read(&inputs(&format!("[app.x]\nrun = \"x\"\n{more}"), &[]));
        assert_eq!(options.guarded(guarded).apps[0].closed, closed, "{more} {guarded}");
    }
}

#[test]
fn described_without_a_fault() {
    let reader = Reader::describe();
    assert_eq!(Options::read_on(&reader, &Inputs::default(), &MACHINE).apps, []);
    let report = reader.finish();
    assert_eq!(report.faults.iter().map(mainstay_config::Fault::line).collect::<Vec<_>>(), Vec::<String>::new());
}

#[test]
fn root_in_production_is_refused_by_a_file_and_doubted_without_one_or_in_a_container() {
    const APP: &str = "[app.api]\nrun = \"x\"\n";
    let production: &[(&str, &str)] = &[("NODE_ENV", "production")];
    let root = Machine { root: true, ..MACHINE };
    let contained = Machine { contained: true, ..root };
    let said = |machine: &Machine, file: &str, variables: &[(&str, &str)]| {
        let mut inputs = inputs(file, variables);
        inputs.command = file.is_empty().then(|| vec!["x".to_owned()]);
        let (_, faults, warnings) = read_on(machine, &inputs);
        let about = |lines: &[String]| lines.iter().filter(|line| line.contains("root in production")).count();
        (about(&faults), about(&warnings))
    };
    assert_eq!(said(&root, APP, production), (1, 0));
    assert_eq!(said(&contained, APP, production), (0, 1));
    assert_eq!(said(&root, "", production), (0, 1));
    let two = format!("{APP}[app.b]\nrun = \"y\"\nport = false\nuser = \"nobody\"\n");
    assert_eq!(said(&root, &two, production), (1, 0), "each app by itself");
    let elsewhere = "[app.api]\nupstreams = [\"10.0.0.1:80\"]\n";
    for (machine, file, variables) in [
        (&MACHINE, APP, production),
        (&root, APP, &[][..]),
        (&root, &format!("{APP}user = \"root\"\n"), production),
        (&root, &format!("{APP}user = \"1000:1000\"\n"), production),
        (&root, elsewhere, production),
    ] {
        assert_eq!(said(machine, file, variables), (0, 0), "{file} {variables:?}");
    }
    let (_, faults, _) = read_on(&root, &inputs(APP, production));
    assert!(faults[0].contains("mainstay.toml:1"), "{faults:?}");
}
