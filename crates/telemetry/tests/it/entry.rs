//! Whatever a record says is read back from its line.

use mainstay_telemetry::access::Access;
use mainstay_telemetry::why::Entry;
use mainstay_telemetry::{Cut, Ids, MethodCode, Names, Outcome, Record, Redactor, Try, Verdict, time};
use proptest::prelude::*;

const OUTCOMES: [Outcome; 8] = [
    Outcome::Refused,
    Outcome::ConnectTimeout,
    Outcome::Closed,
    Outcome::Stale,
    Outcome::ResponseTimeout,
    Outcome::Status(2),
    Outcome::Status(77),
    Outcome::Invalid,
];

fn hex(bytes: &[u8]) -> String {
    if bytes.iter().all(|b| *b == 0) { String::new() } else { bytes.iter().map(|b| format!("{b:02x}")).collect() }
}

proptest! {
    #[test]
    fn a_record_survives_its_line(
        path in "\\PC{0,300}", agent in "\\PC{0,40}", wild in any::<String>(), route in "/\\PC{1,20}",
        seed in any::<u64>(), unix_us in 0u64..253_402_000_000_000_000,
        total_us in 0u64..1 << 45, first in any::<u32>(),
        (held_ms, status) in any::<(u16, u16)>(), flags in any::<[bool; 5]>(), method in 0usize..10,
        verdict in 0usize..22, (bytes_in, bytes_out) in any::<(u64, u64)>(),
        (client, peer) in any::<(std::net::IpAddr, std::net::IpAddr)>(),
        tries in proptest::collection::vec((0usize..8, any::<u16>()), 0..=3),
    ) {
        let (names, mut ids) = (Names::default(), Ids::seeded(seed));
        let attempt = |i: usize| tries.get(i).map(|(outcome, millis)| Try {
            upstream: names.intern(&format!("main.{i}")), outcome: OUTCOMES[*outcome], millis: *millis,
        });
        let record = Record {
            id: ids.request(unix_us), started_unix_us: unix_us, total_us, first_byte_us: first, held_ms, status,
            method: MethodCode::ALL[method], tls: flags[0], upgraded: flags[1], client_gone: flags[2],
            verdict: Verdict::ALL[verdict],
            rule: if flags[3] { names.intern("mainstay.toml:9") } else { 0 },
            trusted_by: if flags[4] { names.intern("mainstay.toml:3") } else { 0 },
            app: names.intern("main"), route: names.intern(&route), upstream: names.intern("main.7"),
            bytes_in, bytes_out, client, peer, trace_id: ids.trace(), span_id: ids.span(),
            tries: [attempt(0), attempt(1), attempt(2)],
            path: Cut::new(&path), agent: Cut::new(&agent), client_request_id: Cut::new(&wild),
            ..Record::EMPTY
        };
        let mut line = Vec::new();
        Access::new(names.clone(), "production", Redactor::default()).write_json(&record, &mut line);
        let line = std::str::from_utf8(&line).expect("utf-8");
        prop_assert_eq!(line.matches('\n').count(), 1);
        let entry = Entry::parse(line).expect("an access line");

        prop_assert_eq!(&entry.request_id, &record.id.to_string());
        prop_assert_eq!(&entry.timestamp, &time::iso(unix_us + total_us));
        prop_assert!((entry.duration_ms * 1000.0 - total_us as f64).abs() < 1.0);
        prop_assert_eq!(entry.first_byte_ms.is_some(), first > 0);
        prop_assert_eq!((entry.held_ms, entry.status), (u64::from(held_ms), status));
        prop_assert_eq!([entry.tls, entry.upgraded, entry.client_gone], [flags[0], flags[1], flags[2]]);
        prop_assert_eq!(&entry.method, record.method.as_str());
        prop_assert_eq!((&*entry.path, entry.path_cut), (record.path.as_str(), record.path.is_cut()));
        prop_assert_eq!(&*entry.agent, record.agent.as_str());
        prop_assert_eq!(&*entry.client_request_id, record.client_request_id.as_str());
        prop_assert_eq!((&*entry.route, &*entry.app, &*entry.instance), (&*route, "main", "main.7"));
        prop_assert_eq!((entry.bytes_in, entry.bytes_out), (bytes_in, bytes_out));
        prop_assert_eq!(&entry.client, &client.to_string());
        prop_assert_eq!(entry.peer.is_empty(), client == peer);
        prop_assert_eq!((entry.trace_id.clone(), entry.parent_id.clone()), (hex(&record.trace_id), String::new()));
        prop_assert_eq!(entry.rule.is_empty(), !flags[3]);
        prop_assert_eq!(entry.trusted_by.is_empty(), !flags[4]);
        prop_assert_eq!(entry.code.is_empty(), record.verdict == Verdict::Ok);
        prop_assert_eq!(entry.tries.len(), tries.len());
        for (i, attempt) in entry.tries.iter().enumerate() {
            prop_assert_eq!(&attempt.outcome, OUTCOMES[tries[i].0].code());
            prop_assert_eq!((&*attempt.instance, attempt.ms), (&*format!("main.{i}"), u64::from(tries[i].1)));
        }
        let text = entry.render();
        prop_assert!(text.chars().all(|c| c == '\n' || !c.is_control()), "{:?}", text);
    }

    #[test]
    fn no_line_panics(
        line in any::<String>(), body in "\\{\"kind\":\"access\",\"[a-z]{1,9}\":[0-9a-z\"{}\\[\\]]{0,20}\\}",
    ) {
        let _ = Entry::parse(&line);
        let _ = Entry::parse(&body).map(|entry| entry.render());
    }
}
