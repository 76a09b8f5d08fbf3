//! From the file, the environment and the flags to `Options`.

use super::{App, Options, Port, Restart};
use crate::environment::{Variables, base, node_options_warnings};
use crate::machine::Machine;
use mainstay_config::{Inputs, Item, Reader, Table, Value, parse_env_file};
use std::path::{Path, PathBuf};
use std::rc::Rc;

/// More of one app on one machine is a slip of the finger.
const MOST_INSTANCES: i64 = 256;
const INSTANCES: &str = "a number from 1 to 256, \"auto\" or { min = 2, max = 10 }";
const PORT: &str = "true, false or the number it always listens on";
const RUN: &str = "a command line, as \"node server.js\", or a list, as [\"node\", \"server.js\"]";

impl Options {
    /// `inputs` must be those of the reader: the child's environment is made from them.
    pub fn read(reader: &Reader, inputs: &Inputs) -> Options {
        Options::read_on(reader, inputs, &Machine::here())
    }

    /// With a given machine, so that the same file means the same everywhere.
    pub fn read_on(reader: &Reader, inputs: &Inputs, machine: &Machine) -> Options {
        let mut tables: Vec<Table> = reader.named("app").into_iter().filter(|table| !is_elsewhere(table)).collect();
        if let Some(command) = reader.command() {
            let main = reader.table("app.main");
            if main.has("run") || main.has("upstreams") {
                let what = format!("the command line says how to run app \"main\", and {} does too", main.label());
                let fix = format!("mainstay run, without -- {}", command.first().map_or("", String::as_str));
                main.fault(&main.position(), what, "one of them", Some(&fix));
            }
            if !tables.iter().any(|table| table.name() == "main") {
                tables.push(main);
            }
        }
        let only = tables.len() == 1;
        if !only && let Some(workers) = reader.variable("CLUSTER_WORKERS") {
            let what = "CLUSTER_WORKERS does not say which app it is about and is ignored";
            reader.warn(&workers.at, what, "instances = N in [app.NAME]", None);
        }
        let common = Common { reader, inputs, machine, env_file: env_file(inputs), only };
        let mut apps: Vec<Rc<App>> = tables.iter().filter_map(|table| common.app(table)).map(Rc::new).collect();
        apps.sort_by(|a, b| a.name.cmp(&b.name));
        Options { apps, drain: None }
    }
}

/// It runs somewhere else: all of it is the edge's.
fn is_elsewhere(table: &Table) -> bool {
    table.has("upstreams") && !table.has("run")
}

fn env_file(inputs: &Inputs) -> Variables {
    let Some(file) = &inputs.env_file else { return Vec::new() };
    // Its faults are told by the reader, which reads it too.
    let (assignments, _) = parse_env_file(&file.path.to_string_lossy(), &file.text);
    assignments.into_iter().map(|assignment| (assignment.name, assignment.value)).collect()
}

/// What all apps are read with.
struct Common<'a> {
    reader: &'a Reader,
    inputs: &'a Inputs,
    machine: &'a Machine,
    env_file: Variables,
    only: bool,
}

impl Common<'_> {
    fn app(&self, table: &Table) -> Option<App> {
        check_name(table);
        let command = self.command(table);
        let instances = self.instances(table);
        let port = port(table, instances);
        let own = own_environment(table, port);
        let dir = table.key("dir").doc("Where it runs; relative to this file").opt_text().map(|dir| beside(&dir));
        let user = self.user(table);
        let memory_limit = table
            .key("memory_limit")
            .doc("Resident memory of the whole instance above which it is replaced")
            .example("\"512MiB\"")
            .opt_size();
        let restart = table
            .key("restart")
            .doc("on-failure: exit status 0 is the end")
            .choice(&["always", "on-failure"], "always");
        let exposed = table
            .key("exposed")
            .doc("It may listen on a public address although [identity] guards it")
            .boolean(false)
            .value;
        self.check_required(table, &own);
        let env = base(&self.inputs.environment, &self.env_file, &own);
        self.check_memory(table, &env, instances, memory_limit.as_ref());
        let (line, argv) = command?;
        Some(App {
            name: table.name().to_owned(),
            line,
            argv,
            instances,
            port,
            dir,
            user,
            env,
            memory_limit: memory_limit.map(|limit| limit.value),
            restart: if restart.value == "on-failure" { Restart::OnFailure } else { Restart::Always },
            exposed,
            closed: false,
            health: None,
        })
    }

    /// As it is shown, and as it is started.
    fn command(&self, table: &Table) -> Option<(String, Vec<String>)> {
        let key = table
            .key("run")
            .example("\"node server.js\"")
            .doc("How it is started: a line for the shell, or a list; $PORT is the child's, ${PORT} would be ours");
        let written = key.value();
        if table.name() == "main"
            && let Some(command) = self.reader.command()
        {
            return Some((command.join(" "), command.to_vec()));
        }
        let Some(written) = written else {
            // A table that is only described has no place.
            if !table.position().is_default() {
                let fix = format!("run = \"npm start\" or upstreams = [\"10.0.0.1:3000\"] in {}", table.label());
                table.fault(&table.position(), format!("{} says nothing to run", table.label()), RUN, Some(&fix));
            }
            return None;
        };
        if table.has("upstreams") {
            let what = format!("{} has run and upstreams", table.label());
            table.fault(&written.at, what, "run for a child, upstreams for what runs elsewhere", None);
        }
        match &written.value {
            Value::Text(line) if !line.trim().is_empty() => Some((line.trim().to_owned(), argv(line))),
            Value::List(items) if !items.is_empty() => {
                let words: Option<Vec<String>> = items.iter().map(|item| self.word(table, item)).collect();
                words.map(|words| (words.join(" "), words))
            }
            other => {
                table.fault(&written.at, format!("{} is nothing to run", other.found()), RUN, None);
                None
            }
        }
    }

    fn word(&self, table: &Table, item: &Item<Value>) -> Option<String> {
        match &item.value {
            Value::Text(word) => Some(word.clone()),
            Value::Integer(number) => Some(number.to_string()),
            other => {
                table.fault(&item.at, format!("{} is not a word of a command", other.found()), RUN, None);
                None
            }
        }
    }

    fn instances(&self, table: &Table) -> u32 {
        let mut key = table
            .key("instances")
            .doc("How many: a number, \"auto\" (one a processor), or { min, max }; 1 by default")
            .example("2");
        if self.takes_cluster_workers(table) {
            key = key.env("CLUSTER_WORKERS");
        }
        let Some(found) = key.value() else { return 1 };
        let number = match &found.value {
            Value::Integer(number) => Some(*number),
            Value::Text(text) if text.trim().eq_ignore_ascii_case("auto") => Some(i64::from(self.machine.cpus)),
            Value::Text(text) if found.at.file().is_none() => text.trim().parse().ok(),
            Value::Table(scale) => Some(scaled(scale)),
            _ => None,
        };
        match number.filter(|number| (1..=MOST_INSTANCES).contains(number)).map(u32::try_from) {
            Some(Ok(number)) => number,
            _ => {
                table.fault(&found.at, format!("instances cannot be {}", found.value.found()), INSTANCES, None);
                1
            }
        }
    }

    /// A value the app may understand and we do not is no reason to stop, unless the file says `instances` itself.
    fn takes_cluster_workers(&self, table: &Table) -> bool {
        if !self.only {
            return table.position().is_default();
        }
        let Some(workers) = self.reader.variable("CLUSTER_WORKERS") else { return true };
        let text = workers.value.trim();
        let readable = text.eq_ignore_ascii_case("auto")
            || text.parse::<i64>().is_ok_and(|number| (1..=MOST_INSTANCES).contains(&number));
        if readable {
            return true;
        }
        let what = "CLUSTER_WORKERS cannot be read";
        let fix = Some("CLUSTER_WORKERS=auto");
        if self.reader.environment().production && table.has("instances") {
            table.fault(&workers.at, what, "a number from 1 to 256, or auto", fix);
        } else {
            table.warn(&workers.at, format!("{what} and is ignored here"), "a number from 1 to 256, or auto", fix);
        }
        false
    }

    fn user(&self, table: &Table) -> Option<String> {
        let user = table
            .key("user")
            .doc("Who runs it, where Mainstay is started as root: a name, a number or UID:GID; production asks for it")
            .example("\"www-data\"")
            .opt_text();
        if user.is_none() && self.machine.root && self.reader.environment().production {
            let what = format!("{} would run as root in production", table.label());
            // Without a file nothing that worked stops working; and in a container the image has chosen.
            if table.position().is_default() || self.machine.contained {
                let expected = "mainstay started as another user, or user = \"NAME\" in [app.NAME]";
                table.warn(&table.position(), what, expected, None);
            } else {
                let expected = "user = \"NAME\", or mainstay started as another user";
                let fix = format!("user = \"www-data\" in {}; user = \"root\" if root is meant", table.label());
                table.fault(&table.position(), what, expected, Some(&fix));
            }
        }
        user.map(|user| user.value)
    }

    /// C8: what a deployment lists must be there before anything starts.
    fn check_required(&self, table: &Table, own: &[(String, String)]) {
        let names = table
            .key("required")
            .doc("Variables without which it is not started in production")
            .example("[\"DATABASE_URL\"]")
            .opt_texts();
        for name in names.iter().flat_map(|names| &names.value) {
            if !own.iter().any(|(known, value)| *known == name.value && !value.is_empty()) {
                self.reader.require(&name.value, &name.at);
            }
        }
    }

    /// C9: what node may use, against what there is.
    fn check_memory(&self, table: &Table, env: &[(String, String)], instances: u32, limit: Option<&Item<u64>>) {
        if let Some((_, options)) = env.iter().find(|(name, _)| name == "NODE_OPTIONS") {
            let set_by = self.reader.named_variable("NODE_OPTIONS").map_or_else(|| table.position(), |item| item.at);
            for (what, fix) in node_options_warnings(options, instances, self.machine) {
                table.warn(&set_by, format!("NODE_OPTIONS: {what}"), "", Some(&fix));
            }
        }
        if let (Some(limit), Some(memory)) = (limit, self.machine.memory)
            && limit.value.saturating_mul(u64::from(instances)) > memory
        {
            let mib = |bytes: u64| bytes / (1024 * 1024);
            let what = format!("{instances} × {} MiB is more than the {} MiB there are", mib(limit.value), mib(memory));
            table.warn(&limit.at, what, "less, so that the limit acts before the kernel does", None);
        }
    }
}

/// Names are in labels (`api.1`), log lines and commands.
fn check_name(table: &Table) {
    let name = table.name();
    let fits = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
    if name.is_empty() || name.len() > 40 || !name.chars().all(fits) {
        let what = format!("{name:?} cannot be the name of an app");
        table.fault(&table.position(), what, "up to 40 of a-z, A-Z, 0-9, - and _", None);
    }
}

fn scaled(scale: &Table) -> i64 {
    let min = scale.key("min").doc("Fewest instances").integer(1, 1..=MOST_INSTANCES);
    let max = scale.key("max").doc("Most instances").opt_integer(1..=MOST_INSTANCES);
    let percent = 1..=100;
    let _ = scale.key("cpu").doc("Percent of a processor above which one is added").opt_integer(percent.clone());
    let _ = scale.key("memory").doc("Percent of memory above which one is added").opt_integer(percent);
    if let Some(max) = max.as_ref().filter(|max| max.value < min.value) {
        scale.fault(&max.at, "max is less than min", "max ≥ min", None);
    }
    let what = format!("scaling by load is not built yet: {} run, neither more nor less", min.value);
    scale.warn(&min.at, what, "instances = N", None);
    min.value
}

fn port(table: &Table, instances: u32) -> Port {
    let key = table.key("port").doc(
        "true: each instance gets a PORT of its own; false: it takes no requests, alive is healthy; \
         a number: it listens there whatever PORT says",
    );
    let Some(found) = key.example("true").value() else { return Port::Own };
    let spelled = |text: &str| match text.trim() {
        "true" => Some(Value::Boolean(true)),
        "false" => Some(Value::Boolean(false)),
        number => number.parse().ok().map(Value::Integer),
    };
    let value = match &found.value {
        Value::Text(text) if found.at.file().is_none() => spelled(text).unwrap_or_else(|| found.value.clone()),
        other => other.clone(),
    };
    match value {
        Value::Boolean(true) => Port::Own,
        Value::Boolean(false) => Port::None,
        Value::Integer(number @ 1..=65_535) => {
            if instances > 1 {
                let what = format!("{instances} instances cannot all listen on {number}");
                table.fault(&found.at, what, "port = true, or instances = 1", None);
            }
            u16::try_from(number).map_or(Port::Own, Port::Fixed)
        }
        _ => {
            table.fault(&found.at, format!("port cannot be {}", found.value.found()), PORT, None);
            Port::Own
        }
    }
}

fn own_environment(table: &Table, port: Port) -> Variables {
    let pairs = table.table("env").doc("Variables for this app alone; they win over all others").pairs();
    for (name, _) in pairs.iter().filter(|(name, _)| matches!(name.value.as_str(), "PORT" | "HOST")) {
        let what = format!("{} is always replaced by the child's own", name.value);
        match port {
            Port::None => table.warn(&name.at, what, "another name: without a port it gets neither", None),
            _ => table.warn(&name.at, what, "port = NUMBER, if it must listen there", None),
        }
    }
    pairs.into_iter().map(|(name, value)| (name.value, value.value)).collect()
}

/// Relative to the file it is written in; from elsewhere, to where we were started.
fn beside(dir: &Item<String>) -> PathBuf {
    let folder =
        dir.at.file().and_then(|file| Path::new(file).parent()).filter(|folder| !folder.as_os_str().is_empty());
    folder.map_or_else(|| PathBuf::from(&dir.value), |folder| folder.join(&dir.value))
}

#[cfg(test)]
mod tests;

/// Characters that mean something to a shell. A line without any is run without one: a signal then reaches the
/// program itself, and its pid is the one shown.
const SHELL_CHARACTERS: &str = "|&;<>()$`\\\"'*?[]#~{}!\n";

/// Words that only a shell knows.
const SHELL_WORDS: [&str; 16] = [
    ".", ":", "alias", "cd", "command", "eval", "exec", "export", "if", "set", "source", "test", "trap", "ulimit",
    "umask", "while",
];

fn argv(line: &str) -> Vec<String> {
    let first = line.split_whitespace().next().unwrap_or("");
    if line.contains(|c| SHELL_CHARACTERS.contains(c)) || first.contains('=') || SHELL_WORDS.contains(&first) {
        return vec!["/bin/sh".to_owned(), "-c".to_owned(), line.to_owned()];
    }
    line.split_whitespace().map(str::to_owned).collect()
}
