//! What URLs of Postgres mean.

use super::*;
use mainstay_config::{Inputs, Text};

fn read(file: &str, environment: &[(&str, &str)]) -> (Option<Options>, Vec<String>) {
    let environment = environment.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    let file = Some(Text { path: "conf/mainstay.toml".into(), text: file.to_owned() });
    let reader = Reader::new(&Inputs { environment, file, ..Inputs::default() });
    let _ = reader.table("store");
    let options = Options::read(&reader, true);
    let report = reader.finish();
    let said = report.faults.iter().chain(&report.warnings).map(|fault| fault.what.clone()).collect();
    (options, said)
}

fn of(url: &str) -> Options {
    let (options, said) = read("", &[("DATABASE_URL", url)]);
    options.unwrap_or_else(|| panic!("{url}: {said:?}"))
}

#[test]
fn what_libpq_and_prisma_write_is_understood() {
    let options =
        of("postgres://bob:p%40ss@db:5433/app?schema=public&connection_limit=5&pool_timeout=20&connect_timeout=3");
    assert_eq!(options.hosts, [Host::Tcp("db".to_owned(), 5433)]);
    assert_eq!((options.user.as_str(), options.database.as_str()), ("bob", "app"));
    assert_eq!(options.password, Some(Secret("p@ss".to_owned())));
    assert_eq!((options.pool, options.wait), (5, Duration::from_secs(20)));
    assert_eq!((options.connect, options.idle), (Duration::from_secs(3), Duration::from_secs(30)));
    assert_eq!((options.statement, options.tls.mode), (Duration::from_secs(30), SslMode::Prefer));
    assert!(of("postgres://db/x?pgbouncer=true").pgbouncer);
    assert_eq!(of("postgres:///x?host=/tmp").hosts, [Host::Unix("/tmp".into(), 5432)]);
    let several = of("postgres://a:1,b:2/x");
    assert!(several.hosts.len() == 2 && several.writable_only && !options.writable_only);
    let tcp = |host: &str, port| Host::Tcp(host.to_owned(), port);
    assert_eq!(of("postgres:///x?host=a,b&port=1,2").hosts, [tcp("a", 1), tcp("b", 2)]);
    assert_eq!(of("postgres:///x?host=a,b&port=7").hosts, [tcp("a", 7), tcp("b", 7)]);
    assert!(of("postgres://db/x?target_session_attrs=read-write").writable_only);
    let neon = of("postgres://db/x?sslmode=require&channel_binding=require&options=endpoint%3Dcool");
    assert_eq!((neon.bound, neon.server_options.as_deref()), (true, Some("endpoint=cool")));
    let (options, _) = read("", &[("DATABASE_URL", "postgres://db/x"), ("PGPASSWORD", "p1")]);
    assert_eq!(options.expect("options").password, Some(Secret("p1".to_owned())));
}

#[test]
fn certificates_are_taken_as_libpq_or_as_prisma_means_them() {
    let libpq = of("postgres://db/x?sslmode=verify-full&sslcert=c.pem&sslkey=k.pem&sslrootcert=r.pem").tls;
    assert_eq!((libpq.mode, libpq.root), (SslMode::VerifyFull, Some("r.pem".into())));
    assert_eq!(libpq.client, Some(("c.pem".into(), "k.pem".into())));
    let prisma = of("postgres://db/x?sslmode=require&sslcert=r.pem&sslaccept=strict").tls;
    assert_eq!((prisma.mode, prisma.root, prisma.client), (SslMode::VerifyFull, Some("r.pem".into()), None));
    assert_eq!(of("postgres://db/x?sslmode=require").tls.mode, SslMode::Require);
    assert_eq!(of("postgres://db/x?sslmode=require&sslrootcert=r.pem").tls.mode, SslMode::VerifyCa);
    let system = of("postgres://db/x?sslrootcert=system").tls;
    assert_eq!((system.mode, system.root), (SslMode::VerifyFull, None));
    assert_eq!(of("postgres://db/x?ssl=true").tls.mode, SslMode::Require);
    let (options, _) = read("[store.postgres]\nurl = \"postgres://db/x?sslrootcert=r.pem\"\n", &[]);
    assert_eq!(options.expect("options").tls.root, Some("conf/r.pem".into()));
}

#[test]
fn two_that_disagree_are_named_and_the_file_chooses_the_address() {
    let (options, said) = read(
        "[store.postgres]\nurl = \"postgres://ours/x?connection_limit=5\"\n",
        &[("DATABASE_URL", "postgres://theirs/x"), ("DATABASE_POOL_MAX", "7")],
    );
    assert_eq!(options.expect("options").hosts, [Host::Tcp("ours".to_owned(), 5432)]);
    assert!(said.iter().any(|said| said.contains("connection_limit") && said.contains("disagree")), "{said:?}");
    let (options, said) =
        read("", &[("DATABASE_URL", "postgres://h/x"), ("DB_POOL_MAX", "20"), ("DATABASE_POOL_MAX", "20")]);
    assert_eq!((options.expect("options").pool, said), (20, vec![]));
    let (_, said) = read("", &[("DATABASE_URL", "postgres://h/x"), ("NODE_ENV", "production")]);
    assert!(said.iter().any(|said| said.contains("TLS")), "{said:?}");
    for wrong in ["sslmode=sometimes", "sslcrl=x.pem", "target_session_attrs=standby", "connection_limit=x"] {
        let (_, said) = read("", &[("DATABASE_URL", &format!("postgres://h/x?{wrong}"))]);
        let name = wrong.split('=').next().unwrap_or_default();
        assert!(said.iter().any(|said| said.contains(name)), "{wrong}: {said:?}");
    }
}
