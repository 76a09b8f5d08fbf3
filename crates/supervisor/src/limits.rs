//! What we hold in memory stays ours: no debugger and no core file of a process that knows every secret. And more open
//! files than a shell gives.
//!
//! Must never reach a child: each gets the limits the supervisor itself was given, and exec makes it dumpable again.

use crate::Error;
use nix::sys::resource::{Resource, getrlimit, rlim_t, setrlimit};
use serde::{Deserialize, Serialize};

/// Three descriptors an instance, `INSTANCES_MAX`, and room.
const OPEN_FILES_WANTED: rlim_t = 4096;

/// No process of the same user may read our memory, our environment or our descriptors, or attach to us; the kernel
/// writes no core file. (What `/proc` shows of us to everybody, as `stat` and `status`, stays readable.)
pub fn hide_memory() -> Result<(), Error> {
    nix::sys::prctl::set_dumpable(false)
        .map_err(|errno| Error::io("cannot hide the memory of this process")(errno.into()))
}

/// Soft and hard limits this process was started with. `None`: unknown, and left alone.
#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize)]
pub struct Limits {
    open_files: Option<(rlim_t, rlim_t)>,
    core: Option<(rlim_t, rlim_t)>,
}

impl Limits {
    /// Changes our own where that is allowed; remembers those to give back.
    pub fn set_ours() -> Limits {
        let open_files = getrlimit(Resource::RLIMIT_NOFILE).ok().filter(|(soft, hard)| {
            *soft >= OPEN_FILES_WANTED
                || setrlimit(Resource::RLIMIT_NOFILE, OPEN_FILES_WANTED.min(*hard), *hard).is_ok()
        });
        let core = getrlimit(Resource::RLIMIT_CORE).ok();
        let core = core.filter(|(_, hard)| setrlimit(Resource::RLIMIT_CORE, 0, *hard).is_ok());
        Limits { open_files, core }
    }

    /// Back to what we were given: in a child before exec, where nothing may be allocated.
    pub(crate) fn give_back(&self) -> nix::Result<()> {
        if let Some((soft, hard)) = self.open_files {
            setrlimit(Resource::RLIMIT_NOFILE, soft, hard)?;
        }
        if let Some((soft, hard)) = self.core {
            setrlimit(Resource::RLIMIT_CORE, soft, hard)?;
        }
        Ok(())
    }
}
