use super::document::Document;
use super::json;
use super::judge::judged;
use super::openapi::Api;
use super::schema::Schema;
use std::path::Path;
use std::sync::Arc;

#[test]
fn measure() {
    let user = r#"{"type":"object","additionalProperties":false,"required":["email","items"],"properties":{"email":{"type":"string","format":"email"},
      "items":{"type":"array","items":{"type":"object","required":["price","sku","quantity"],"properties":{"price":{"type":"number","minimum":0},"sku":{"type":"string","pattern":"^[A-Z0-9-]{3,20}$"},"quantity":{"type":"integer","minimum":1},"note":{"type":["string","null"],"maxLength":200}}}}}}"#;
    let document = Document::parse(Path::new("s.json"), user).expect("json");
    let schema = [Arc::new(Schema::of_file(&document).expect("a schema"))];
    let item = r#"{"price":9.99,"sku":"AB-123","quantity":2,"note":"some words of a note"}"#;
    let bad = r#"{"price":"x","sku":"?","quantity":0,"note":1}"#;
    let time = |name: &str, body: &str, schema: &[Arc<Schema>]| {
        let rounds = (4_000_000 / body.len()).clamp(3, 20_000);
        let started = cpu();
        for _ in 0..rounds {
            std::hint::black_box(json::read(body.as_bytes())).ok();
        }
        let read = (cpu() - started) / rounds as u32;
        let started = cpu();
        for _ in 0..rounds {
            std::hint::black_box(judged(body.as_bytes(), schema));
        }
        let all = (cpu() - started) / rounds as u32;
        println!("{name}: {} bytes, read {read:?}, all {all:?}", body.len());
    };
    for n in [1, 3, 40, 200, 2000, 14000] {
        let body = format!("{{\"email\":\"a@example.com\",\"items\":[{}]}}", vec![item; n].join(","));
        time("valid", &body, &schema);
        let body = format!("{{\"email\":\"a@example.com\",\"items\":[{}]}}", vec![bad; n.min(18000)].join(","));
        time("broken", &body, &schema);
    }
    let empty = format!("{{\"items\":[{}]}}", vec!["{}"; 99_990].join(","));
    time("broken wide", &empty, &schema);
    time("sixteen", &format!("{{\"items\":[{}]}}", vec!["{}"; 5400].join(",")), &schema);
    let evil = r#"{"items":{"pattern":"^(a+)+(?=b)$"}}"#;
    let document = Document::parse(Path::new("s.json"), evil).expect("json");
    let evil = [Arc::new(Schema::of_file(&document).expect("a schema"))];
    let text = format!("[{}]", vec![format!("\"{}\"", "a".repeat(30)); 490].join(","));
    time("evil pattern 16 KiB", &text, &evil);
    let tree = r##"{"anyOf":[{"type":"integer"},{"type":"object","properties":{"c":{"type":"array","items":{"$ref":"#"}}},"required":["c"],"additionalProperties":false}]}"##;
    let document = Document::parse(Path::new("s.json"), tree).expect("json");
    let tree = [Arc::new(Schema::of_file(&document).expect("a schema"))];
    let mut body = "\"x\"".to_owned();
    for _ in 0..31 {
        body = format!("{{\"c\":[1,{}{body}]}}", "2,".repeat(2000));
    }
    time("deep union 124 KiB", &body, &tree);
    let mut body = "\"x\"".to_owned();
    for _ in 0..31 {
        body = format!("{{\"c\":[1,{}{body}]}}", "2,".repeat(240));
    }
    time("deep union 15 KiB", &body, &tree);
    // Without a circle, each refers to the two that follow.
    let mut schemas = serde_json::Map::new();
    let mut paths = serde_json::Map::new();
    for i in 0..300 {
        let next = |n: usize| {
            if i + n < 300 {
                serde_json::json!({"$ref":format!("#/components/schemas/S{}", i+n)})
            } else {
                serde_json::json!({"type":"string"})
            }
        };
        schemas.insert(format!("S{i}"), serde_json::json!({"type":"object","properties":{"a":next(1),"b":next(2)}}));
        paths.insert(format!("/things{i}"), serde_json::json!({"put":{"requestBody":{"content":{"application/json":{"schema":{"$ref":format!("#/components/schemas/S{i}")}}}}}}));
    }
    let text = serde_json::to_string_pretty(
        &serde_json::json!({"openapi":"3.1.0","paths":paths,"components":{"schemas":schemas}}),
    )
    .expect("text");
    let before = resident();
    let started = cpu();
    let api = Api::build(Document::parse(Path::new("a.json"), &text).expect("json")).expect("api");
    println!("300 without a circle: {:?}, {} MiB more", cpu() - started, (resident() - before) >> 20);
    drop(api);
    // A large document.
    let mut paths = serde_json::Map::new();
    let mut schemas = serde_json::Map::new();
    for i in 0..300 {
        schemas.insert(format!("S{i}"), serde_json::json!({"type":"object","required":["id"],"properties":{"id":{"type":"integer"},"name":{"type":"string","maxLength":40},"next":{"$ref":format!("#/components/schemas/S{}", (i+1)%300)},"list":{"type":"array","items":{"$ref":format!("#/components/schemas/S{}", (i*7)%300)}}}}));
        paths.insert(format!("/things{i}/{{id}}"), serde_json::json!({"put":{"parameters":[{"name":"id","in":"path","required":true,"schema":{"type":"integer"}},{"name":"q","in":"query","schema":{"type":"string"}}],"requestBody":{"required":true,"content":{"application/json":{"schema":{"$ref":format!("#/components/schemas/S{i}")}}}}}}));
    }
    let text = serde_json::to_string_pretty(
        &serde_json::json!({"openapi":"3.1.0","paths":paths,"components":{"schemas":schemas}}),
    )
    .expect("text");
    let before = resident();
    let started = cpu();
    let api = Api::build(Document::parse(Path::new("a.json"), &text).expect("json")).expect("api");
    println!(
        "300 operations, {} bytes: compiled in {:?}, {} MiB more",
        text.len(),
        (cpu() - started),
        (resident() - before) >> 20
    );
    let path = crate::path::segments("/things299/7");
    let started = cpu();
    for _ in 0..10000 {
        std::hint::black_box(api.find("PUT", &path));
    }
    println!("find: {:?}", (cpu() - started) / 10000);
}

fn cpu() -> std::time::Duration {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").expect("schedstat");
    std::time::Duration::from_nanos(text.split(' ').next().and_then(|n| n.parse().ok()).unwrap_or(0))
}

fn resident() -> usize {
    let text = std::fs::read_to_string("/proc/self/statm").expect("statm");
    text.split(' ').nth(1).and_then(|n| n.parse::<usize>().ok()).unwrap_or(0) * 4096
}
