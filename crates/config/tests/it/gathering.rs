//! Which files are read, and what is said when they cannot be. And the way to another process and back.

use std::fs;
use std::path::Path;

use mainstay_config::{Inputs, Reader, Text};

fn gather(dir: &Path, file: Option<&str>, env_file: Option<&str>) -> Result<Inputs, String> {
    let inputs = Inputs::gather(dir, file.map(Path::new), env_file.map(Path::new), Vec::new(), None);
    inputs.map_err(|faults| faults.to_string())
}

fn folder() -> tempfile::TempDir {
    tempfile::tempdir().expect("a folder")
}

fn write(dir: &Path, name: &str, bytes: impl AsRef<[u8]>) {
    fs::write(dir.join(name), bytes).expect("written");
}

#[test]
fn reads_what_is_there() {
    let dir = folder();
    let inputs = gather(dir.path(), None, None).expect("nothing is fine");
    assert!(inputs.file.is_none() && inputs.env_file.is_none() && inputs.dot_env.is_none());
    assert_eq!(inputs.pid, std::process::id());
    write(dir.path(), "mainstay.toml", "[edge]\n");
    write(dir.path(), ".env", "A=1\n");
    write(dir.path(), ".env.production", "B=1\n");
    let inputs = gather(dir.path(), None, None).expect("inputs");
    assert_eq!(inputs.file.as_ref().map(|text| text.path.to_string_lossy().into_owned()), Some("mainstay.toml".into()));
    assert_eq!(inputs.dot_env.map(|text| text.text), Some("A=1\n".to_owned()));
    assert!(inputs.env_file.is_none());
    let inputs = gather(dir.path(), None, Some(".env.production")).expect("inputs");
    assert_eq!(inputs.env_file.map(|text| text.text), Some("B=1\n".to_owned()));
    // Named, it is not read a second time as the unasked one.
    let inputs = gather(dir.path(), None, Some(".env")).expect("inputs");
    assert!(inputs.env_file.is_some() && inputs.dot_env.is_none());
}

#[test]
fn says_which_file_cannot_be_read_and_what_to_type() {
    let dir = folder();
    write(dir.path(), "binary", [0xff, 0xfe]);
    write(dir.path(), "large", vec![b'#'; 1024 * 1024 + 1]);
    fs::create_dir(dir.path().join("folder")).expect("a folder");
    for (file, env_file, expected) in [
        (Some("gone.toml"), None, "gone.toml: the file that --file names cannot be read; found no such file"),
        (None, Some("gone.env"), "gone.env: the file that --env-file names cannot be read; found no such file"),
        (Some("binary"), None, "found bytes that are not UTF-8; expected UTF-8 text"),
        (Some("large"), None, "found more than 1MiB; expected at most 1MiB"),
        (Some("folder"), None, "found a folder; expected a file that can be read; --file folder/mainstay.toml"),
    ] {
        let error = gather(dir.path(), file, env_file).expect_err(expected);
        assert!(error.contains(expected), "{error}");
    }
    let both = Inputs::gather(dir.path(), Some(Path::new("a")), Some(Path::new("b")), Vec::new(), None);
    let faults = both.expect_err("two faults");
    assert_eq!(faults.0.len(), 2);
    assert!(faults.render(false).ends_with("2 faults, 0 warnings"), "{}", faults.render(false));
}

#[test]
fn an_unasked_file_may_be_absent_but_not_broken() {
    let dir = folder();
    write(dir.path(), ".env", [0xff]);
    assert!(gather(dir.path(), None, None).is_err_and(|error| error.contains(".env cannot be read")));
    fs::remove_file(dir.path().join(".env")).expect("removed");
    fs::create_dir(dir.path().join(".env")).expect("a Python environment");
    assert!(gather(dir.path(), None, None).is_ok());
}

#[test]
fn secret_files_are_read_where_variables_name_them() {
    let dir = folder();
    write(dir.path(), "jwt", "from-a-file\n");
    write(dir.path(), ".env", "JWT_SECRET_FILE=jwt\nLOG_FILE=nowhere\n");
    let inputs = gather(dir.path(), None, None).expect("inputs");
    let secret = Reader::new(&inputs).variable("JWT_SECRET").expect("a secret");
    assert_eq!((secret.value.as_str(), secret.at.to_string()), ("from-a-file", ".env:1".to_owned()));
    write(dir.path(), ".env", "\nSESSION_SECRET_FILE=gone\n");
    let error = gather(dir.path(), None, None).expect_err("a fault");
    assert!(error.starts_with(".env:2: the file that SESSION_SECRET_FILE names cannot be read"), "{error}");
}

#[test]
fn the_env_file_may_name_the_file() {
    let dir = folder();
    write(dir.path(), "other.toml", "[edge]\n");
    write(dir.path(), "prod.env", "MAINSTAY_FILE=other.toml\n");
    let inputs = gather(dir.path(), None, Some("prod.env")).expect("inputs");
    assert_eq!(inputs.file.map(|text| text.text), Some("[edge]\n".to_owned()));
}

#[test]
fn inputs_go_to_another_process_and_back() {
    let dir = folder();
    write(dir.path(), "mainstay.toml", "x = \"ä\\u0000\"\n");
    write(dir.path(), ".env", "JWT_SECRET_FILE=.env\n");
    write(dir.path(), ".env.development", "JWT_SECRET=x\n");
    let mut inputs = gather(dir.path(), None, None).expect("inputs");
    inputs.flags = vec![("edge.listen".to_owned(), ":8080".to_owned())];
    inputs.command = Some(vec!["npm".to_owned(), "start".to_owned()]);
    inputs.credentials = vec![("A_TOKEN".to_owned(), "x\n".to_owned())];
    assert_eq!(inputs.development, [Text::new(".env.development", "JWT_SECRET=x\n")]);
    let back = Inputs::from_json(&inputs.to_json()).expect("inputs");
    assert!(back == inputs);
    for bad in ["", "[]", "{\"environment\":[[\"A\"]]}", "{\"file\":{\"path\":1}}", "{\"pid\":-1}"] {
        assert!(Inputs::from_json(bad).is_err(), "{bad}");
    }
    assert!(Inputs::from_json("{}").is_ok_and(|empty| empty == Inputs::default()));
}
