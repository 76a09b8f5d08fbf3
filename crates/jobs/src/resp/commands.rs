//! What a request is answered with. Connections' own commands here, those that look at jobs beside it.
//!
//! Must never change a job, nor wait for one.

use super::Port;
use super::frame::{Protocol, Reply};
use super::known::{self, COMMANDS, Command};
use super::{info, keyspace, values};
use std::net::SocketAddr;
use tokio::sync::OwnedSemaphorePermit;

/// What clients take us for: they ask which commands they may use.
pub const REDIS_VERSION: &str = "7.2.0";
/// Bytes of a name a connection gives itself, and of anything of a request that is said again.
const SAID_BYTES_MAX: usize = 128;

/// One connection.
#[derive(Debug)]
pub struct Session {
    pub id: u64,
    pub address: Option<SocketAddr>,
    pub protocol: Protocol,
    pub name: String,
    /// Nothing more is read of it.
    pub is_over: bool,
    /// A turn among large replies, held until this one is sent.
    pub turn: Option<OwnedSemaphorePermit>,
}

impl Session {
    pub fn new(id: u64, address: Option<SocketAddr>) -> Session {
        let (protocol, name) = (Protocol::Two, String::new());
        Session { id, address, protocol, name, is_over: false, turn: None }
    }
}

/// Answers one request; it has at least one word.
pub async fn answer(session: &mut Session, words: &[Vec<u8>], port: &Port) -> Reply {
    let name = words.first().map(|word| shown(word).to_ascii_uppercase()).unwrap_or_default();
    let Some(command) = known::find(&name) else { return unknown(&name, words) };
    if !command.takes(words.len()) {
        return wrong_number(command);
    }
    let rest = &words[1..];
    match command.name {
        "PING" => ping(rest),
        "ECHO" => Reply::bulk(rest[0].as_slice()),
        "SELECT" if rest[0] == b"0" => Reply::Simple("OK"),
        "SELECT" => Reply::error("ERR DB index is out of range: there is database 0 alone"),
        "AUTH" => auth(rest).err().unwrap_or(Reply::Simple("OK")),
        "HELLO" => hello(session, rest),
        "CLIENT" => client(session, rest),
        "COMMAND" => about_commands(rest),
        "QUIT" => {
            session.is_over = true;
            Reply::Simple("OK")
        }
        "RESET" => {
            (session.protocol, session.name) = (Protocol::Two, String::new());
            Reply::Simple("RESET")
        }
        "INFO" => info::answer(rest, port).await,
        "KEYS" | "SCAN" | "DBSIZE" => {
            keyspace::answer(command.name, rest, port).await.unwrap_or_else(|refused| refused)
        }
        keyed => values::answer(keyed, rest, session, port).await.unwrap_or_else(|refused| refused),
    }
}

/// A word of a request as it may be said again.
pub(super) fn shown(word: &[u8]) -> String {
    let text = String::from_utf8_lossy(&word[..word.len().min(SAID_BYTES_MAX)]);
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

pub(super) fn wrong_number(command: &Command) -> Reply {
    Reply::Error(format!("ERR wrong number of arguments for '{}' command", command.name.to_ascii_lowercase()))
}

pub(super) fn syntax() -> Reply {
    Reply::error("ERR syntax error")
}

fn unknown(name: &str, words: &[Vec<u8>]) -> Reply {
    if let Some(hint) = known::in_place_of(name) {
        return Reply::Error(format!("READONLY no {name} here, this port only reads: {hint}"));
    }
    if ["MULTI", "EXEC", "DISCARD", "WATCH", "UNWATCH"].contains(&name) {
        let text = "ERR no transactions here: send requests without MULTI, pipelined or not";
        return Reply::error(text);
    }
    let mut text = format!("ERR unknown command '{}', with args beginning with: ", shown(&words[0]));
    for word in words[1..].iter().take(4) {
        text.push_str(&format!("'{}' ", shown(word)));
    }
    Reply::Error(text)
}

fn ping(rest: &[Vec<u8>]) -> Reply {
    match rest {
        [] => Reply::Simple("PONG"),
        [word] => Reply::bulk(word.as_slice()),
        _ => Reply::error("ERR wrong number of arguments for 'ping' command"),
    }
}

/// The answers of a Redis without a password, where everybody is `default`.
fn auth(rest: &[Vec<u8>]) -> Result<(), Reply> {
    match rest {
        [_] => Err(Reply::error(
            "ERR AUTH <password> called without any password configured for the default user. Are you sure your \
             configuration is correct?",
        )),
        [user, _] if user == b"default" => Ok(()),
        [_, _] => Err(Reply::error("WRONGPASS invalid username-password pair or user is disabled.")),
        _ => Err(syntax()),
    }
}

fn hello(session: &mut Session, rest: &[Vec<u8>]) -> Reply {
    let mut protocol = session.protocol;
    let mut rest = rest;
    if let [version, behind @ ..] = rest {
        protocol = match version.as_slice() {
            b"2" => Protocol::Two,
            b"3" => Protocol::Three,
            other if other.iter().all(u8::is_ascii_digit) => {
                return Reply::error("NOPROTO unsupported protocol version");
            }
            _ => return Reply::error("ERR Protocol version is not an integer or out of range"),
        };
        rest = behind;
    }
    let mut named = None;
    while let [option, behind @ ..] = rest {
        rest = match (option.to_ascii_uppercase().as_slice(), behind) {
            (b"AUTH", [user, password, behind @ ..]) => {
                if let Err(refused) = auth(&[user.clone(), password.clone()]) {
                    return refused;
                }
                behind
            }
            (b"SETNAME", [name, behind @ ..]) => {
                match client_name(name) {
                    Ok(name) => named = Some(name),
                    Err(refused) => return refused,
                }
                behind
            }
            _ => return Reply::Error(format!("ERR Syntax error in HELLO option '{}'", shown(option))),
        };
    }
    session.protocol = protocol;
    session.name = named.unwrap_or(std::mem::take(&mut session.name));
    let pair = |name: &str, value: Reply| (Reply::bulk(name), value);
    Reply::Map(vec![
        pair("server", Reply::bulk("redis")),
        pair("version", Reply::bulk(REDIS_VERSION)),
        pair("proto", Reply::Integer(if protocol == Protocol::Three { 3 } else { 2 })),
        pair("id", Reply::count(session.id)),
        pair("mode", Reply::bulk("standalone")),
        pair("role", Reply::bulk("master")),
        pair("modules", Reply::Array(Vec::new())),
    ])
}

fn client_name(name: &[u8]) -> Result<String, Reply> {
    if name.len() > SAID_BYTES_MAX || !name.iter().all(u8::is_ascii_graphic) {
        let text = "ERR Client names cannot contain spaces, newlines or special characters.";
        return Err(Reply::error(text));
    }
    Ok(String::from_utf8_lossy(name).into_owned())
}

fn client(session: &mut Session, rest: &[Vec<u8>]) -> Reply {
    let (first, rest) = (rest[0].to_ascii_uppercase(), &rest[1..]);
    match (first.as_slice(), rest) {
        (b"ID", []) => Reply::count(session.id),
        (b"GETNAME", []) if session.name.is_empty() => Reply::Null,
        (b"GETNAME", []) => Reply::bulk(session.name.as_str()),
        (b"SETNAME", [name]) => match client_name(name) {
            Ok(name) => {
                session.name = name;
                Reply::Simple("OK")
            }
            Err(refused) => refused,
        },
        // What a driver is called is of no use here.
        (b"SETINFO", [_, _]) | (b"NO-EVICT" | b"NO-TOUCH", [_]) => Reply::Simple("OK"),
        (b"INFO", []) | (b"LIST", _) => {
            let address = session.address.map(|address| address.to_string()).unwrap_or_default();
            let protocol = if session.protocol == Protocol::Three { 3 } else { 2 };
            let (id, name) = (session.id, &session.name);
            Reply::bulk(format!("id={id} addr={address} name={name} db=0 resp={protocol}\n"))
        }
        (b"ID" | b"GETNAME" | b"SETNAME" | b"SETINFO" | b"NO-EVICT" | b"NO-TOUCH" | b"INFO", _) => {
            let name = shown(&first).to_ascii_lowercase();
            Reply::Error(format!("ERR wrong number of arguments for 'client|{name}' command"))
        }
        _ => unknown_below("CLIENT", &first),
    }
}

fn about_commands(rest: &[Vec<u8>]) -> Reply {
    let Some((first, names)) = rest.split_first() else {
        return Reply::Array(COMMANDS.iter().map(entry).collect());
    };
    let asked = |names: &[Vec<u8>]| -> Vec<Option<&'static Command>> {
        names.iter().map(|name| known::find(&shown(name).to_ascii_uppercase())).collect()
    };
    let lower = |command: &Command| Reply::bulk(command.name.to_ascii_lowercase());
    match first.to_ascii_uppercase().as_slice() {
        b"COUNT" => Reply::count(COMMANDS.len() as u64),
        b"LIST" => Reply::Array(COMMANDS.iter().map(lower).collect()),
        b"INFO" if names.is_empty() => Reply::Array(COMMANDS.iter().map(entry).collect()),
        b"INFO" => {
            let entries = asked(names).into_iter();
            Reply::Array(entries.map(|command| command.map_or(Reply::Null, entry)).collect())
        }
        b"DOCS" => {
            let wanted: Vec<&Command> = match names {
                [] => COMMANDS.iter().collect(),
                names => asked(names).into_iter().flatten().collect(),
            };
            let doc = |command: &Command| Reply::Map(vec![(Reply::bulk("summary"), Reply::bulk(command.summary))]);
            Reply::Map(wanted.into_iter().map(|command| (lower(command), doc(command))).collect())
        }
        other => unknown_below("COMMAND", other),
    }
}

/// Name, words, flags, and where its keys stand.
fn entry(command: &Command) -> Reply {
    let last = if command.name == "EXISTS" { -1 } else { i64::from(command.is_keyed) };
    let first = i64::from(command.is_keyed);
    Reply::Array(vec![
        Reply::bulk(command.name.to_ascii_lowercase()),
        Reply::Integer(command.arity),
        Reply::Array(vec![Reply::Simple("readonly")]),
        Reply::Integer(first),
        Reply::Integer(last),
        Reply::Integer(first),
    ])
}

fn unknown_below(command: &str, word: &[u8]) -> Reply {
    Reply::Error(format!("ERR unknown subcommand '{}' of {command}", shown(word)))
}
