//! The parts of a request's work, and to which of them a function belongs: by its source file where it has one.

use super::callgrind::{Counts, Function};
use std::collections::{BTreeMap, HashMap};

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Part {
    Heads,
    Gates,
    Upstream,
    Record,
    Body,
    Cache,
    Http2,
    Tls,
    Crypto,
    Runtime,
    Copies,
    Memory,
    Stubs,
    Standard,
    Nginx,
    Rest,
}

impl Part {
    pub const ALL: [Part; 16] = [
        Part::Heads,
        Part::Gates,
        Part::Upstream,
        Part::Record,
        Part::Body,
        Part::Cache,
        Part::Http2,
        Part::Tls,
        Part::Crypto,
        Part::Runtime,
        Part::Copies,
        Part::Memory,
        Part::Stubs,
        Part::Standard,
        Part::Nginx,
        Part::Rest,
    ];

    pub fn words(self) -> &'static str {
        match self {
            Part::Heads => "heads parsed and written, their fields",
            Part::Gates => "routing and gates, the answer's headers",
            Part::Upstream => "the upstream chosen, its head made",
            Part::Record => "ids, record, log, metrics",
            Part::Body => "connection, body, buffers",
            Part::Cache => "cache, files",
            Part::Http2 => "HTTP/2 (hyper, h2)",
            Part::Tls => "TLS (rustls; libssl)",
            Part::Crypto => "cryptography (aws-lc; libcrypto)",
            Part::Runtime => "tokio, wake-ups, deadlines",
            Part::Copies => "copying and comparing memory (libc)",
            Part::Memory => "allocating (libc)",
            Part::Stubs => "entering system calls, locks (libc)",
            Part::Standard => "Rust's standard library, not inlined",
            Part::Nginx => "nginx's own code (it has no symbols)",
            Part::Rest => "the rest",
        }
    }
}

/// By what a source file's path contains, the first that fits. A name of a folder stands before those of its files.
const FILES: [(&str, Part); 60] = [
    ("/httparse-", Part::Heads),
    ("edge/src/http1/head", Part::Heads),
    ("edge/src/http1/framing", Part::Heads),
    ("edge/src/fields", Part::Heads),
    ("edge/src/message", Part::Heads),
    ("/http-1", Part::Heads),
    ("edge/src/http1/", Part::Body),
    ("edge/src/body", Part::Body),
    ("/bytes-", Part::Body),
    ("edge/src/request", Part::Gates),
    ("edge/src/path", Part::Gates),
    ("edge/src/snapshot", Part::Gates),
    ("edge/src/options", Part::Gates),
    ("edge/src/address", Part::Gates),
    ("edge/src/https", Part::Gates),
    ("edge/src/respond", Part::Gates),
    ("edge/src/refusal", Part::Gates),
    ("crates/limits/", Part::Gates),
    ("/arc-swap-", Part::Gates),
    ("edge/src/proxy_protocol", Part::Body),
    ("edge/src/proxy", Part::Upstream),
    ("edge/src/upstream", Part::Upstream),
    ("edge/src/pool", Part::Upstream),
    ("edge/src/balance", Part::Upstream),
    ("edge/src/retry", Part::Upstream),
    ("edge/src/members", Part::Upstream),
    ("edge/src/headers", Part::Upstream),
    ("edge/src/forwarded", Part::Upstream),
    ("edge/src/affinity", Part::Upstream),
    ("edge/src/sticky", Part::Upstream),
    ("crates/telemetry/", Part::Record),
    ("edge/src/core", Part::Record),
    ("edge/src/traces", Part::Record),
    ("/rtrb-", Part::Record),
    ("/jiff-", Part::Record),
    ("edge/src/cache", Part::Cache),
    ("edge/src/files", Part::Cache),
    ("edge/src/http2", Part::Http2),
    ("edge/src/frames", Part::Http2),
    ("edge/src/socket", Part::Http2),
    ("/hyper-", Part::Http2),
    ("/h2-", Part::Http2),
    ("edge/src/tls", Part::Tls),
    ("/tokio-rustls-", Part::Tls),
    ("/rustls-", Part::Tls),
    ("/zeroize-", Part::Tls),
    ("/untrusted-", Part::Tls),
    ("/aws-lc-rs-", Part::Crypto),
    ("/aws-lc-sys-", Part::Crypto),
    ("aws-lc/", Part::Crypto),
    ("edge/src/worker", Part::Runtime),
    ("edge/src/acceptor", Part::Runtime),
    ("edge/src/watch", Part::Runtime),
    ("crates/runtime/", Part::Runtime),
    ("/tokio-", Part::Runtime),
    ("/mio-", Part::Runtime),
    ("/futures-", Part::Runtime),
    ("/slab-", Part::Runtime),
    ("/parking_lot", Part::Runtime),
    ("crates/", Part::Rest),
];

/// The same by a function's name, where its first line was inlined from the standard library and so is no word of its
/// own: what stands for the crate's folder, before the module.
const CRATES: [(&str, &str); 9] = [
    ("mainstay_edge::", "edge/src/"),
    ("mainstay_telemetry::", "crates/telemetry/"),
    ("mainstay_limits::", "crates/limits/"),
    ("mainstay_runtime::", "crates/runtime/"),
    ("httparse::", "/httparse-"),
    ("rustls::", "/rustls-"),
    ("tokio_rustls::", "/tokio-rustls-"),
    ("tokio::", "/tokio-"),
    ("aws_lc_rs::", "/aws-lc-rs-"),
];

/// What the C library allocates with.
const ALLOCATORS: [&str; 7] =
    ["malloc", "calloc", "realloc", "posix_memalign", "mid_memalign", "memalign", "aligned_alloc"];
/// Callers of an allocator that allocate for a caller of theirs, at most so many deep.
const ALLOCATOR_DEPTH_MAX: usize = 8;

/// Instructions of each part. The entropy a TLS start gathers takes as many as the machine's load makes it need: out.
pub fn instructions(counts: &Counts) -> BTreeMap<Part, f64> {
    let mut parts = BTreeMap::new();
    for (place, count) in &counts.instructions {
        if !place.function.name.contains("jent_") {
            *parts.entry(part(&place.function, &place.file)).or_default() += *count as f64;
        }
    }
    parts
}

/// Calls of an allocator by the part that wanted the memory: what only passes a wish on is climbed over.
pub fn allocations(counts: &Counts) -> BTreeMap<Part, f64> {
    let mut callers: HashMap<&Function, Vec<(&Function, f64)>> = HashMap::new();
    for ((caller, callee), count) in counts.calls.iter().filter(|(_, count)| **count > 0) {
        callers.entry(callee).or_default().push((caller, *count as f64));
    }
    let mut wanted: HashMap<&Function, f64> = HashMap::new();
    for ((caller, callee), count) in &counts.calls {
        if is_allocator(callee) && !is_allocator(caller) {
            *wanted.entry(caller).or_default() += *count as f64;
        }
    }
    for _ in 0..ALLOCATOR_DEPTH_MAX {
        let mut higher: HashMap<&Function, f64> = HashMap::new();
        for (function, count) in wanted {
            match callers.get(function).filter(|_| passes_on(function)) {
                Some(of) => {
                    let all: f64 = of.iter().map(|(_, calls)| calls).sum();
                    for (caller, calls) in of {
                        *higher.entry(caller).or_default() += count * calls / all;
                    }
                }
                None => *higher.entry(function).or_default() += count,
            }
        }
        wanted = higher;
    }
    let mut parts = BTreeMap::new();
    for (function, count) in wanted {
        *parts.entry(part(function, &function.file)).or_default() += count;
    }
    parts
}

fn is_allocator(function: &Function) -> bool {
    // Where one calls itself callgrind adds which time it is: `realloc'2`.
    let name = function.name.split('\'').next().unwrap_or_default();
    ALLOCATORS.contains(&name.trim_start_matches('_'))
}

fn passes_on(function: &Function) -> bool {
    is_standard(&function.file) && path_of(&function.name).is_none()
        || is_libc(&function.object)
        || function.name.contains("__rust")
        || function.name.contains("__rdl_")
}

/// `edge/src/fields/Name/of` of `mainstay_edge::fields::Name::of`.
fn path_of(function: &str) -> Option<String> {
    let name = function.trim_start_matches(['<', '&']);
    let found = CRATES.iter().find_map(|(word, path)| Some((path, name.strip_prefix(word)?)));
    found.map(|(path, module)| format!("{path}{}", module.replace("::", "/")))
}

fn is_standard(file: &str) -> bool {
    file.contains("/rustc/") || file.contains("/library/")
}

fn is_libc(object: &str) -> bool {
    let object = object.rsplit('/').next().unwrap_or_default();
    ["libc.", "libc-", "ld-"].iter().any(|begin| object.starts_with(begin))
}

fn part(function: &Function, file: &str) -> Part {
    if is_libc(&function.object) {
        return libc_part(&function.name);
    }
    let object = function.object.rsplit('/').next().unwrap_or_default();
    match object {
        "nginx" => return Part::Nginx,
        _ if object.starts_with("libssl") => return Part::Tls,
        _ if object.starts_with("libcrypto") => return Part::Crypto,
        _ if object.starts_with("lib") || object.starts_with("vgpreload") => return Part::Rest,
        _ => {}
    }
    // Inlined from the standard library: the work of the function it is in.
    let of_file = |file: &str| FILES.iter().find(|(word, _)| file.contains(word)).map(|(_, part)| *part);
    let found = if is_standard(file) { None } else { of_file(file) };
    let of_name = || of_file(&path_of(&function.name)?);
    match found.or_else(|| of_file(&function.file)).or_else(of_name) {
        Some(part) => part,
        None if is_standard(&function.file) => Part::Standard,
        // Assembly is aws-lc's; nothing else has no source.
        None if function.file == "???" || function.name.starts_with("aws_lc") => Part::Crypto,
        None => Part::Rest,
    }
}

fn libc_part(name: &str) -> Part {
    let name = name.trim_start_matches('_');
    let begins = |words: &[&str]| words.iter().any(|word| name.starts_with(word));
    match () {
        () if begins(&["mem", "str", "bcmp"]) && name != "memalign" => Part::Copies,
        () if begins(&["malloc", "calloc", "realloc", "free", "cfree", "int_", "posix_memalign", "memalign"])
            || begins(&["unlink_chunk", "sysmalloc", "systrim", "tcache", "arena_"]) =>
        {
            Part::Memory
        }
        () => Part::Stubs,
    }
}

#[cfg(test)]
mod tests {
    use super::super::callgrind::Place;
    use super::*;

    fn function(name: &str, object: &str, file: &str) -> Function {
        Function { name: name.to_owned(), object: object.to_owned(), file: file.to_owned() }
    }

    #[test]
    fn a_function_belongs_to_the_part_its_file_says() {
        const TOKIO: &str = "/x/registry/src/i/tokio-1.54.1/src/io/mod.rs";
        const CORE: &str = "/rustc/abc/library/core/src/slice/mod.rs";
        for (name, object, home, file, expected) in [
            ("read", "/x/mainstay", "crates/edge/src/http1/head.rs", CORE, Part::Heads),
            ("read", "/x/mainstay", "crates/edge/src/http1/client.rs", TOKIO, Part::Runtime),
            ("accept", "/x/mainstay", "/x/tokio-rustls-0.26.6/src/lib.rs", CORE, Part::Tls),
            ("grow", "/x/mainstay", CORE, CORE, Part::Standard),
            ("mainstay_edge::fields::Name::of", "/x/mainstay", CORE, CORE, Part::Heads),
            ("x25519", "/x/mainstay", "???", "???", Part::Crypto),
            ("ngx_http_parse", "/usr/sbin/nginx", "???", "???", Part::Nginx),
            ("__memcpy_avx_unaligned", "/lib/libc.so.6", "???", "???", Part::Copies),
            ("_int_free", "/lib/libc.so.6", "???", "???", Part::Memory),
            ("epoll_wait", "/lib/libc.so.6", "???", "???", Part::Stubs),
            ("SSL_read", "/lib/libssl.so.3", "???", "???", Part::Tls),
        ] {
            assert_eq!(part(&function(name, object, home), file), expected, "{name} {home} {file}");
        }
    }

    #[test]
    fn memory_is_whose_who_wanted_it_and_entropy_nobodys() {
        let malloc = function("malloc", "libc.so.6", "???");
        let alloc = function("__rust_alloc", "mainstay", "???");
        let head = function("parse", "mainstay", "crates/edge/src/http1/head.rs");
        let pool = function("take", "mainstay", "crates/edge/src/pool.rs");
        let mut counts = Counts::default();
        counts.calls.insert((alloc.clone(), malloc), 4);
        counts.calls.insert((head, alloc.clone()), 3);
        counts.calls.insert((pool, alloc), 1);
        let parts = allocations(&counts);
        assert_eq!((parts[&Part::Heads], parts[&Part::Upstream]), (3.0, 1.0));
        let place = |name: &str| Place { function: function(name, "mainstay", "???"), ..Place::default() };
        counts.instructions.insert(place("aws_lc_jent_measure"), 1_000);
        counts.instructions.insert(place("sha"), 10);
        assert_eq!(instructions(&counts).values().sum::<f64>(), 10.0);
    }
}
