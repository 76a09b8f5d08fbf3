//! How a path may be written so that somebody takes it for the path all the same: by case, by escapes, by slashes and
//! dots, by parameters, by letters that look or fold alike, by forms of target, by methods that are told elsewhere.

use std::collections::HashSet;

/// One request. `headers` are whole lines.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Spelling {
    pub method: &'static str,
    pub target: Vec<u8>,
    pub headers: &'static str,
}

impl Spelling {
    fn get(target: Vec<u8>) -> Spelling {
        Spelling { method: "GET", target, headers: "" }
    }

    pub fn bytes(&self, more: &str) -> Vec<u8> {
        let rest = format!(" HTTP/1.1\r\nHost: a\r\nConnection: close\r\n{}{more}\r\n", self.headers);
        [self.method.as_bytes(), b" ", &self.target, rest.as_bytes()].concat()
    }

    pub fn shown(&self) -> String {
        format!("{} {} {}", self.method, self.target.escape_ascii(), self.headers.trim_end())
    }
}

/// Guarded in every app, each by a route that names it exactly, the last by one that ends in `*`.
pub const PATHS: [&str; 4] = ["/api/v1/admin/tasks", "/api/v1/@me", "/api/v1/b%C3%BCro", "/api/v1/kiosk/disks"];

pub fn all() -> Vec<Spelling> {
    let paths = PATHS.iter().flat_map(|path| of_path(path.as_bytes())).map(Spelling::get);
    let ids = IDS.iter().map(|id| Spelling::get([b"/api/v1/admin/users/", *id].concat()));
    let mut seen = HashSet::new();
    paths.chain(ids).chain(by_method()).filter(|spelling| seen.insert(spelling.clone())).collect()
}

/// What a parameter may be to a server that neither resolves nor decodes.
const IDS: [&[u8]; 22] = [
    b"7",
    b"..",
    b".",
    b"...",
    b"%2e%2e",
    b"%2e",
    b"a%2fb",
    b"a%5cb",
    b"a\\b",
    b"a;b",
    b";b",
    b"%2f",
    b"%00",
    b"%0a",
    b"%20",
    b"%252f",
    b"a%2f..",
    b"..%2fb",
    b"%c3%a9",
    b"\xc3\xa9",
    b"a%2fb%5cc",
    b"-",
];

fn of_path(path: &[u8]) -> Vec<Vec<u8>> {
    let mut all = vec![path.to_vec(), path.to_ascii_uppercase(), every_letter(path)];
    for (at, &byte) in path.iter().enumerate() {
        all.extend(letters(byte).into_iter().map(|letter| put(path, at, &letter)));
        if byte == b'/' {
            all.extend(SLASHES.iter().map(|slash| put(path, at, slash)));
        }
    }
    all.extend(ENDS.iter().map(|end| [path, end].concat()));
    all.extend(BEGINNINGS.iter().flat_map(|begin| [[begin, path].concat(), [begin, &path[1..]].concat()]));
    for end in [&b"#"[..], b"\x0b#", b"\t#", b"\x0c#", b"\xa0#", b"\xef\xbb\xbf#", b"\\#", b"\\"] {
        let back: Vec<u8> = path.iter().map(|&b| if b == b'/' { b'\\' } else { b }).collect();
        all.extend([[b"/x\\..", path, end].concat(), [&back, end].concat(), [b"/", &back[1..], end].concat()]);
    }
    all
}

fn put(path: &[u8], at: usize, with: &[u8]) -> Vec<u8> {
    [&path[..at], with, &path[at + 1..]].concat()
}

fn escaped(bytes: &[u8]) -> Vec<u8> {
    bytes.iter().flat_map(|b| format!("%{b:02x}").into_bytes()).collect()
}

fn every_letter(path: &[u8]) -> Vec<u8> {
    [b"/", &escaped(&path[1..])[..]].concat()
}

/// Other ways to write one byte.
fn letters(byte: u8) -> Vec<Vec<u8>> {
    let hex = format!("{byte:02x}");
    let escape = |text: String| text.into_bytes();
    let (first, last) = (hex.as_bytes()[0], hex.as_bytes()[1]);
    let long = [0xc0 | byte >> 6, 0x80 | byte & 0x3f];
    let longer = [0xe0, 0x80 | byte >> 6, 0x80 | byte & 0x3f];
    let mut all = vec![
        vec![byte.to_ascii_uppercase()],
        escape(format!("%{hex}")),
        escape(format!("%{}", hex.to_uppercase())),
        escape(format!("%25{hex}")),
        escape(format!("%2525{hex}")),
        escape(format!("%%{first:02x}%{last:02x}")),
        escape(format!("%u00{hex}")),
        escape(format!("&#{byte};")),
        escape(format!("\\x{hex}")),
        long.to_vec(),
        escaped(&long),
        escaped(&longer),
    ];
    let mut alike = Vec::new();
    if byte.is_ascii_lowercase() {
        alike.extend(char::from_u32(u32::from(byte) - 0x61 + 0xff41));
    }
    alike.extend(match byte {
        b'k' => &['\u{212a}'][..],
        b's' => &['\u{17f}'],
        b'i' => &['\u{131}', '\u{130}'],
        b'a' => &['\u{430}', '\u{e5}'],
        _ => &[],
    });
    for letter in alike {
        let text = letter.to_string().into_bytes();
        all.extend([escaped(&text), text]);
    }
    all
}

/// In place of a slash.
const SLASHES: [&[u8]; 42] = [
    b"//",
    b"///",
    b"/./",
    b"/%2e/",
    b"/x/../",
    b"/x/%2e%2e/",
    b"/x/%2E%2E/",
    b"/x/.%2e/",
    b"/x/..%2f",
    b"/x%2f../",
    b"/.;/",
    b"/x/..;/",
    b"/;/",
    b"/;x=1/",
    b";x/",
    b";x=1/",
    b"%2f",
    b"%2F",
    b"%5c",
    b"%5C",
    b"\\",
    b"%252f",
    b"%255c",
    b"/\\",
    b"\\/",
    b"%2f/",
    b"/%2f",
    b"%c0%af",
    b"\xc0\xaf",
    b"%ef%bc%8f",
    b"/%20/",
    b"/%09/",
    b"/%00/",
    b"%00/",
    b"%20/",
    b"?/",
    b"#/",
    b"%3f/",
    b"%23/",
    b"/x//../../",
    b"/x//../",
    b"/%2e%2e%2f",
];

const ENDS: [&[u8]; 76] = [
    b"/",
    b"//",
    b"/.",
    b"/./",
    b"/x/..",
    b"/%2e",
    b"%2f",
    b"%5c",
    b"\\",
    b";",
    b";a=b",
    b";jsessionid=1",
    b";/",
    b"/;",
    b"%3b",
    b"%3ba",
    b"?",
    b"?x",
    b"?/open",
    b"#",
    b"#x",
    b"#/../../open",
    b"?#",
    b"%23",
    b"%23x",
    b"%3f",
    b"%3fx",
    b"%00",
    b"%00.js",
    b".",
    b"..",
    b".json",
    b"%2e",
    b"%20",
    b"+",
    b"%09",
    b"%0a",
    b"%0d",
    b"%0d%0a",
    b"%0b",
    b"%0c",
    b"%1f",
    b"%7f",
    b"%85",
    b"%c2%85",
    b"%a0",
    b"%c2%a0",
    b"\xa0",
    b"\xc2\xa0",
    b"\xef\xbb\xbf",
    b"%ef%bb%bf",
    b"\t",
    b"\x0b",
    b"\x0c",
    b"\x01",
    b"\x7f",
    b"%e2%80%a8",
    b"%e2%80%8b",
    b"%c2%ad",
    b"%cc%81",
    b"~",
    b"*",
    b"'",
    b":",
    b",",
    b"=",
    b"&x",
    b"%",
    b"%2",
    b"%zz",
    b"%0a/",
    b"/%0a",
    b"/%20",
    b"//..",
    b"/x//..",
    b"//.",
];

const BEGINNINGS: [&[u8]; 60] = [
    b"/",
    b"/.",
    b"/..",
    b"/../..",
    b"/%2e%2e",
    b"/open/..",
    b"/open/../..",
    b"/open/%2e%2e",
    b"/open/..%2f..",
    b"/open%2f..",
    b"/open;/..",
    b"/open/..;",
    b"/open//..",
    b"/;",
    b"/;x",
    b"\\",
    b"/\\",
    b"%2f",
    b"/%2f",
    b"/%5c",
    b"/%20",
    b"/%09",
    b"/%00",
    b"/%0a",
    b"%20",
    b"http://a",
    b"HTTP://A",
    b"https://a",
    b"http://a:80",
    b"http://u@a",
    b"http://u:p@a",
    b"http://a\\",
    b"http://a\\@b",
    b"http://a;x",
    b"http://a%2f",
    b"http://",
    b"http:/",
    b"http:",
    b"ftp://a",
    b"foo://a",
    b"//a",
    b"///a",
    b"//a\\",
    b"/\\a",
    b"/http://a",
    b"http://a/",
    b"http://a//",
    b"http://a/open/..",
    b"http://a?",
    b"http://a#",
    b"http://a/x#",
    b"/x#/..",
    b"/?",
    b"/#",
    b"http://[::1]",
    b"*",
    b"http://a,b",
    b"http://a|",
    b"/\xa0",
    b"/.mainstay/..",
];

/// The method told by something else than the method, and a method that is another's.
fn by_method() -> impl Iterator<Item = Spelling> {
    let tasks = PATHS[0].as_bytes();
    let things: &[u8] = b"/api/v1/things";
    let plain = ["HEAD", "OPTIONS", "get", "Get", "head", "POST", "TRACE", "PROPFIND"];
    let plain = plain.map(|method| Spelling { method, target: tasks.to_vec(), headers: "" });
    let deletes = ["DELETE", "delete"].map(|method| Spelling { method, target: things.to_vec(), headers: "" });
    let named = OVERRIDES.iter().flat_map(move |(get, delete)| {
        let at = |method, target: &[u8], headers| Spelling { method, target: target.to_vec(), headers };
        [at("POST", tasks, *get), at("OPTIONS", tasks, *get), at("POST", things, *delete), at("GET", things, *delete)]
    });
    let queries = ["?_method=DELETE", "?_method=delete", "?a&_method=DELETE", "?%5fmethod=DELETE", "?_method=DELET%45"];
    let queries = queries.into_iter().map(move |query| Spelling {
        method: "POST",
        target: [things, query.as_bytes()].concat(),
        headers: "Content-Length: 0\r\n",
    });
    let rewritten = REWRITES.iter().map(|headers| Spelling { method: "GET", target: b"/open".to_vec(), headers });
    plain.into_iter().chain(deletes).chain(named).chain(queries).chain(rewritten)
}

const OVERRIDES: [(&str, &str); 6] = [
    ("X-HTTP-Method-Override: GET\r\n", "X-HTTP-Method-Override: DELETE\r\n"),
    ("x-http-method-override: get\r\n", "x-http-method-override: delete\r\n"),
    ("X_HTTP_METHOD_OVERRIDE: GET\r\n", "X_HTTP_METHOD_OVERRIDE: DELETE\r\n"),
    ("X-HTTP-Method: GET\r\n", "X-HTTP-Method: DELETE\r\n"),
    ("X-Method-Override: GET\r\n", "X-Method-Override: DELETE\r\n"),
    ("X-HTTP-Method-Override: GET, POST\r\n", "X-HTTP-Method-Override: DELETE, POST\r\n"),
];

/// Some servers believe a client about the path.
const REWRITES: [&str; 4] = [
    "X-Original-URL: /api/v1/admin/tasks\r\n",
    "X-Rewrite-URL: /api/v1/admin/tasks\r\n",
    "X-Forwarded-Prefix: /api/v1/admin/tasks\r\n",
    "X-Forwarded-Path: /api/v1/admin/tasks\r\n",
];
