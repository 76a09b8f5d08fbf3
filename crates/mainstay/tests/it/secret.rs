//! C3: secrets on request.

use crate::{Project, as_ourselves, has};

#[test]
fn c3_a_secret_is_one_line_of_base64_for_32_or_64_bytes_or_a_uuid() {
    let project = Project::new(&[]);
    let plain = project.mainstay(&["secret"]);
    assert_eq!((plain.code, plain.out.len(), plain.err.as_str()), (Some(0), 45, ""));
    let named = project.mainstay(&["secret", "JWT_SECRET", "--bytes", "64"]);
    let value = named.out.trim_end().strip_prefix("JWT_SECRET=").expect("a name");
    assert_eq!(value.len(), 88);
    assert_eq!(project.mainstay(&["secret", "--uuid"]).out.trim_end().len(), 36);
    assert_ne!(plain.out, project.mainstay(&["secret"]).out);
}

#[test]
fn c3_a_generated_secret_is_one_production_takes() {
    let file = format!("[app.main]\nrun = \"true\"\n{}", as_ourselves());
    let project = Project::new(&[("mainstay.toml", &file)]);
    let secret = project.mainstay(&["secret", "JWT_SECRET"]).out;
    std::fs::write(project.path().join(".env"), secret).expect(".env");
    let check = project.mainstay(&["check", "--production"]);
    assert_eq!(check.code, Some(0), "{}", check.err);
}

#[test]
fn too_few_bytes_and_no_name_are_usage_errors() {
    let project = Project::new(&[]);
    for args in [["secret", "--bytes", "8"].as_slice(), &["secret", "NOT A NAME"]] {
        let said = project.mainstay(args);
        assert_eq!(said.code, Some(2));
        has(&said.err, &["error"]);
    }
}
