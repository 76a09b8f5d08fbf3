//! The order of the gate's two halves, and what a refusal costs nobody.

use super::*;
use mainstay_config::{Inputs, Reader, Text};

/// A whole millisecond: what is rounded to its end lies there already.
const NOW: u64 = 1_000_000;

pub fn rules(text: &str, rates: &Rates) -> Rules {
    let file = Some(Text { path: "mainstay.toml".into(), text: text.to_owned() });
    let reader = Reader::new(&Inputs { file, ..Inputs::default() });
    Rules::new(&Options::read(&reader), rates, &Names::default())
}

fn identity<'a>(user: &'a str, tenant: &'a str) -> Who<'a> {
    Who { user: Some(user), tenant: Some(tenant), tier: None }
}

/// As the gate asks: the address first, then whoever it is.
fn ask(rates: &Rates, rules: &Rules, who: &Who<'_>) -> (Result<(), Refusal>, Box<Limited>) {
    let mut limited = Box::new(Limited { matched: rules.matching("GET", "", "/api/x"), ..Limited::default() });
    let client = [192, 0, 2, 1].into();
    let address = |rule: &InForce| {
        let place = || (rates.of_address(rule, client), Subject::Network(Network::of(client)));
        (rule.rule.per == Per::Ip).then(place)
    };
    limited.ask((rates, NOW), rules, address).expect("the address is within its limit");
    let result = limited.ask((rates, NOW), rules, |rule| who.place(rates, rule));
    if result.is_err() {
        rates.refused_tenant(who.tenant);
    }
    (result, limited)
}

#[test]
fn without_a_word_in_the_file_nothing_is_looked_at() {
    let rules = rules("[app.a]\nupstreams = [\"127.0.0.1:1\"]\n", &Rates::default());
    assert!(!rules.on && rules.matching("GET", "", "/").is_empty());
}

#[test]
fn a_user_over_the_limit_costs_neither_the_address_nor_the_tenant_anything() {
    let rates = Rates::default();
    let text = "[limits]\nip = \"100/min\"\nuser = \"3/min\"\ntenant = \"10/min\"\n\
                [[route]]\nmatch = \"/api/*\"\nlimit = \"200/min per tenant\"\n";
    let rules = rules(text, &rates);
    for left in [2, 1, 0] {
        let (result, limited) = ask(&rates, &rules, &identity("ann", "acme"));
        assert!(result.is_ok());
        // The least that is left is the user's.
        assert_eq!(limited.told.map(|told| told.decision.remaining), Some(left));
    }
    for _ in 0..50 {
        let (result, limited) = ask(&rates, &rules, &identity("ann", "acme"));
        let refusal = result.expect_err("over the limit");
        assert_eq!((refusal.verdict, refusal.retry_after), (Verdict::TooManyRequests, Some(60)));
        assert!(limited.counted.is_empty());
    }
    // Three of the tenant's ten are used, and three of the address's hundred.
    for user in ["ben", "cid", "ben", "cid", "ben", "cid"] {
        assert!(ask(&rates, &rules, &identity(user, "acme")).0.is_ok());
    }
    let (result, limited) = ask(&rates, &rules, &Who::default());
    assert!(result.is_ok());
    assert_eq!(limited.told.map(|told| told.decision.remaining), Some(90));
    assert!(ask(&rates, &rules, &identity("dan", "acme")).0.is_ok());
    assert!(ask(&rates, &rules, &identity("eve", "acme")).0.is_err(), "the tenant has ten");
    assert!(ask(&rates, &rules, &identity("ann", "other")).0.is_err(), "a user stays the same one");
    assert!(ask(&rates, &rules, &identity("fay", "other")).0.is_ok());
    assert_eq!(rates.tenants()[0], ("acme".to_owned(), 51));
}
