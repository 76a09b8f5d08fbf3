//! As much of DNS as it takes to ask for an address's names and a name's addresses (RFC 1035, RFC 3596): one question,
//! one datagram. What does not fit into it, or comes late, or is no answer to the question, is no answer.
//!
//! The machine's own resolver reads files and blocks; this waits on a socket and for a bounded time.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;
use tokio::net::UdpSocket;

/// For one server to answer.
const ANSWER_WAIT: Duration = Duration::from_secs(2);
/// Servers that are asked in turn.
const SERVERS_MAX: usize = 3;
/// Of plain UDP (RFC 1035 §4.2.1) and of what servers send all the same.
const DATAGRAM_BYTES_MAX: usize = 4096;
/// Records looked at.
const RECORDS_MAX: usize = 64;
/// Jumps within one name: a name that runs in a circle ends here.
const JUMPS_MAX: usize = 16;
const NAME_BYTES_MAX: usize = 255;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u16)]
pub enum Type {
    A = 1,
    Ptr = 12,
    Aaaa = 28,
}

/// The name servers of `/etc/resolv.conf`.
pub fn of_this_machine() -> Vec<SocketAddr> {
    read_servers(&std::fs::read_to_string("/etc/resolv.conf").unwrap_or_default())
}

fn read_servers(text: &str) -> Vec<SocketAddr> {
    let server = |line: &str| {
        let address = line.trim().strip_prefix("nameserver")?.trim();
        let address: IpAddr = address.split('%').next()?.parse().ok()?;
        Some(SocketAddr::from((address, 53)))
    };
    text.lines().filter_map(server).take(SERVERS_MAX).collect()
}

pub async fn names_of(servers: &[SocketAddr], address: IpAddr) -> Vec<String> {
    let name = reverse(address);
    ask(servers, &name, Type::Ptr).await.into_iter().filter_map(Data::name).collect()
}

pub async fn addresses_of(servers: &[SocketAddr], name: &str, v4: bool) -> Vec<IpAddr> {
    let kind = if v4 { Type::A } else { Type::Aaaa };
    ask(servers, name, kind).await.into_iter().filter_map(Data::address).collect()
}

/// What an answer holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Data {
    Address(IpAddr),
    Name(String),
}

impl Data {
    fn name(self) -> Option<String> {
        if let Data::Name(name) = self { Some(name) } else { None }
    }

    fn address(self) -> Option<IpAddr> {
        if let Data::Address(address) = self { Some(address) } else { None }
    }
}

/// `4.3.2.1.in-addr.arpa`
fn reverse(address: IpAddr) -> String {
    match address {
        IpAddr::V4(v4) => {
            let [a, b, c, d] = v4.octets();
            format!("{d}.{c}.{b}.{a}.in-addr.arpa")
        }
        IpAddr::V6(v6) => {
            let nibbles = v6.octets().into_iter().rev().flat_map(|b| [b & 15, b >> 4]);
            let digits: Vec<String> = nibbles.map(|nibble| format!("{nibble:x}")).collect();
            format!("{}.ip6.arpa", digits.join("."))
        }
    }
}

async fn ask(servers: &[SocketAddr], name: &str, kind: Type) -> Vec<Data> {
    let mut id = [0; 2];
    if getrandom::fill(&mut id).is_err() {
        return Vec::new();
    }
    let id = u16::from_be_bytes(id);
    let Some(question) = question(id, name, kind) else { return Vec::new() };
    for server in servers.iter().take(SERVERS_MAX) {
        let exchange = exchange(*server, &question, id, kind);
        if let Ok(Some(answers)) = tokio::time::timeout(ANSWER_WAIT, exchange).await {
            return answers;
        }
    }
    Vec::new()
}

/// From a port of its own, so that nobody who does not see the question can guess the answer.
async fn exchange(server: SocketAddr, question: &[u8], id: u16, kind: Type) -> Option<Vec<Data>> {
    let any: IpAddr = if server.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
    let socket = UdpSocket::bind((any, 0)).await.ok()?;
    socket.connect(server).await.ok()?;
    socket.send(question).await.ok()?;
    let mut answer = vec![0; DATAGRAM_BYTES_MAX];
    loop {
        let size = socket.recv(&mut answer).await.ok()?;
        // What answers another question is not listened to; the true answer may still come.
        if let Some(answers) = answers(&answer[..size], question, id, kind) {
            return Some(answers);
        }
    }
}

fn question(id: u16, name: &str, kind: Type) -> Option<Vec<u8>> {
    let mut out = Vec::with_capacity(NAME_BYTES_MAX + 18);
    out.extend_from_slice(&id.to_be_bytes());
    // Recursion desired, one question.
    out.extend_from_slice(&[1, 0, 0, 1, 0, 0, 0, 0, 0, 0]);
    for label in name.trim_end_matches('.').split('.') {
        let length = u8::try_from(label.len()).ok().filter(|n| (1..64).contains(n))?;
        out.push(length);
        out.extend_from_slice(label.as_bytes());
    }
    out.push(0);
    out.extend_from_slice(&(kind as u16).to_be_bytes());
    out.extend_from_slice(&[0, 1]);
    (out.len() <= NAME_BYTES_MAX + 16).then_some(out)
}

/// `None`: it does not answer this question. An error, or a name that does not exist, is an empty answer.
pub fn answers(message: &[u8], question: &[u8], id: u16, kind: Type) -> Option<Vec<Data>> {
    let head = message.get(..12)?;
    let number = |at: usize| Some(u16::from_be_bytes([*message.get(at)?, *message.get(at + 1)?]));
    let is_answer = head[2] & 0x80 != 0;
    let asked = message.get(12..question.len())?;
    if number(0)? != id || !is_answer || !asked.eq_ignore_ascii_case(&question[12..]) || number(4)? != 1 {
        return None;
    }
    let (failed, cut) = (head[3] & 15 != 0, head[2] & 2 != 0);
    if failed || cut {
        return Some(Vec::new());
    }
    let (mut at, mut found) = (question.len(), Vec::new());
    for _ in 0..usize::from(number(6)?).min(RECORDS_MAX) {
        let Some(record) = record(message, at, kind) else { break };
        at = record.1;
        found.extend(record.0);
    }
    Some(found)
}

/// A record of this type, and where the next one begins.
fn record(message: &[u8], at: usize, kind: Type) -> Option<(Option<Data>, usize)> {
    let (_, at) = name(message, at)?;
    let number = |at: usize| Some(u16::from_be_bytes([*message.get(at)?, *message.get(at + 1)?]));
    let (found, class) = (number(at)?, number(at + 2)?);
    let begin = at + 10;
    let end = begin + usize::from(number(at + 8)?);
    let data = message.get(begin..end)?;
    let wanted = class == 1 && found == kind as u16;
    let read = match kind {
        _ if !wanted => None,
        Type::A => <[u8; 4]>::try_from(data).ok().map(|bytes| Data::Address(IpAddr::from(bytes))),
        Type::Aaaa => <[u8; 16]>::try_from(data).ok().map(|bytes| Data::Address(IpAddr::from(bytes))),
        Type::Ptr => name(message, begin).map(|(name, _)| Data::Name(name)),
    };
    Some((read, end))
}

/// A name, and where what follows it begins. Only names of hosts: others prove nothing.
fn name(message: &[u8], mut at: usize) -> Option<(String, usize)> {
    let (mut text, mut after, mut jumps) = (String::new(), None, 0);
    loop {
        let length = usize::from(*message.get(at)?);
        match length {
            0 => return Some((text, after.unwrap_or(at + 1))),
            1..=63 => {
                let label = message.get(at + 1..at + 1 + length)?;
                if !text.is_empty() {
                    text.push('.');
                }
                // A dot within a label would be another name.
                let plain = |b: &u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_');
                text.extend(label.iter().map(|b| if plain(b) { char::from(*b) } else { '?' }));
                at += 1 + length;
            }
            192.. => {
                after = after.or(Some(at + 2));
                at = (length & 63) << 8 | usize::from(*message.get(at + 1)?);
                jumps += 1;
            }
            _ => return None,
        }
        if jumps > JUMPS_MAX || text.len() > NAME_BYTES_MAX {
            return None;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// An answer to this question with these records, each name as a jump to the question.
    fn answer(question: &[u8], records: &[(u16, &[u8])]) -> Vec<u8> {
        let mut out = question.to_vec();
        out[2] |= 0x80;
        out[7] = records.len() as u8;
        for (kind, data) in records {
            out.extend_from_slice(&[0xc0, 12]);
            out.extend_from_slice(&kind.to_be_bytes());
            out.extend_from_slice(&[0, 1, 0, 0, 0, 60]);
            out.extend_from_slice(&(data.len() as u16).to_be_bytes());
            out.extend_from_slice(data);
        }
        out
    }

    #[test]
    fn an_address_has_names_and_a_name_addresses() {
        assert_eq!(reverse([66, 249, 66, 1].into()), "1.66.249.66.in-addr.arpa");
        let v6 = reverse("2001:db8::1".parse().expect("address"));
        assert!(v6.starts_with("1.0.0.0.") && v6.ends_with("8.b.d.0.1.0.0.2.ip6.arpa"), "{v6}");
        let asked = question(7, &reverse([66, 249, 66, 1].into()), Type::Ptr).expect("question");
        let name = b"\x05crawl\x09googlebot\x03com\x00";
        let message = answer(&asked, &[(5, b"\x01x\x00"), (12, name)]);
        let found = answers(&message, &asked, 7, Type::Ptr).expect("answer");
        assert_eq!(found, [Data::Name("crawl.googlebot.com".to_owned())]);
        let asked = question(7, "crawl.googlebot.com", Type::A).expect("question");
        let message = answer(&asked, &[(1, &[66, 249, 66, 1]), (28, &[0; 16])]);
        let found = answers(&message, &asked, 7, Type::A).expect("answer");
        assert_eq!(found, [Data::Address([66, 249, 66, 1].into())]);
    }

    #[test]
    fn what_answers_another_question_is_no_answer() {
        let asked = question(7, "a.example", Type::A).expect("question");
        let right = answer(&asked, &[(1, &[1, 2, 3, 4])]);
        assert!(answers(&right, &asked, 7, Type::A).is_some());
        assert!(answers(&right, &asked, 8, Type::A).is_none());
        assert!(answers(&asked, &asked, 7, Type::A).is_none(), "a question is no answer");
        let other = question(7, "b.example", Type::A).expect("question");
        assert!(answers(&answer(&other, &[(1, &[1, 2, 3, 4])]), &asked, 7, Type::A).is_none());
        let mut missing = right.clone();
        missing[3] |= 3;
        assert_eq!(answers(&missing, &asked, 7, Type::A), Some(Vec::new()));
        assert!(question(1, &"a".repeat(64), Type::A).is_none() && question(1, "a..b", Type::A).is_none());
        assert!(question(1, &"abc.".repeat(90), Type::A).is_none());
        // A dot in a label must not make a name of it that somebody else owns.
        let asked = question(7, "1.2.3.4.in-addr.arpa", Type::Ptr).expect("question");
        let found = answers(&answer(&asked, &[(12, b"\x0fx.googlebot.com\x00")]), &asked, 7, Type::Ptr);
        assert_eq!(found, Some(vec![Data::Name("x?googlebot?com".to_owned())]));
    }

    #[test]
    fn servers_are_read_as_the_machine_reads_them() {
        let text = "# x\nsearch a.example\nnameserver 10.0.0.2\n nameserver fe80::1%eth0\nnameserver nobody\n";
        assert_eq!(read_servers(text), ["10.0.0.2:53".parse().expect("v4"), "[fe80::1]:53".parse().expect("v6")]);
    }

    proptest! {
        /// Whatever a server sends, it is read or not, and in a bounded time.
        #[test]
        fn any_message_is_read(bytes in prop::collection::vec(any::<u8>(), 0..300), keep in 0usize..60) {
            let asked = question(7, "a.example", Type::Ptr).expect("question");
            let mut message = answer(&asked, &[(12, b"\xc0\x0c")]);
            message.truncate(keep.min(message.len()));
            message.extend(&bytes);
            let _ = answers(&message, &asked, 7, Type::Ptr);
            let _ = answers(&bytes, &asked, 7, Type::Ptr);
        }
    }
}
