//! Values everybody has read somewhere, and values with a pattern. Pure; says which, never what.

/// Refused as they stand, compared by letters and digits alone.
const WHOLE: [&str; 26] = [
    "secret",
    "jwtsecret",
    "sessionsecret",
    "password",
    "passwd",
    "pass",
    "pw",
    "admin",
    "root",
    "postgres",
    "redis",
    "test",
    "testing",
    "dev",
    "development",
    "default",
    "token",
    "key",
    "example",
    "todo",
    "none",
    "null",
    "undefined",
    "hunter2",
    "letmein",
    "user",
];

/// Refused wherever they occur.
const WITHIN: [&str; 19] = [
    "changeme",
    "changethis",
    "changeit",
    "changein",
    "pleasechange",
    "replaceme",
    "replacethis",
    "replacewith",
    "placeholder",
    "supersecret",
    "keyboardcat",
    "donotuse",
    "dontuse",
    "notsecure",
    "insecure",
    "randomstring",
    "yoursecret",
    "generatestrong",
    "password123",
];

/// Refused within a secret that signs: nobody draws these words at random.
const WITHIN_SIGNING: [&str; 13] = [
    "mysecret",
    "secretkey",
    "jwtsecret",
    "sessionsecret",
    "testsecret",
    "devsecret",
    "topsecret",
    "verysecret",
    "productionsecret",
    "developmentsecret",
    "stringsecret",
    "secretatleast",
    "secretstring",
];

/// Runs are counted from this many characters: random text has shorter ones now and then.
const RUN_CHARS: usize = 4;

/// Rows that fingers follow.
const ROWS: [&str; 8] = [
    "abcdefghijklmnopqrstuvwxyz",
    "01234567890",
    "qwertyuiop",
    "qwertzuiop",
    "asdfghjkl",
    "zxcvbnm",
    "yxcvbnm",
    "azertyuiop",
];

/// A sample or placeholder, in words that follow "is".
pub(super) fn sample(value: &str, signs: bool) -> Option<&'static str> {
    let inner = value.trim_start_matches("0x");
    if value.starts_with('<') && value.ends_with('>') || value.contains("...") || inner.contains('…') {
        return Some("a placeholder, not a value");
    }
    if value.contains("${") {
        return Some("a reference that nobody filled in");
    }
    let plain: String = value.chars().filter(|c| c.is_alphanumeric()).flat_map(char::to_lowercase).collect();
    let begins = plain.starts_with("your") && ["secret", "key", "password", "token"].iter().any(|w| plain.contains(w));
    let within = WITHIN.iter().any(|sample| plain.contains(sample));
    let signing = signs && WITHIN_SIGNING.iter().any(|sample| plain.contains(sample));
    let whole = WHOLE.contains(&plain.trim_end_matches(|c: char| c.is_ascii_digit())) && !plain.is_empty();
    (begins || within || signing || whole).then_some("a sample value that everybody knows")
}

/// A pattern anybody can continue, in words that follow "is".
pub(super) fn pattern(value: &str) -> Option<&'static str> {
    let chars: Vec<char> = value.chars().flat_map(char::to_lowercase).collect();
    let mut distinct = chars.clone();
    distinct.sort_unstable();
    distinct.dedup();
    if distinct.len() <= 1 {
        return Some("one character repeated");
    }
    if distinct.len() <= 5 {
        return Some("made of a handful of characters");
    }
    let repeats = (1..=chars.len() / 2).any(|period| (period..chars.len()).all(|at| chars[at] == chars[at - period]));
    if repeats {
        return Some("one piece repeated");
    }
    // Two thirds of it in runs: the rest does not save it.
    if in_runs(&chars) * 3 >= chars.len() * 2 {
        return Some("a run of the alphabet or the keyboard");
    }
    None
}

/// Characters that belong to runs along a row, either way.
fn in_runs(chars: &[char]) -> usize {
    let mut covered = 0;
    let mut start = 0;
    for at in 1..=chars.len() {
        let goes_on = at < chars.len() && ROWS.iter().any(|row| follows(row, &chars[start..=at]));
        if !goes_on {
            if at - start >= RUN_CHARS {
                covered += at - start;
            }
            start = at;
        }
    }
    covered
}

fn follows(row: &str, run: &[char]) -> bool {
    let text: String = run.iter().collect();
    let back: String = run.iter().rev().collect();
    row.contains(&text) || row.contains(&back)
}
