//! A Lua script of a block, known to the server by its SHA-1.

/// Made once and kept: `static LIMIT: LazyLock<Script> = …`.
#[derive(Clone, Debug)]
pub struct Script {
    code: &'static str,
    sha: String,
}

impl Script {
    pub fn new(code: &'static str) -> Script {
        let sha = ::redis::Script::new(code).get_hash().to_owned();
        Script { code, sha }
    }

    pub(super) fn by_name<K: ::redis::ToRedisArgs, A: ::redis::ToRedisArgs>(
        &self,
        keys: &[K],
        args: &[A],
    ) -> ::redis::Cmd {
        command("EVALSHA", &self.sha, keys, args)
    }

    /// With its code, after which the server knows it.
    pub(super) fn whole<K: ::redis::ToRedisArgs, A: ::redis::ToRedisArgs>(
        &self,
        keys: &[K],
        args: &[A],
    ) -> ::redis::Cmd {
        command("EVAL", self.code, keys, args)
    }
}

fn command<K: ::redis::ToRedisArgs, A: ::redis::ToRedisArgs>(
    name: &str,
    script: &str,
    keys: &[K],
    args: &[A],
) -> ::redis::Cmd {
    let mut command = ::redis::cmd(name);
    command.arg(script).arg(keys.len());
    command.arg(keys).arg(args);
    command
}
