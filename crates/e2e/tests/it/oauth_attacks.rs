//! Everything that must not become a login by a provider, and what a provider that is away must not take down.

use crate::oauth::{Begun, START, ask, begin, claims, end, id_tokens, login, me, provider, refused, with_providers};
use crate::support::in_front_of;
use mainstay_e2e::idp::{CLIENT_ID, CLIENT_SECRET, Reply, Stub, github};
use mainstay_e2e::{Peer, Setup, curl, fixtures};
use serde_json::{Value, json};

#[test]
fn i4_a_state_is_of_one_browser_one_provider_and_good_once() {
    let peer = Peer::labelled("app");
    let stub = Stub::oidc("");
    let issuer = stub.issuer();
    let mainstay = with_providers(&peer, "", &[("corp", &issuer), ("evil", &issuer)]);
    let (mine, other, last) =
        (begin(&mainstay, "corp", ""), begin(&mainstay, "corp", ""), begin(&mainstay, "corp", ""));
    let strange = begin(&mainstay, "evil", "");
    let (tokens, keys) = id_tokens(&[claims(&issuer, &mine, &json!({}))]);
    stub.says("/jwks", 200, &keys);
    stub.grants(&tokens[0]);
    let (query, state) = (mine.query("c"), "oauth_state");
    refused("no cookie", &end(&mainstay, "corp", &query, "theme=dark"), 400, state);
    refused("another browser's", &end(&mainstay, "corp", &query, &other.cookie), 400, state);
    refused("no state", &end(&mainstay, "corp", "code=c", &mine.cookie), 400, state);
    refused("two states", &end(&mainstay, "corp", &format!("{query}&state=x"), &mine.cookie), 400, state);
    let cut = &mine.cookie[..mine.cookie.len() - 6];
    refused("a forged cookie", &end(&mainstay, "corp", &query, cut), 400, state);
    // A code that another provider gave out reaches nobody (mix-up): by the path, and by RFC 9207's word.
    refused("begun with another", &end(&mainstay, "corp", &strange.query("c"), &strange.cookie), 400, state);
    let mixed = format!("{}&iss=https%3A%2F%2Fevil.example", last.query("c"));
    refused("another names itself", &end(&mainstay, "corp", &mixed, &last.cookie), 400, state);
    assert_eq!(stub.exchanges(), 0, "a code was brought to somebody");

    let granted = end(&mainstay, "corp", &query, &mine.cookie);
    assert_eq!(granted.status, 200, "{granted:?}\n{}\n{}", granted.text(), mainstay.said());
    assert!(granted.header("set-cookie").is_some_and(|line| line.contains("Max-Age=0")), "{granted:?}");
    refused("a second time", &end(&mainstay, "corp", &query, &mine.cookie), 400, state);
    assert_eq!(stub.exchanges(), 1);
}

#[test]
fn i4_what_a_provider_cannot_prove_is_no_login() {
    let peer = Peer::labelled("app");
    let stub = Stub::oidc("");
    let issuer = stub.issuer();
    let mainstay = with_providers(&peer, "", &[("corp", &issuer)]);
    let wrong = [
        ("nonce", json!({"nonce": "of another login"})),
        ("no nonce", json!({"nonce": null})),
        ("issuer", json!({"iss": "https://evil.example"})),
        ("audience", json!({"aud": "another-client"})),
        ("party", json!({"aud": [CLIENT_ID, "x"], "azp": "x"})),
        ("expired", json!({"exp": 1_000})),
        ("nobody", json!({"sub": null})),
        ("good", json!({})),
    ];
    let begun: Vec<Begun> = wrong.iter().map(|_| begin(&mainstay, "corp", "")).collect();
    let all: Vec<Value> = wrong.iter().zip(&begun).map(|((_, more), begun)| claims(&issuer, begun, more)).collect();
    let (tokens, keys) = id_tokens(&all);
    stub.says("/jwks", 200, &keys);
    for (((name, _), begun), token) in wrong.iter().zip(&begun).zip(&tokens) {
        stub.grants(token);
        let answer = end(&mainstay, "corp", &begun.query("c"), &begun.cookie);
        match *name {
            "good" => assert_eq!(answer.status, 200, "{answer:?}\n{}", mainstay.said()),
            name => refused(name, &answer, 502, "oauth_provider_fault"),
        }
    }
    // The same claims without a signature, and signed with what everybody knows: the key set itself.
    let none = begin(&mainstay, "corp", "");
    let good = tokens.last().expect("one").split('.').nth(1).expect("claims");
    stub.grants(&format!("eyJhbGciOiJub25lIn0.{good}."));
    refused("alg none", &end(&mainstay, "corp", &none.query("c"), &none.cookie), 502, "oauth_provider_fault");
    let confused = begin(&mainstay, "corp", "");
    let asked = json!({"secret": keys, "tokens": [claims(&issuer, &confused, &json!({}))]}).to_string();
    let told: Value = serde_json::from_str(&fixtures::node_client("tokens.js", &[&asked])).expect("JSON");
    stub.grants(told["tokens"][0].as_str().expect("a token"));
    let answer = end(&mainstay, "corp", &confused.query("c"), &confused.cookie);
    refused("the public key as a secret", &answer, 502, "oauth_provider_fault");
    mainstay.says("a login by a provider did not work");
    let said = mainstay.said();
    assert!(tokens.iter().all(|token| !said.contains(token.as_str())), "a token was written down");
}

#[test]
fn i4_an_address_that_nobody_verified_opens_nobodys_account() {
    let peer = Peer::labelled("app");
    let unverified = json!([{"email": "victim@example.com", "primary": true, "verified": false}]);
    let verified = json!([{"email": "victim@example.com", "primary": true, "verified": true}]);
    let user = |id: u32| json!({"id": id, "login": "mallory", "email": "victim@example.com"});
    let (liar, owner) = (github(user(1), unverified), github(user(2), verified));
    let address = |hub: &Peer| format!("http://{}", hub.address);
    let setup = Setup::new();
    let table = |name: &str, hub: &Peer| provider(name, &address(hub), setup.port()) + "kind = \"github\"\n";
    let tables = table("liar", &liar) + &table("owner", &owner);
    let text = format!("{}[identity]\naccounts = true\n{tables}", in_front_of(&[&peer]));
    let mainstay = setup.write("mainstay.toml", &text).env("PROVIDER_SECRET", CLIENT_SECRET).ready("/");
    let body = json!({"email": "victim@example.com", "password": "correct horse battery staple"}).to_string();
    let json_kind = ["-H", "Content-Type: application/json", "-d", &body];
    let register = ask(&mainstay, "/api/v1/auth/register", &json_kind);
    assert!((200..300).contains(&register.status), "{register:?}\n{}", register.text());
    // Somebody at the provider's who only says that it is his address is somebody else here, without an address.
    let mallory = me(&mainstay, &login(&mainstay, "liar", "good"));
    assert!(!mallory.to_string().contains("victim@example.com"), "{mallory}");
    // Nor does the provider's proof give the account of whoever registered the address here and proved nothing.
    let begun = begin(&mainstay, "owner", "");
    let taken = end(&mainstay, "owner", &begun.query("good"), &begun.cookie);
    refused("registered, never proven", &taken, 409, "oauth_address_taken");
    let own = ask(&mainstay, "/api/v1/auth/login", &json_kind);
    if own.status == 200 {
        assert_ne!(me(&mainstay, &own.json())["id"], mallory["id"]);
    }
}

#[test]
fn i4_nobody_is_sent_to_another_site() {
    let peer = Peer::labelled("app");
    let stub = Stub::oidc("");
    let mainstay = with_providers(&peer, "", &[("corp", &stub.issuer())]);
    for page in [
        "https%3A%2F%2Fevil.example%2F",
        "%2F%2Fevil.example",
        "//evil.example",
        "%2F%5Cevil.example",
        "%5C%5Cevil.example",
        "%2F%09%2Fevil.example",
        "%2F.%2F%2Fevil.example",
        "javascript%3Aalert(1)",
        "%2Fa&return_to=%2F%2Fevil.example",
        "%zz",
    ] {
        let answer = curl(&[&mainstay.url(&format!("{START}corp?return_to={page}"))]);
        refused(page, &answer, 400, "oauth_return_to");
        assert!(answer.header("location").is_none() && answer.header("set-cookie").is_none(), "{answer:?}");
    }
    begin(&mainstay, "corp", "return_to=%2Fapp%3Ftab%3D1");
    refused("no such provider", &curl(&[&mainstay.url(&format!("{START}facebook"))]), 404, "oauth_unknown_provider");
    // Where the browser is sent back to is what the file says, whatever the request says.
    let lied = ["-H", "Host: evil.example", "-H", "X-Forwarded-Host: evil.example"];
    let sent = ask(&mainstay, &format!("{START}corp?redirect_uri=https%3A%2F%2Fevil.example"), &lied);
    let location = sent.header("location").unwrap_or_default();
    assert!(location.contains("redirect_uri=http%3A%2F%2Flocalhost%3A") && !location.contains("evil"), "{sent:?}");
}

#[test]
fn i4_a_provider_that_is_away_hangs_or_floods_is_told_and_stops_nobody_else() {
    let peer = Peer::labelled("app");
    let (stub, hub) = (Stub::oidc(""), github(json!({"id": 7, "login": "octocat"}), json!([])));
    let (corp, github) = (stub.issuer(), format!("http://{}", hub.address));
    let mainstay = with_providers(&peer, "", &[("corp", &corp), ("github", &github)]);
    let begun: Vec<Begun> = (0..4).map(|_| begin(&mainstay, "corp", "")).collect();
    let ended = |at: usize| end(&mainstay, "corp", &begun[at].query("c"), &begun[at].cookie);
    stub.replies("/token", Reply::Hangs);
    std::thread::scope(|scope| {
        let hanging = scope.spawn(|| ended(0));
        // Meanwhile the app is there, and so is the other provider.
        while !hanging.is_finished() {
            assert_eq!(curl(&[&mainstay.url("/")]).text(), "app");
            login(&mainstay, "github", "good");
        }
        let answer = hanging.join().expect("an answer");
        refused("hangs", &answer, 503, "oauth_provider_away");
        assert!(answer.header("retry-after").is_some(), "{answer:?}");
    });
    stub.replies("/token", Reply::Floods);
    refused("floods", &ended(1), 503, "oauth_provider_away");
    stub.says("/token", 200, &format!("{{\"access_token\":\"{}\"}}", "a".repeat(600_000)));
    refused("a long answer", &ended(2), 502, "oauth_provider_fault");
    stub.says("/token", 503, "<html>down</html>");
    refused("down", &ended(3), 503, "oauth_provider_away");
    stub.peer.stop();
    assert_eq!(curl(&[&mainstay.url("/")]).text(), "app");
    login(&mainstay, "github", "good");
}

#[test]
fn i4_what_cannot_work_is_a_fault_of_check_and_the_guides_variables_are_enough() {
    let peer = Peer::labelled("app");
    let base = format!("{}[identity]\naccounts = true\n", in_front_of(&[&peer]));
    let callback = "callback = \"https://api.example.com/api/v1/auth/oauth/corp/callback\"\n";
    let table = "[identity.oauth.corp]\nclient_id = \"a1\"\nclient_secret = \"${PROVIDER_SECRET}\"\n";
    for (lines, expected) in [
        (format!("{table}{callback}"), "does not say which provider it is"),
        (format!("{table}{callback}issuer = \"http://id.example.com\"\n"), "without TLS"),
        (format!("{table}issuer = \"https://id.example.com\"\n"), "where browsers come back to"),
        (
            format!("{table}issuer = \"https://id.example.com\"\ncallback = \"https://a.example/cb\"\n"),
            "does not answer",
        ),
        ("[identity.oauth.google]\n".to_owned(), "no client_id"),
    ] {
        let ended = Setup::file(&format!("{base}{lines}")).env("PROVIDER_SECRET", CLIENT_SECRET).verb(&["check"]);
        assert!(ended.code == Some(78) && ended.all().contains(expected), "{lines}: {ended:?}");
        assert!(ended.all().contains("mainstay.toml:"), "{lines}: no place\n{ended:?}");
    }
    let guide = [
        ("GOOGLE_CLIENT_ID", "407408718192.apps.googleusercontent.com"),
        ("GOOGLE_CLIENT_SECRET", "GOCSPX-kU3vX9qLw2Zr7TnB5sYd"),
        ("GOOGLE_CALLBACK_URL", "https://api.neurmatic.com/api/v1/auth/oauth/google/callback"),
    ];
    let setup = guide.iter().fold(Setup::file(&base), |setup, (name, value)| setup.env(name, value));
    let told = setup.verb(&["config"]).ok();
    assert!(told.contains(guide[0].1) && told.contains(guide[2].1) && !told.contains(guide[1].1), "{told}");
}
