//! E18: what breaks a route's schema is refused with every field named, and the app never sees it.

use crate::support::{in_front_of, judged, judged_answer, sent};
use mainstay_e2e::{Answer, Mainstay, Peer, Response, Setup, curl, fixtures, get, wait_until};
use serde_json::{Value, json};
use std::fs::read_to_string;

const USER: &str = r#"{
  "type": "object",
  "additionalProperties": false,
  "required": ["email", "name"],
  "properties": {
    "email": { "type": "string", "format": "email" },
    "name": { "type": "string", "minLength": 1 },
    "age": { "type": "integer", "minimum": 18 },
    "note": { "type": "string" },
    "items": { "type": "array", "items": {
      "type": "object", "required": ["price"], "properties": { "price": { "type": "number" } } } }
  }
}
"#;
const JSON: &str = "Content-Type: application/json";

/// A real Express app that takes everything and counts.
fn express(lines: &str) -> Setup {
    let text = format!("[app.main]\nrun = \"node index.js\"\n{lines}");
    let samples = fixtures::folder().join("openapi");
    let sample = |name: &str| read_to_string(samples.join(name)).expect(name);
    Setup::file(&text)
        .node_app("guarded")
        .write("user.json", USER)
        .write("shop.yaml", &sample("shop-3.0.yaml"))
        .write("tickets.json", &sample("tickets-3.1.json"))
}

fn guarded() -> Mainstay {
    express("[[route]]\nmatch = \"POST,PUT /users\"\nschema = \"user.json\"\n").ready("/")
}

fn asked(mainstay: &Mainstay) -> u64 {
    get(&mainstay.url("/asked")).json()["asked"].as_u64().expect("a number")
}

fn post(mainstay: &Mainstay, path: &str, kind: &str, body: &str) -> Answer {
    curl(&["-H", kind, "--data-binary", body, &mainstay.url(path)])
}

/// `in path` of every field that is named.
fn fields(problem: &Value) -> Vec<String> {
    let fields = problem["fields"].as_array().cloned().unwrap_or_default();
    let word = |f: &Value, key: &str| f[key].as_str().map(str::to_owned).unwrap_or_default();
    let mut all: Vec<String> = fields.iter().map(|f| format!("{} {}", word(f, "in"), word(f, "path"))).collect();
    assert!(fields.iter().all(|f| !word(f, "message").is_empty()), "{problem}");
    all.sort();
    all.dedup();
    all
}

#[test]
fn e18_a_broken_body_never_reaches_the_app_and_every_field_is_named() {
    let mainstay = guarded();
    let broken = r#"{"email":"sesame","age":3.5,"extra":"sesame","items":[{"price":1},{"price":"sesame"},{}]}"#;
    let refused = post(&mainstay, "/users", JSON, broken);
    let why = judged_answer(&mainstay, "broken", &refused, 400, "input_invalid");
    assert!(why.contains("schema user.json") && why.contains("mainstay.toml:5"), "{why}");
    assert_eq!(refused.header("content-type"), Some("application/problem+json"));
    let expected =
        ["body /age", "body /email", "body /extra", "body /items/1/price", "body /items/2/price", "body /name"];
    assert_eq!(fields(&refused.json()), expected, "{}", refused.text());
    let text = format!("{}{why}{}", refused.text(), mainstay.said());
    assert!(!text.contains("sesame"), "a value is told: {text}");
    let message = |path: &str| {
        let all = refused.json()["fields"].as_array().cloned().unwrap_or_default();
        all.iter().find(|f| f["path"] == path).map(|f| f["message"].clone()).unwrap_or_default()
    };
    assert_eq!(message("/items/1/price"), "must be a number");
    assert_eq!(message("/name"), "is required");

    // The connection goes on after a refusal, and nothing of the body is taken for a request.
    let bad = "{\"email\":1}GET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n";
    let good = r#"{"email":"a@example.com","name":"A"}"#;
    let mut connection = mainstay_e2e::Connection::open(mainstay.edge()).expect("connect");
    for (body, status) in [(bad, 400), (good, 201)] {
        let head = format!("POST /users HTTP/1.1\r\nHost: a\r\n{JSON}\r\nContent-Length: {}\r\n\r\n", body.len());
        connection.send(format!("{head}{body}").as_bytes()).expect("send");
        let answer = connection.response(false).expect("an answer");
        assert_eq!(answer.status, status, "{}", answer.text());
    }
    assert_eq!(asked(&mainstay), 1);
    // Other routes and methods pay nothing and are asked nothing.
    assert_eq!(post(&mainstay, "/other", JSON, "{nonsense").status, 201);
    assert_eq!(get(&mainstay.url("/users")).status, 201);
    let metrics = mainstay_e2e::wait_for("the refusals to be counted", || {
        let text = get(&mainstay.url("/metrics")).text();
        text.contains("mainstay_refusals_total{code=\"input_invalid\"} 2").then_some(text)
    });
    assert!(metrics.contains("status=\"400\"") || metrics.contains("400"), "{metrics}");
}

#[test]
fn e18_the_app_gets_the_bytes_that_were_checked() {
    let mainstay = guarded();
    let folder = tempfile::tempdir().expect("a folder");
    let note = |n: usize| {
        format!("{{ \"name\":\"\\u00e4\\n\",\t\"email\" : \"a@b.de\",\r\n\"note\":\"{}\"}}\n", "ü".repeat(n))
    };
    for (i, size) in [0, 1, 9_000, 40_000, 500_000].into_iter().enumerate() {
        let body = note(size);
        let file = folder.path().join(i.to_string());
        std::fs::write(&file, &body).expect("written");
        let expected = sha256(&body);
        let data = format!("@{}", file.display());
        for arguments in [
            &["-H", JSON][..],
            &["-H", JSON, "-H", "Transfer-Encoding: chunked"],
            &["-H", JSON, "-H", "Expect: 100-continue"],
            &["-H", JSON, "-X", "PUT"],
            &["-H", JSON, "--http2-prior-knowledge"],
            &["-H", "Content-Type: Application/JSON; Charset=\"UTF-8\"", "--http2-prior-knowledge", "-X", "PUT"],
        ] {
            let url = mainstay.url("/users?a=%20b+c");
            let answer = curl(&[arguments, &["--data-binary", &data, &url]].concat());
            assert_eq!(answer.status, 201, "{size} {arguments:?}: {answer:?} {}", answer.text());
            let got = answer.json();
            assert_eq!((&got["bytes"], &got["sha256"]), (&json!(body.len()), &json!(expected)), "{size} {arguments:?}");
            assert_eq!(got["url"], "/users?a=%20b+c");
        }
    }
}

fn sha256(text: &str) -> String {
    let line = "const h = require('crypto').createHash('sha256');\
        process.stdin.on('data', d => h.update(d)).on('end', () => console.log(h.digest('hex')))";
    let mut child = std::process::Command::new("node")
        .args(["-e", line])
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::piped())
        .spawn()
        .expect("node");
    std::io::Write::write_all(&mut child.stdin.take().expect("stdin"), text.as_bytes()).expect("written");
    String::from_utf8(child.wait_with_output().expect("node").stdout).expect("text").trim().to_owned()
}

#[test]
fn e18_no_spelling_gets_round_the_schema() {
    let mainstay = guarded();
    let bad = r#"{"email":1}"#;
    let with = |method: &str, target: &str, lines: &str, body: &[u8]| -> Response {
        let head = format!(
            "{method} {target} HTTP/1.1\r\nHost: a\r\n{lines}Content-Length: {}\r\nConnection: close\r\n\r\n",
            body.len()
        );
        sent(&mainstay, target, &[head.as_bytes(), body].concat())
    };
    let json = format!("{JSON}\r\n");
    for target in
        ["/users", "/users/", "//users", "/USERS", "/./users", "/x/../users", "/%75sers", "/users?x", "/users#x"]
    {
        judged(&mainstay, target, &with("POST", target, &json, bad.as_bytes()), 400, "input_invalid");
    }
    for target in ["/users%2f", "/users;a=b", "/users%00", "/x%2f..%2fusers"] {
        judged(&mainstay, target, &with("POST", target, &json, bad.as_bytes()), 400, "ambiguous_path");
    }
    for method in ["POST", "post", "Post", "PUT", "put"] {
        judged(&mainstay, method, &with(method, "/users", &json, bad.as_bytes()), 400, "input_invalid");
    }
    for lines in [
        "",
        "Content-Type: text/plain\r\n",
        "Content-Type: text/json\r\n",
        "Content-Type: application/x-www-form-urlencoded\r\n",
        "Content-Type: application/json, text/plain\r\n",
        "Content-Type: application/json\r\nContent-Type: text/plain\r\n",
        "Content-Type: application/json; charset=utf-16\r\n",
        "Content-Type: application/json; charset=utf-8; charset=utf-7\r\n",
        "Content-Type: application/json\r\nContent-Encoding: gzip\r\n",
        "Content-Type: application/json\r\nContent-Encoding: identity, br\r\n",
    ] {
        let good = br#"{"email":"a@example.com","name":"A"}"#;
        judged(&mainstay, lines, &with("POST", "/users", lines, good), 415, "unsupported_media_type");
    }
    for (name, body) in [
        ("a key twice", &br#"{"email":"a@example.com","name":"A","name":7}"#[..]),
        ("a key twice, escaped", br#"{"email":"a@example.com","name":"A","n\u0061me":7}"#),
        ("two documents", br#"{"email":"a@example.com","name":"A"}{"email":1}"#),
        ("a comment", br#"{"email":"a@example.com","name":"A"/**/}"#),
        ("a mark of order", b"\xef\xbb\xbf{\"email\":\"a@example.com\",\"name\":\"A\"}"),
        ("no UTF-8", b"{\"email\":\"a@example.com\",\"name\":\"\xff\"}"),
        ("half a character", br#"{"email":"a@example.com","name":"\ud800"}"#),
        ("no number", br#"{"email":"a@example.com","name":"A","age":NaN}"#),
        ("infinity", br#"{"email":"a@example.com","name":"A","age":1e999}"#),
        ("a NUL behind it", b"{\"email\":\"a@example.com\",\"name\":\"A\"}\0"),
        ("spaces alone", b"  \n"),
        ("no JSON", b"email=a@example.com&name=A"),
    ] {
        let refused = with("POST", "/users", &json, body);
        judged(&mainstay, name, &refused, 400, "input_invalid");
        let field = serde_json::from_slice::<Value>(&refused.body).expect("json")["fields"][0].clone();
        assert!(field["message"].as_str().is_some_and(|m| m.starts_with("is not JSON")), "{name}: {field}");
    }
    // In chunks, over HTTP/2, with nothing in it.
    let chunked = format!("POST /users HTTP/1.1\r\nHost: a\r\n{json}Transfer-Encoding: chunked\r\n\r\n");
    for (body, name) in [("5\r\n{\"ema\r\n6\r\nil\":1}\r\n0\r\n\r\n", "chunks"), ("0\r\n\r\n", "no chunk")] {
        judged(&mainstay, name, &sent(&mainstay, name, format!("{chunked}{body}").as_bytes()), 400, "input_invalid");
    }
    judged(&mainstay, "no body", &with("POST", "/users", &json, b""), 400, "input_invalid");
    let two = curl(&["--http2-prior-knowledge", "-H", JSON, "-d", bad, &mainstay.url("/users")]);
    judged_answer(&mainstay, "HTTP/2", &two, 400, "input_invalid");
    assert_eq!(two.version, "2");
    assert_eq!(asked(&mainstay), 0, "something reached the app");
}

#[test]
fn e18_bodies_are_bounded_and_so_is_what_is_said_of_them() {
    let lines = "[[route]]\nmatch = \"/users\"\nschema = \"user.json\"\n\
                 [[route]]\nmatch = \"/large\"\nbody = \"4MiB\"\nschema = \"user.json\"\n";
    let mainstay = express(lines).ready("/");
    let folder = tempfile::tempdir().expect("a folder");
    let posted = |path: &str, body: &str, more: &[&str]| {
        let file = folder.path().join("body");
        std::fs::write(&file, body).expect("written");
        let data = format!("@{}", file.display());
        curl(&[&["-H", JSON, "--data-binary", &data][..], more, &[&mainstay.url(path)]].concat())
    };
    let large = |n: usize| format!("{{\"email\":\"a@example.com\",\"name\":\"A\",\"note\":\"{}\"}}", "x".repeat(n));
    let (fits, exceeds) = (large(1024 * 1024 - 100), large(1024 * 1024));
    assert_eq!(posted("/users", &fits, &[]).status, 201);
    for more in [&[][..], &["-H", "Transfer-Encoding: chunked"]] {
        let refused = posted("/users", &exceeds, more);
        let why = judged_answer(&mainstay, "large", &refused, 413, "body_too_large");
        assert!(why.contains("mainstay.toml:5"), "{why}");
        assert_eq!(posted("/large", &exceeds, more).status, 201);
    }
    assert_eq!(posted("/large", &exceeds, &["--http2-prior-knowledge"]).status, 201);
    let why = judged_answer(&mainstay, "larger", &posted("/large", &large(4 << 20), &[]), 413, "body_too_large");
    assert!(why.contains("route `/large`"), "{why}");

    let items = vec!["{}"; 5000].join(",");
    let refused = posted("/users", &format!("{{\"items\":[{items}]}}"), &[]);
    judged_answer(&mainstay, "many", &refused, 400, "input_invalid");
    let problem = refused.json();
    assert_eq!(problem["fields"].as_array().map(Vec::len), Some(100));
    assert_eq!(problem["moreFields"], 4902, "5000 prices, an email and a name are missing");
    for body in ["[".repeat(900_000), format!("[{}0]", "0,".repeat(200_000))] {
        judged_answer(&mainstay, "deep or wide", &posted("/users", &body, &[]), 400, "input_invalid");
    }
    assert_eq!(asked(&mainstay), 4, "one that fits, three that may be large");
}

/// Path, arguments of curl, body, and the fields that are named; none: the app is asked.
type Case = (String, Words, String, Words);
type Words = &'static [&'static str];

fn case(path: &str, arguments: Words, body: &str, expected: Words) -> Case {
    (path.to_owned(), arguments, body.to_owned(), expected)
}

const ORDERS: &str = "/api/v1/orders";
const JSON_KIND: Words = &["-H", JSON];

fn order() -> Value {
    let part = json!({"sku": "C-22", "price": 1, "quantity": 2});
    json!({
        "customer": {"email": "a@example.com", "name": "A", "age": null, "password": "sesame77"},
        "items": [{"sku": "AB-1", "price": 9.99, "quantity": 1, "note": null, "parts": [part]}],
        "payment": {"kind": "card", "token": "tok_12345"}, "voucher": null,
    })
}

fn bodies() -> Vec<Case> {
    let with = |path: &str, value: Value| {
        let mut body = order();
        *body.pointer_mut(path).unwrap_or_else(|| panic!("{path}")) = value;
        body.to_string()
    };
    let posted = |body: String, expected: Words| case(ORDERS, JSON_KIND, &body, expected);
    vec![
        posted(order().to_string(), &[]),
        posted(with("/items/0/price", json!(0)), &["body /items/0/price"]),
        posted(with("/items/0/parts/0/quantity", json!("x")), &["body /items/0/parts/0/quantity"]),
        posted(with("/items/0/quantity", json!(3_000_000_000_u64)), &["body /items/0/quantity"]),
        posted(with("/customer/password", json!("sesamesesame")), &["body /customer/password"]),
        posted(with("/payment", json!({"kind": "transfer"})), &["body /payment/iban"]),
        posted(with("/voucher", json!({"kode": 1})), &["body /voucher/code"]),
        posted(with("/items", json!([])), &["body /items"]),
        posted("{}".into(), &["body /customer", "body /items", "body /payment"]),
        case(&format!("{ORDERS}?trace=maybe"), JSON_KIND, &with("/items", json!(7)), &["body /items", "query /trace"]),
        case("/api/v1/customers", JSON_KIND, r#"{"email":"x"}"#, &["body /email", "body /name"]),
        // What is not described is none of our business.
        case("/api/v1/unknown?limit=x", JSON_KIND, "{nonsense", &[]),
        case("/api/v2/orders", JSON_KIND, "{nonsense", &[]),
    ]
}

fn parameters() -> Vec<Case> {
    let order = format!("{ORDERS}/3fa85f64-5717-4562-b3fc-2c963f66afa6");
    let merge: Words = &["-X", "PATCH", "-H", "Content-Type: application/merge-patch+json"];
    let image: Words = &["-X", "PUT", "-H", "Content-Type: image/png"];
    let put: Words = &["-X", "PUT", "-H", JSON];
    let item = r#"{"sku":"AB-1","price":1.5,"quantity":1}"#;
    let got = |query: &str, expected: Words| case(&format!("{ORDERS}?{query}"), &[], "", expected);
    vec![
        got("from=2026-11-21&limit=7&status=new&status=paid&ids=1,2&open=true&x=y", &[]),
        got(
            "limit=0&status=new&status=gone&ids=1,b&open=1&filter[country]=de&filter[x]=1",
            &[
                "query /filter/country",
                "query /filter/x",
                "query /from",
                "query /ids/1",
                "query /limit",
                "query /open",
                "query /status/1",
            ],
        ),
        got("from=2026-11-21&limit=7&limit=700", &["query /limit"]),
        got("from=2026-11-21&limit[]=700", &["query /limit"]),
        got("from=2026-02-30", &["query /from"]),
        case(&order, &[], "", &[]),
        case(&order.to_uppercase(), &[], "", &[]),
        case(&format!("{ORDERS}/7"), &[], "", &["path /orderId"]),
        case(&format!("{ORDERS}/7"), &["-I"], "", &["path /orderId"]),
        case(ORDERS, &["-X", "DELETE"], "", &[]),
        case(&order, merge, r#"{"note":null}"#, &[]),
        case(&order, merge, r#"{"status":"gone","x":1}"#, &["body /status", "body /x"]),
        case(&format!("{order}/items/7"), put, item, &[]),
        case(
            &format!("{order}/items/100"),
            put,
            r#"{"sku":"?"}"#,
            &["body /price", "body /quantity", "body /sku", "path /position"],
        ),
        case("/api/v1/customers/7/picture", image, "not JSON at all", &[]),
        case("/api/v1/customers/x/picture", image, "not JSON at all", &["path /id"]),
    ]
}

#[test]
fn e18_an_openapi_3_0_document_guards_a_whole_app() {
    let mainstay = express("openapi = \"shop.yaml\"\n").ready("/");
    for (path, arguments, body, expected) in bodies().into_iter().chain(parameters()) {
        let before = asked(&mainstay);
        let url = mainstay.url(&path);
        let data: &[&str] = if body.is_empty() { &[] } else { &["--data-binary", &body] };
        let answer = curl(&[&["-g"], arguments, data, &[url.as_str()]].concat());
        let name = format!("{path} {arguments:?} {body}");
        if expected.is_empty() {
            assert_eq!(answer.status, 201, "{name}: {}", answer.text());
            assert_eq!(asked(&mainstay), before + 1, "{name}");
            continue;
        }
        assert_eq!(asked(&mainstay), before, "{name}: reached the app");
        assert_eq!(answer.status, 400, "{name}: {}", answer.text());
        if !arguments.contains(&"-I") {
            let why = judged_answer(&mainstay, &name, &answer, 400, "input_invalid");
            assert!(why.contains("shop.yaml:") && why.contains("mainstay.toml:3"), "{name}: {why}");
            assert_eq!(fields(&answer.json()), expected, "{name}: {}", answer.text());
        }
    }
    for kind in ["text/plain", "application/xml", "application/vnd.other+json"] {
        let answer = post(&mainstay, ORDERS, &format!("Content-Type: {kind}"), &order().to_string());
        judged_answer(&mainstay, kind, &answer, 415, "unsupported_media_type");
    }
}

#[test]
fn e18_an_openapi_3_1_document_guards_a_route_beside_its_own_schema() {
    let title = r#"{"properties": {"title": {"pattern": "^[A-Z]"}}}"#;
    let lines = "[[route]]\nmatch = \"/*\"\nopenapi = \"tickets.json\"\n\
                 [[route]]\nmatch = \"POST /tickets\"\nschema = \"title.json\"\n";
    let mainstay = express(lines).write("title.json", title).ready("/");
    let cases: &[(&str, &str, &str, &[&str])] = &[
        ("/tickets", JSON, r#"{"title":"T","labels":["v1","a"],"parent":{"title":"P","labels":[]}}"#, &[]),
        (
            "/tickets",
            JSON,
            r#"{"title":"t","labels":["v2","a","a"]}"#,
            &["body /labels", "body /labels/0", "body /title"],
        ),
        ("/tickets", JSON, r#"{"title":"T","labels":[],"estimate":200}"#, &["body /due"]),
        (
            "/tickets",
            JSON,
            r#"{"title":"T","labels":[],"parent":{"labels":[],"x":1}}"#,
            &["body /parent/title", "body /parent/x"],
        ),
        ("/tickets", JSON, r#"{"title":"T","labels":[],"due":"tomorrow"}"#, &["body /due"]),
        ("/tickets/7:close", JSON, "null", &[]),
        ("/tickets/7:close", JSON, r#"{"why":"bored"}"#, &["body /why"]),
        ("/tickets/x:close", JSON, "null", &["path /number"]),
        ("/hooks", JSON, r#"{"url":"https://example.com/"}"#, &[]),
        ("/hooks", "Content-Type: application/x+json", r#"{"url":"no","more":1}"#, &["body /more", "body /url"]),
    ];
    for (path, kind, body, expected) in cases {
        let before = asked(&mainstay);
        let answer = post(&mainstay, path, kind, body);
        let passed = expected.is_empty();
        assert_eq!((answer.status, asked(&mainstay)), if passed { (201, before + 1) } else { (400, before) }, "{body}");
        assert_eq!(fields(&answer.json()), *expected, "{path} {body}: {}", answer.text());
    }
    for (target, expected) in [
        ("/tickets/7?fields=title%7Cstate&where=%7B%22a%22:1%7D", &[][..]),
        ("/tickets/0?fields=title%7Cx&where=%7B%22A%22:1%7D", &["path /number", "query /fields/1", "query /where"]),
        ("/tickets/7?where=%7B%22a%22:1,%22a%22:2%7D", &["query /where/a"]),
    ] {
        let answer = get(&mainstay.url(target));
        assert_eq!(answer.status, if expected.is_empty() { 201 } else { 400 }, "{target}: {}", answer.text());
        assert_eq!(fields(&answer.json()), expected, "{target}: {}", answer.text());
    }
    // Both rules hold: the document takes CSV, the schema of the route does not.
    let csv = post(&mainstay, "/tickets", "Content-Type: text/csv", "a,b");
    judged_answer(&mainstay, "csv", &csv, 415, "unsupported_media_type");
}

#[test]
fn e18_a_broken_schema_is_a_fault_of_check_and_changes_nothing_on_reload() {
    let lines = "[[route]]\nmatch = \"POST /users\"\nschema = \"user.json\"\n\
                 [[route]]\nmatch = \"/x\"\nopenapi = \"tickets.json\"\n";
    let mainstay = express(lines).ready("/");
    let good = r#"{"email":"a@example.com","name":"A"}"#;
    let bad = r#"{"email":"a@example.com"}"#;
    let holds = |name: &str| {
        assert_eq!(post(&mainstay, "/users", JSON, good).status, 201, "{name}");
        assert_eq!(post(&mainstay, "/users", JSON, bad).status, 400, "{name}");
    };
    assert_eq!(mainstay.verb(&["check"]).code, Some(0));
    let tickets = read_to_string(fixtures::folder().join("openapi/tickets-3.1.json")).expect("tickets");
    let swapped = |from: &str, to: &str| {
        assert!(tickets.contains(from));
        tickets.replace(from, to)
    };
    for (file, text, said) in [
        ("user.json", "{\n  \"type\": \"objekt\"\n}".to_owned(), "user.json:2: "),
        ("user.json", "{\n  \"type\": \"object\",\n}".to_owned(), "user.json:3: not JSON"),
        ("user.json", "{\n  \"$ref\": \"#/$defs/User\"\n}".to_owned(), "user.json:2: `$ref: #/$defs/User`"),
        ("user.json", "{\n\n  \"$ref\": \"http://127.0.0.1:1/user.json\"\n}".to_owned(), "user.json:3: "),
        (
            "tickets.json",
            swapped("#/components/schemas/Ticket\" } }", "#/components/schemas/Tickte\" } }"),
            "tickets.json:12: ",
        ),
        ("tickets.json", swapped("\"exclusiveMinimum\": 0 } },", "\"exclusiveMinimum\": \"0\" } },"), "tickets.json:"),
        ("tickets.json", swapped("\"openapi\": \"3.1.0\"", "\"swagger\": \"2.0\""), "tickets.json:2: Swagger 2.0"),
    ] {
        let before = read_to_string(mainstay.path().join(file)).expect(file);
        mainstay.write(file, &text);
        let checked = mainstay.verb(&["check"]);
        assert_eq!(checked.code, Some(78), "{text}: {}", checked.all());
        assert!(checked.err.contains(said) && checked.err.contains("mainstay.toml:"), "{text}: {}", checked.all());
        let reloaded = mainstay.verb(&["reload"]);
        assert_eq!(reloaded.code, Some(78), "{text}: {}", reloaded.all());
        assert!(reloaded.err.contains(said) && reloaded.err.contains("nothing was changed"), "{}", reloaded.all());
        holds(&text);
        mainstay.write(file, &before);
    }
    // A file that changed alone is read again.
    mainstay.write("user.json", &USER.replace("[\"email\", \"name\"]", "[\"email\"]"));
    let reloaded = mainstay.verb(&["reload"]);
    assert!(reloaded.code == Some(0) && reloaded.all().contains("schema files have changed"), "{reloaded:?}");
    wait_until("the new schema", || post(&mainstay, "/users", JSON, bad).status == 201);
    // A start with a broken one is refused, with the place.
    let start = express(lines).write("user.json", "{").ended();
    assert_eq!(start.code, Some(78), "{}", start.all());
    assert!(start.err.contains("user.json:1: not JSON"), "{}", start.all());
}

#[test]
fn e18_a_schema_that_is_gone_when_a_server_is_replaced_lets_nothing_through_unchecked() {
    let mainstay = guarded();
    std::fs::remove_file(mainstay.path().join("user.json")).expect("removed");
    let server = mainstay.server();
    // An upgrade is asked for by somebody who can be told: it does not come to that.
    let upgraded = mainstay.verb(&["upgrade"]);
    assert!(upgraded.code != Some(0) && upgraded.all().contains("schema file"), "{}", upgraded.all());
    assert_eq!(post(&mainstay, "/users", JSON, "{}").status, 400);
    assert_eq!(post(&mainstay, "/users", JSON, r#"{"email":"a@example.com","name":"A"}"#).status, 201);
    let server = mainstay.find_server().unwrap_or(server);
    mainstay_e2e::processes::signal(server, nix::sys::signal::Signal::SIGKILL);
    wait_until("a new server", || mainstay.find_server().is_some_and(|pid| pid != server));
    wait_until("the other routes to be served", || get(&mainstay.url("/other")).status == 201);
    let before = asked(&mainstay);
    let refused = post(&mainstay, "/users", JSON, r#"{"email":"a@example.com","name":"A"}"#);
    judged_answer(&mainstay, "unchecked", &refused, 500, "internal");
    assert_eq!(asked(&mainstay), before);
    mainstay.write("user.json", USER);
    mainstay.verb(&["reload"]).ok();
    wait_until("the route to be open", || {
        post(&mainstay, "/users", JSON, r#"{"email":"a@example.com","name":"A"}"#).status == 201
    });
}

#[test]
fn e18_a_browser_gets_a_page_with_the_fields() {
    let mainstay = express("openapi = \"shop.yaml\"\n").ready("/");
    let url = mainstay.url("/api/v1/orders?limit=x&filter[%3Cscript%3E]=1");
    let answer = curl(&["-g", "-H", "Accept: text/html,*/*", &url]);
    assert_eq!(answer.status, 400, "{}", answer.text());
    assert_eq!(answer.header("content-type"), Some("text/html; charset=utf-8"));
    let page = answer.text();
    assert!(page.contains("<li><code>query /limit </code>must be an integer</li>"), "{page}");
    assert!(page.contains("&lt;script&gt;") && !page.contains("<script"), "{page}");
}

/// DESIGN §4 "Repeating": a checked body is kept, and repeated within the same bounds as any other.
#[test]
fn e18_a_checked_body_is_repeated_no_more_than_others() {
    use mainstay_e2e::peer::{Then, answer};
    let closing = Peer::with(|ask, out| match ask.path() {
        "/" => answer(out, 200, &[], b"fine"),
        _ => Then::Close,
    });
    let good = Peer::mirror();
    let text = format!(
        "{}max_fails = 0\n[[route]]\nmatch = \"/put\"\nschema = \"any.json\"\n",
        in_front_of(&[&closing, &good])
    );
    let mainstay = Setup::file(&text).write("any.json", "true").ready("/");
    let body = |size: usize| format!("[\"{}\"]", "x".repeat(size));
    for (size, repeated) in [(100, true), (60 * 1024, true), (70 * 1024, false)] {
        let (body, mut met) = (body(size), false);
        for _ in 0..20 {
            let before = closing.holding("/put").len();
            let answer = curl(&["-X", "PUT", "-H", JSON, "-d", &body, &mainstay.url("/put")]);
            if closing.holding("/put").len() > before {
                met = true;
                assert_eq!(answer.status, if repeated { 200 } else { 502 }, "{size}: {}", answer.text());
            }
            if answer.status == 200 {
                assert_eq!(answer.json()["length"], body.len());
            }
        }
        assert!(met, "{size}: the failing upstream was never asked");
    }
}
