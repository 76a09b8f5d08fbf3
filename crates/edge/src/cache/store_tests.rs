//! The store against a naive model, its bound, and what happens between two requests for one key.

use super::*;
use crate::cache::policy::Meta;
use crate::fields::Name;
use crate::message::ResponseHead;
use bytes::Bytes;
use proptest::prelude::*;
use std::collections::BTreeMap;
use std::time::Duration;

const SIZE: u64 = 64 * 1024;

fn store(size: u64) -> Arc<Store> {
    let store = Arc::new(Store::default());
    store.resize(size, size / 16);
    store
}

fn key(name: &str) -> Vec<u8> {
    format!("ha.example\0\0/{name}").into_bytes()
}

fn asked(language: &str) -> Fields {
    let mut fields = Fields::default();
    fields.push(b"accept-language", language.as_bytes());
    fields
}

fn entry<'a>(seen: Option<&'a Arc<Stored>>, counts: &'a Arc<Counts>) -> Entry<'a> {
    Entry { seen, lead: true, wait: true, spare: false, now_ms: 0, counts }
}

fn fly(store: &Arc<Store>, name: &str, counts: &Arc<Counts>) -> Entered {
    let mut scratch = Vec::new();
    let fields = asked("en");
    let seen = match store.look(&key(name), &fields, &mut scratch) {
        Found::Stored(stored) => Some(stored),
        _ => None,
    };
    store.enter(&key(name), &fields, entry(seen.as_ref(), counts), &mut scratch)
}

fn fresh(body: &str, tags: &[&str], language: Option<&str>) -> Fresh {
    let names: Names = if language.is_some() { vec![b"accept-language"[..].into()].into() } else { Names::from([]) };
    let mut selected = Vec::new();
    selecting(&mut selected, &names, &asked(language.unwrap_or("")));
    let tags = tags.iter().map(|t| t.as_bytes().into()).collect();
    let body = Bytes::copy_from_slice(body.as_bytes());
    let mut fields = Fields::default();
    fields.add(Name::ContentType, b"text/plain");
    let stored = Stored::new(&ResponseHead::new(200), fields, body, Meta::default(), tags);
    Fresh { stored, names, selecting: selected.into(), begun_ms: u64::MAX }
}

fn put(store: &Arc<Store>, flying: Flying, fresh: Fresh) -> bool {
    let Some(reserved) = store.reserve(fresh.stored.cost) else { return false };
    let stored = store.insert(&flying, fresh, reserved);
    flying.end(End::Stored, 0);
    stored
}

fn body(store: &Store, name: &str, language: &str) -> Option<String> {
    match store.look(&key(name), &asked(language), &mut Vec::new()) {
        Found::Stored(stored) => Some(String::from_utf8_lossy(&stored.body).into_owned()),
        _ => None,
    }
}

proptest! {
    /// Against a map: what is found is what was stored last, and the room is never exceeded.
    #[test]
    fn finds_what_was_stored_last_and_stays_within_its_room(
        ops in prop::collection::vec((0..6u8, 0..30u32, 0..3000usize), 0..150)
    ) {
        let store = store(SIZE);
        let counts: Arc<Counts> = Arc::default();
        let mut model: BTreeMap<u32, String> = BTreeMap::new();
        for (op, name, length) in ops {
            let text = name.to_string();
            match op {
                0 => {
                    store.invalidate(&key(&text));
                    model.remove(&name);
                }
                1 => {
                    let what = What::parse(&format!("/{}*", name % 10)).expect("a path");
                    store.purge(&what);
                    let prefix = (name % 10).to_string();
                    model.retain(|k, _| !k.to_string().starts_with(&prefix));
                }
                2 => drop(fly(&store, &text, &counts)),
                _ => {
                    let Entered::Fly(flying) = fly(&store, &text, &counts) else { continue };
                    let value = format!("{length}").repeat(length / 4 + 1);
                    if put(&store, flying, fresh(&value, &[], None)) {
                        model.insert(name, value);
                    }
                }
            }
            prop_assert!(store.used.load(SeqCst) <= SIZE);
            prop_assert_eq!(store.collecting.load(SeqCst), 0);
            for (name, value) in &model {
                // It may have made room; it is never another's or an older one.
                if let Some(found) = body(&store, &name.to_string(), "en") {
                    prop_assert_eq!(&found, value);
                }
            }
            for name in 0..30 {
                if !model.contains_key(&name) {
                    prop_assert_eq!(body(&store, &name.to_string(), "en"), None);
                }
            }
            prop_assert_eq!(counts.bytes.load(Relaxed), store.used.load(SeqCst), "what is counted is what is used");
        }
        store.purge(&What::All);
        prop_assert_eq!((store.used.load(SeqCst), store.totals().entries), (0, 0));
    }
}

#[test]
fn variants_are_told_apart_and_bounded() {
    let (store, counts) = (store(SIZE), Arc::default());
    for i in 0..VARIANTS_MAX + 4 {
        let mut scratch = Vec::new();
        let fields = asked(&format!("l{i}"));
        let entered = store.enter(&key("a"), &fields, entry(None, &counts), &mut scratch);
        let Entered::Fly(flying) = entered else { panic!("{entered:?}") };
        assert!(put(&store, flying, fresh(&format!("b{i}"), &[], Some(&format!("l{i}")))));
    }
    assert_eq!(body(&store, "a", "l0"), None, "the oldest made room");
    assert_eq!(body(&store, "a", "l10").as_deref(), Some("b10"));
    assert!(matches!(store.look(&key("a"), &asked("xx"), &mut Vec::new()), Found::OtherVariant));
    // Another `Vary`: what was told apart by the old one cannot be compared any more.
    let Entered::Fly(flying) = fly(&store, "a", &counts) else { panic!("no lead") };
    assert!(put(&store, flying, fresh("plain", &[], None)));
    assert_eq!(body(&store, "a", "l10").as_deref(), Some("plain"));
}

#[test]
fn one_leads_and_the_others_wait() {
    let (store, counts) = (store(SIZE), Arc::default());
    let Entered::Fly(first) = fly(&store, "a", &counts) else { panic!("no lead") };
    let Entered::Wait(waiting) = fly(&store, "a", &counts) else { panic!("no wait") };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("runtime");
    assert!(put(&store, first, fresh("x", &[], None)));
    assert_eq!(runtime.block_on(waiting.end(Duration::from_secs(30))), End::Stored);
    assert!(matches!(store.enter(&key("a"), &asked("en"), entry(None, &counts), &mut Vec::new()), Entered::Again));
    // Not to be stored: whoever comes next does not wait.
    let Entered::Fly(second) = fly(&store, "b", &counts) else { panic!("no lead") };
    second.end(End::GoOn, 0);
    let spare = Entry { spare: true, ..entry(None, &counts) };
    assert!(matches!(store.enter(&key("b"), &asked("en"), spare, &mut Vec::new()), Entered::Alone));
    let Entered::Fly(third) = fly(&store, "b", &counts) else { panic!("no lead") };
    assert!(matches!(fly(&store, "b", &counts), Entered::Alone));
    // Broken off: the next one leads.
    drop(third);
    assert!(matches!(fly(&store, "b", &counts), Entered::Fly(_)));
}

#[test]
fn one_that_takes_too_long_is_overtaken_and_stores_nothing() {
    let (store, counts) = (store(SIZE), Arc::default());
    let Entered::Fly(slow) = fly(&store, "a", &counts) else { panic!("no lead") };
    let Entered::Wait(waiting) = fly(&store, "a", &counts) else { panic!("no wait") };
    store.overtake(&key("a"), waiting.flight(), 0);
    let Entered::Fly(next) = fly(&store, "a", &counts) else { panic!("no lead for the next") };
    assert!(put(&store, next, fresh("new", &[], None)));
    assert!(!put(&store, slow, fresh("old", &[], None)));
    assert_eq!(body(&store, "a", "en").as_deref(), Some("new"));
}

#[test]
fn what_changed_meanwhile_is_not_stored() {
    let (store, counts) = (store(SIZE), Arc::default());
    let Entered::Fly(flying) = fly(&store, "a", &counts) else { panic!("no lead") };
    store.invalidate(&key("a"));
    assert!(!put(&store, flying, fresh("old", &[], None)));
    let Entered::Fly(flying) = fly(&store, "a", &counts) else { panic!("no lead") };
    store.purge(&What::parse("/other").expect("a path"));
    assert!(!put(&store, flying, Fresh { begun_ms: 0, ..fresh("old", &[], None) }), "set off before a purge");
    assert_eq!(body(&store, "a", "en"), None);
}

#[test]
fn a_tag_names_what_carries_it() {
    let (store, counts) = (store(SIZE), Arc::default());
    for (name, tags) in [("a", &["x", "y"][..]), ("b", &["y"]), ("c", &[])] {
        let Entered::Fly(flying) = fly(&store, name, &counts) else { panic!("no lead") };
        assert!(put(&store, flying, fresh(name, tags, None)));
    }
    assert_eq!(store.purge(&What::Tag(b"y"[..].into())), 2);
    assert_eq!((body(&store, "a", ""), body(&store, "c", "").as_deref()), (None, Some("c")));
    assert_eq!(store.purge(&What::Tag(b"y"[..].into())), 0);
}

#[test]
fn answers_on_their_way_take_a_share_and_no_more() {
    let store = store(SIZE);
    let held: Vec<_> = std::iter::from_fn(|| store.reserve(1000)).collect();
    assert_eq!(held.len() as u64, SIZE / COLLECTING_SHARE / 1000);
    let mut one = held.into_iter().next().expect("one");
    assert!(one.grow_to(2000) && !one.grow_to(SIZE));
    drop(one);
    assert_eq!(store.used.load(SeqCst), 0);
    store.resize(0, 0);
    assert!(store.reserve(1).is_none());
}

#[test]
fn cores_that_store_at_once_never_pass_the_bound() {
    let (store, counts) = (store(SIZE), Arc::<Counts>::default());
    let threads: Vec<_> = (0..4u32)
        .map(|thread| {
            let (store, counts) = (store.clone(), counts.clone());
            std::thread::spawn(move || {
                for i in 0..3000u32 {
                    let name = (i.wrapping_mul(thread * 7 + 1) % 60).to_string();
                    let value = format!("{name}:").repeat(usize::try_from(i % 400).unwrap_or(0) + 1);
                    match fly(&store, &name, &counts) {
                        Entered::Fly(flying) => drop(put(&store, flying, fresh(&value, &[], None))),
                        _ => store.invalidate(&key(&name)),
                    }
                    if let Some(found) = body(&store, &name, "en") {
                        assert!(found.split(':').all(|part| part.is_empty() || part == name), "another's body");
                    }
                    assert!(store.used.load(SeqCst) <= SIZE);
                }
            })
        })
        .collect();
    threads.into_iter().for_each(|thread| thread.join().expect("thread"));
    assert_eq!((store.collecting.load(SeqCst), counts.bytes.load(Relaxed)), (0, store.used.load(SeqCst)));
    store.purge(&What::All);
    assert_eq!((store.used.load(SeqCst), counts.entries.load(Relaxed)), (0, 0));
}
