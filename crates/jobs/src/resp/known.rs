//! Commands by name: those that are answered, and those of Redis that would write, with what to type in their place.

/// A command that is answered.
#[derive(Debug)]
pub struct Command {
    pub name: &'static str,
    /// Words, its name among them; below zero at least so many.
    pub arity: i64,
    /// Its first word is a key.
    pub is_keyed: bool,
    pub summary: &'static str,
}

const fn of(name: &'static str, arity: i64, summary: &'static str) -> Command {
    Command { name, arity, is_keyed: false, summary }
}

const fn keyed(name: &'static str, arity: i64, summary: &'static str) -> Command {
    Command { name, arity, is_keyed: true, summary }
}

pub const COMMANDS: [Command; 35] = [
    of("AUTH", -2, "As with a Redis that asks for no password"),
    of("CLIENT", -2, "Name of this connection, its id, and what is known of it"),
    of("COMMAND", -1, "These commands"),
    of("DBSIZE", 1, "How many keys there are"),
    of("ECHO", 2, "The word again"),
    of("HELLO", -1, "Protocol 2 or 3"),
    of("INFO", -1, "Server, memory and keyspace"),
    of("PING", -1, "PONG"),
    of("QUIT", -1, "Ends the connection"),
    of("RESET", 1, "The connection as it began"),
    of("SELECT", 2, "There is database 0 alone"),
    of("KEYS", 2, "Keys of a pattern"),
    of("SCAN", -2, "Keys of a pattern, some at a time"),
    keyed("EXISTS", -2, "How many of these keys are there"),
    keyed("TYPE", 2, "list, zset, hash, string or none"),
    keyed("TTL", 2, "-1: no key ends by itself"),
    keyed("PTTL", 2, "-1: no key ends by itself"),
    keyed("GET", 2, "A counter"),
    keyed("STRLEN", 2, "Length of a counter"),
    keyed("LLEN", 2, "How many jobs wait or run"),
    keyed("LRANGE", 4, "Ids of jobs that wait or run, the newest first"),
    keyed("LINDEX", 3, "One of them"),
    keyed("ZCARD", 2, "How many jobs are put off or have ended"),
    keyed("ZCOUNT", 4, "How many of them by score"),
    keyed("ZRANGE", -4, "Their ids, the first that is due or ended first"),
    keyed("ZREVRANGE", -4, "Their ids, the last first"),
    keyed("ZSCORE", 3, "When one is due or ended"),
    keyed("HGET", 3, "A field of a job or of a queue's meta"),
    keyed("HMGET", -3, "Some fields"),
    keyed("HGETALL", 2, "All fields"),
    keyed("HKEYS", 2, "Names of all fields"),
    keyed("HVALS", 2, "Values of all fields"),
    keyed("HLEN", 2, "How many fields"),
    keyed("HEXISTS", 3, "Whether there is a field"),
    keyed("HSTRLEN", 3, "Length of a field"),
];

/// By its name in capitals.
pub fn find(name: &str) -> Option<&'static Command> {
    COMMANDS.iter().find(|command| command.name == name)
}

impl Command {
    /// Whether it takes so many words.
    pub fn takes(&self, words: usize) -> bool {
        let words = i64::try_from(words).unwrap_or(i64::MAX);
        if self.arity < 0 { words >= -self.arity } else { words == self.arity }
    }
}

const ADD: &str = "mainstay jobs add QUEUE --payload JSON";
const REMOVE: &str = "mainstay jobs remove ID";
const EMPTY: &str = "mainstay jobs drain QUEUE, or mainstay jobs clean QUEUE --state completed --older 1d";
const TAKE: &str = "POST $MAINSTAY_URL/v1/queues/QUEUE/claim takes jobs";
const SCRIPT: &str = "no scripts run here, and BullMQ's own clients need them; mainstay jobs add QUEUE adds a job";
const ANY: &str = "mainstay jobs --help lists what changes jobs";

/// Commands of Redis that write, by what is typed in their place.
const WRITES: [(&str, &[&str]); 6] = [
    (ADD, &["LPUSH", "RPUSH", "LPUSHX", "RPUSHX", "LINSERT", "LSET", "XADD", "ZADD", "ZINCRBY", "SADD", "SPUBLISH"]),
    (REMOVE, &["DEL", "UNLINK", "LREM", "ZREM", "HDEL", "GETDEL", "XDEL", "SREM"]),
    (
        EMPTY,
        &["FLUSHALL", "FLUSHDB", "LTRIM", "XTRIM", "ZREMRANGEBYLEX", "ZREMRANGEBYRANK", "ZREMRANGEBYSCORE", "SWAPDB"],
    ),
    (
        TAKE,
        &[
            "LPOP",
            "RPOP",
            "BLPOP",
            "BRPOP",
            "LMOVE",
            "BLMOVE",
            "LMPOP",
            "BLMPOP",
            "RPOPLPUSH",
            "BRPOPLPUSH",
            "ZPOPMIN",
            "ZPOPMAX",
            "ZMPOP",
            "BZPOPMIN",
            "BZPOPMAX",
            "BZMPOP",
            "SPOP",
            "XREADGROUP",
            "XACK",
            "XCLAIM",
            "XAUTOCLAIM",
            "XGROUP",
        ],
    ),
    (SCRIPT, &["EVAL", "EVALSHA", "EVAL_RO", "EVALSHA_RO", "SCRIPT", "FCALL", "FCALL_RO", "FUNCTION"]),
    (
        ANY,
        &[
            "APPEND",
            "BITFIELD",
            "BITOP",
            "COPY",
            "DECR",
            "DECRBY",
            "EXPIRE",
            "EXPIREAT",
            "GEOADD",
            "GEOSEARCHSTORE",
            "GETEX",
            "GETSET",
            "HEXPIRE",
            "HINCRBY",
            "HINCRBYFLOAT",
            "HMSET",
            "HPEXPIRE",
            "HPERSIST",
            "HSET",
            "HSETEX",
            "HSETNX",
            "INCR",
            "INCRBY",
            "INCRBYFLOAT",
            "MIGRATE",
            "MOVE",
            "MSET",
            "MSETNX",
            "PERSIST",
            "PEXPIRE",
            "PEXPIREAT",
            "PFADD",
            "PFMERGE",
            "PSETEX",
            "PUBLISH",
            "RENAME",
            "RENAMENX",
            "RESTORE",
            "SDIFFSTORE",
            "SET",
            "SETBIT",
            "SETEX",
            "SETNX",
            "SETRANGE",
            "SINTERSTORE",
            "SMOVE",
            "SORT",
            "SUNIONSTORE",
            "XSETID",
            "ZDIFFSTORE",
            "ZINTERSTORE",
            "ZRANGESTORE",
            "ZUNIONSTORE",
        ],
    ),
];

/// What to do in place of a command that writes, by its name in capitals; `None` where it does not.
pub fn in_place_of(name: &str) -> Option<&'static str> {
    WRITES.iter().find(|(_, names)| names.contains(&name)).map(|(hint, _)| *hint)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn no_command_stands_twice_and_all_are_in_capitals() {
        let answered = COMMANDS.iter().map(|command| command.name);
        let all: Vec<&str> = answered.chain(WRITES.iter().flat_map(|(_, names)| names.iter().copied())).collect();
        assert_eq!(all.iter().collect::<BTreeSet<_>>().len(), all.len());
        assert!(all.iter().all(|name| name.to_ascii_uppercase() == **name));
    }
}
