//! What is written from what was read: the reference, the schema, `.env.example`.

use mainstay_config::{Inputs, Reader, Report, example};

use crate::blocks::{finish, inputs, lines, read};

fn described() -> Report {
    let reader = Reader::describe();
    let _ = read(&reader);
    reader.finish()
}

#[test]
fn the_reference_is_itself_a_file_without_faults() {
    let reference = described().reference();
    assert!(reference.lines().all(|line| line.is_empty() || line.starts_with('#')), "{reference}");
    assert!(reference.lines().all(|line| line.chars().count() <= 120), "{reference}");
    for part in [
        "#environment = \"production\"",
        "#[edge]",
        "#[edge.timeouts]",
        "#drain = \"30s\"",
        "(milliseconds)",
        "#[app.NAME]",
        "#[app.NAME.health]",
        "#[[route]]",
        "#match = \"/*\"",
        "#listen = [\":80\"]",
        "# token = \"${NAME}\"",
    ] {
        assert!(reference.contains(part), "{part} in\n{reference}");
    }
    let uncommented: String = reference
        .lines()
        .map(|line| line.strip_prefix('#').filter(|rest| !rest.starts_with(' ')).unwrap_or(line))
        .map(|line| format!("{line}\n"))
        .collect();
    let (options, report) = finish(&Inputs::of_file(&uncommented));
    assert!(report.faults.is_empty(), "{:?}\n{uncommented}", lines(&report.faults));
    assert_eq!(options.apps.len(), 1);
    // Without its examples it changes nothing: every default is the one the reader has.
    let changed =
        report.settings.iter().filter(|setting| setting.default.is_some() && setting.value != setting.default);
    assert_eq!(changed.count(), 0);
}

#[test]
fn the_schema_knows_every_key() {
    let schema = described().schema();
    let at = |path: &str| schema.pointer(path).unwrap_or_else(|| panic!("{path} in {schema:#}"));
    assert_eq!(at("/additionalProperties"), false);
    assert_eq!(at("/properties/edge/properties/timeouts/properties/drain/default"), "30s");
    assert_eq!(at("/properties/edge/properties/limits/properties/connections/anyOf/0/maximum"), 1_000_000);
    assert_eq!(at("/properties/app/additionalProperties/properties/run/type"), "string");
    assert_eq!(at("/properties/app/additionalProperties/properties/env/additionalProperties/type/0"), "string");
    assert_eq!(at("/properties/route/items/properties/match/default"), "/*");
    assert_eq!(at("/properties/logs/properties/level/anyOf/0/enum/2"), "warn");
    assert_eq!(at("/properties/environment/type/0"), "string");
}

/// C7
#[test]
fn env_example_names_every_variable_in_use_and_no_value() {
    let file = "[app.api]\nrun = \"node ${ENTRY:-a-default}\"\n";
    let environment = [("PORT", "18080"), ("PATH", "/usr/bin"), ("DATABASE_URL_FILE", "/run/db")];
    let (_, report) = finish(&inputs(file, &environment, "export MY_KEY=myvalue # note\nJWT_SECRET='quoted'\n"));
    let text = example(&report);
    for name in ["PORT=\n", "ENTRY=\n", "MY_KEY=\n", "JWT_SECRET=\n", "DATABASE_URL_FILE=\n"] {
        assert!(text.contains(&format!("\n{name}")), "{name} in\n{text}");
    }
    assert!(!text.contains("PATH=") || !text.contains("\nPATH="), "{text}");
    assert!(text.contains("\n# LOG_LEVEL=   least level logged\n"), "{text}");
    for value in ["18080", "/run/db", "myvalue", "quoted", "a-default", "note"] {
        assert!(!text.contains(value), "{value} in\n{text}");
    }
    let (assignments, faults) = mainstay_config::parse_env_file(".env.example", &text);
    assert!(faults.is_empty() && assignments.iter().all(|assignment| assignment.value.is_empty()));
    assert!(text.lines().filter(|line| line.starts_with("# ")).count() > assignments.len());
}

#[test]
fn settings_tell_value_origin_and_default() {
    let (_, report) = finish(&inputs("[app.api]\nrun = \"x\"\n", &[("PORT", "8080")], "OPS_TOKEN=a-long-token\n"));
    let find = |key: &str| report.settings.iter().find(|setting| setting.key == key).expect(key);
    let token = find("ops.token");
    assert_eq!((token.value.as_deref(), token.origin.to_string(), token.secret), (Some("••••"), ".env:1".into(), true));
    assert_eq!(find("app.api.run").value.as_deref(), Some("\"x\""));
    assert_eq!(find("edge.listen").origin.to_string(), "environment PORT");
    assert_eq!(find("edge.limits.body").default.as_deref(), Some("\"10MB\""));
    assert_eq!(find("environment").value.as_deref(), Some("development"));
    assert_eq!(find("edge.domains").value, None);
}
