//! How a link to Redis is made: addresses, TLS, login; the master asked of the sentinels. It never tries twice and has
//! no idea of time but the caller's limit.
//!
//! Sockets and TLS are our own where the client library lets us: it would read the system's authorities from disk at
//! every connect, on the thread that asks.

use super::error::Error;
use super::options::{Node, Options, Place, Tls};
use ::redis::aio::{MultiplexedConnection, PubSub};
use ::redis::cluster::{ClusterClient, ClusterClientBuilder};
use ::redis::cluster_async::ClusterConnection;
use ::redis::io::tcp::{TcpSettings, socket2};
use ::redis::{
    AsyncConnectionConfig, Cmd, ConnectionAddr, IntoConnectionInfo, RedisConnectionInfo, RedisResult, Value,
};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

/// Bytes sent and not acknowledged for this long: the other side is gone, whatever TCP hopes.
const UNACKNOWLEDGED: Duration = Duration::from_secs(10);
/// Calls that wait for their turn to be written; what is under way is bounded by the handle.
const PIPELINE_MAX: usize = 256;
/// One node of a cluster that hangs must not keep the others from being reached.
const NODE_LIMIT: Duration = Duration::from_secs(1);
/// A sentinel that is gone must not eat the time in which another one answers.
const SENTINEL_LIMIT: Duration = Duration::from_secs(1);

/// A connection that many calls share.
#[derive(Clone)]
pub(super) enum Link {
    One(MultiplexedConnection, Node),
    Many(ClusterConnection),
}

impl Link {
    pub(super) async fn ask(&self, command: &Cmd) -> RedisResult<Value> {
        match self {
            Link::One(connection, _) => command.query_async(&mut connection.clone()).await,
            Link::Many(connection) => command.query_async(&mut connection.clone()).await,
        }
    }

    /// `None` for a cluster.
    pub(super) fn node(&self) -> Option<&Node> {
        match self {
            Link::One(_, node) => Some(node),
            Link::Many(_) => None,
        }
    }
}

/// Everything that is needed to connect, read once.
pub(super) struct Dialer {
    pub(super) options: Options,
    tls: Option<TlsConnector>,
    cluster: Option<ClusterClient>,
    login: RedisConnectionInfo,
}

impl Dialer {
    /// Reads the files of certificates.
    pub(super) fn new(options: &Options) -> Result<Dialer, Error> {
        let files = options.tls.as_ref().map(Files::read).transpose()?;
        let tls = files.as_ref().map(Files::connector).transpose()?;
        let cluster = match &options.place {
            Place::Cluster(nodes) => Some(cluster(options, nodes, files)?),
            _ => None,
        };
        Ok(Dialer { options: options.clone(), tls, cluster, login: login(options) })
    }

    /// One attempt, within `limit`.
    pub(super) async fn dial(&self, limit: Duration) -> Result<Link, Error> {
        let dialling = async {
            match (&self.options.place, &self.cluster) {
                (_, Some(client)) => {
                    let connection = client.get_async_connection().await.map_err(Error::dialling)?;
                    Ok(Link::Many(connection))
                }
                (Place::Single(node), None) => {
                    let link = self.link(node, &self.login).await?;
                    // A server that hangs still lets the kernel connect, and one that wants a password as well.
                    link.ask(&::redis::cmd("PING")).await.map_err(Error::dialling)?;
                    Ok(link)
                }
                (Place::Sentinel { .. }, None) => self.to_master().await,
                (Place::Cluster(_), None) => Err(Error::Away),
            }
        };
        timeout(limit, dialling).await.unwrap_or(Err(Error::Late))
    }

    /// A connection of its own to this node, as part of a check.
    pub(super) async fn node(&self, node: &Node, with_login: bool) -> Result<Link, Error> {
        let anonymous = RedisConnectionInfo::default().set_skip_set_lib_name();
        self.link(node, if with_login { &self.login } else { &anonymous }).await
    }

    async fn link(&self, node: &Node, login: &RedisConnectionInfo) -> Result<Link, Error> {
        let config = AsyncConnectionConfig::new()
            .set_response_timeout(Some(self.options.command))
            .set_pipeline_buffer_size(PIPELINE_MAX);
        let socket = self.socket(node).await?;
        let connection = match &self.tls {
            None => {
                let made = MultiplexedConnection::new_with_config(login, socket, config).await;
                let (connection, driver) = made.map_err(Error::dialling)?;
                drive(driver);
                connection
            }
            Some(tls) => {
                let stream = tls.connect(server_name(node)?, socket).await.map_err(shaken)?;
                let made = MultiplexedConnection::new_with_config(login, stream, config).await;
                let (connection, driver) = made.map_err(Error::dialling)?;
                drive(driver);
                connection
            }
        };
        Ok(Link::One(connection, node.clone()))
    }

    /// A connection that hears messages: in a cluster any node passes them all on.
    pub(super) async fn listen(&self, limit: Duration) -> Result<(PubSub, Node), Error> {
        let nodes = match &self.options.place {
            Place::Single(node) => vec![node.clone()],
            Place::Cluster(nodes) => nodes.clone(),
            Place::Sentinel { .. } => vec![timeout(limit, self.master()).await.unwrap_or(Err(Error::Late))?],
        };
        let mut last = Error::Away;
        for node in nodes {
            let dialling = async {
                let socket = self.socket(&node).await?;
                match &self.tls {
                    None => PubSub::new(&self.login, socket).await.map_err(Error::dialling),
                    Some(tls) => {
                        let stream = tls.connect(server_name(&node)?, socket).await.map_err(shaken)?;
                        PubSub::new(&self.login, stream).await.map_err(Error::dialling)
                    }
                }
            };
            match timeout(limit, dialling).await.unwrap_or(Err(Error::Late)) {
                Ok(pubsub) => return Ok((pubsub, node)),
                Err(error) => last = error,
            }
        }
        Err(last)
    }

    /// A link to whom the sentinels name, if it says itself that it is the master.
    async fn to_master(&self) -> Result<Link, Error> {
        let node = self.master().await?;
        let link = self.link(&node, &self.login).await?;
        match link.ask(&::redis::cmd("ROLE")).await.map_err(Error::answered)? {
            Value::Array(role) if role.first().is_some_and(|word| is_text(word, "master")) => Ok(link),
            _ => Err(Error::NoMaster),
        }
    }

    /// Whom the first sentinel that answers names. The password is for the servers; sentinels that want one are
    /// given the same.
    pub(super) async fn master(&self) -> Result<Node, Error> {
        let Place::Sentinel { sentinels, master } = &self.options.place else { return Err(Error::NoMaster) };
        for sentinel in sentinels {
            for with_login in [false, true] {
                let asked = timeout(SENTINEL_LIMIT, self.ask_sentinel(sentinel, master, with_login)).await;
                match asked.unwrap_or(Err(Error::Late)) {
                    Ok(Some(node)) => return Ok(node),
                    Err(Error::Login(_)) => {}
                    Ok(None) | Err(_) => break,
                }
            }
        }
        Err(Error::NoMaster)
    }

    async fn ask_sentinel(&self, sentinel: &Node, master: &str, with_login: bool) -> Result<Option<Node>, Error> {
        let link = self.node_without_database(sentinel, with_login).await?;
        let mut command = ::redis::cmd("SENTINEL");
        command.arg("GET-MASTER-ADDR-BY-NAME").arg(master);
        let answer = link.ask(&command).await.map_err(Error::answered)?;
        let named: Option<(String, u16)> = ::redis::from_redis_value(answer).ok();
        Ok(named.map(|(host, port)| Node { host, port }))
    }

    /// A sentinel has no databases.
    async fn node_without_database(&self, node: &Node, with_login: bool) -> Result<Link, Error> {
        let login = self.login.clone().set_db(0);
        match with_login {
            true => self.link(node, &login).await,
            false => self.node(node, false).await,
        }
    }

    async fn socket(&self, node: &Node) -> Result<TcpStream, Error> {
        let unreachable = |error: io::Error| Error::Unreachable(error.into());
        let socket = TcpStream::connect((node.host.as_str(), node.port)).await.map_err(unreachable)?;
        let set = || -> io::Result<()> {
            // Off by default in the library, and then every small command waits for the answer before it.
            socket.set_nodelay(true)?;
            let socket = socket2::SockRef::from(&socket);
            socket.set_tcp_keepalive(&keepalive(&self.options))?;
            socket.set_tcp_user_timeout(Some(UNACKNOWLEDGED))
        };
        set().map_err(unreachable)?;
        Ok(socket)
    }
}

/// Reads and writes for one connection, and ends with the last handle to it: no policy could say more.
#[allow(clippy::disallowed_methods)]
fn drive(driver: impl Future<Output = ()> + Send + 'static) {
    tokio::spawn(driver);
}

fn is_text(value: &Value, text: &str) -> bool {
    match value {
        Value::BulkString(bytes) => bytes == text.as_bytes(),
        Value::SimpleString(word) => word == text,
        _ => false,
    }
}

fn keepalive(options: &Options) -> socket2::TcpKeepalive {
    // The kernel knows whole seconds.
    let time = options.keepalive.max(Duration::from_secs(1));
    socket2::TcpKeepalive::new().with_time(time).with_interval(time)
}

fn login(options: &Options) -> RedisConnectionInfo {
    let mut login = RedisConnectionInfo::default().set_db(options.database).set_skip_set_lib_name();
    if let Some(password) = &options.password {
        login = login.set_password(&password.0);
        // A user without a password is nobody's: Redis would take the name for the password.
        if let Some(user) = &options.user {
            login = login.set_username(user);
        }
    }
    login
}

fn server_name(node: &Node) -> Result<ServerName<'static>, Error> {
    let named = ServerName::try_from(node.host.clone());
    named.map_err(|error| Error::Unreachable(io::Error::new(io::ErrorKind::InvalidInput, error).into()))
}

/// A handshake that failed: by our judgement, or by theirs.
fn shaken(error: io::Error) -> Error {
    let inner = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
    match inner {
        Some(rustls::Error::InvalidCertificate(_)) => Error::Certificate(error.into()),
        Some(rustls::Error::AlertReceived(_)) => Error::Login(error.into()),
        _ => Error::Unreachable(error.into()),
    }
}

/// What the files of `Tls` hold.
struct Files {
    ca: Option<Vec<u8>>,
    client: Option<(Vec<u8>, Vec<u8>)>,
}

impl Files {
    fn read(tls: &Tls) -> Result<Files, Error> {
        let read = |path: &Path| std::fs::read(path).map_err(|error| Error::File(path.to_path_buf(), error));
        let client = match &tls.client {
            Some((cert, key)) => Some((read(cert)?, read(key)?)),
            None => None,
        };
        Ok(Files { ca: tls.ca.as_deref().map(read).transpose()?, client })
    }

    fn connector(&self) -> Result<TlsConnector, Error> {
        let settings = |error: String| Error::Settings(io::Error::new(io::ErrorKind::InvalidInput, error).into());
        let mut roots = rustls::RootCertStore::empty();
        match &self.ca {
            Some(pem) => {
                let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
                let (added, _) = roots.add_parsable_certificates(found.map_err(|error| settings(error.to_string()))?);
                if added == 0 {
                    return Err(settings("the file of the authority holds no certificate".to_owned()));
                }
            }
            None => {
                roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
            }
        }
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = rustls::ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|error| settings(error.to_string()))?
            .with_root_certificates(roots);
        let config = match &self.client {
            None => config.with_no_client_auth(),
            Some((cert, key)) => {
                let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(cert).collect();
                let chain = chain.map_err(|error| settings(error.to_string()))?;
                let key = PrivateKeyDer::from_pem_slice(key).map_err(|error| settings(error.to_string()))?;
                config.with_client_auth_cert(chain, key).map_err(|error| settings(error.to_string()))?
            }
        };
        Ok(TlsConnector::from(Arc::new(config)))
    }
}

/// The library's own client: it knows who serves which slot, follows redirections and failovers.
fn cluster(options: &Options, nodes: &[Node], files: Option<Files>) -> Result<ClusterClient, Error> {
    let seeds: Vec<_> = nodes.iter().map(|node| address(node, files.is_some()).into_connection_info()).collect();
    let seeds = seeds.into_iter().collect::<RedisResult<Vec<_>>>().map_err(Error::Settings)?;
    let seeds = seeds.into_iter().map(|seed| seed.set_redis_settings(login(options)));
    let tcp =
        TcpSettings::default().set_nodelay(true).set_keepalive(keepalive(options)).set_user_timeout(UNACKNOWLEDGED);
    let mut builder = ClusterClientBuilder::new(seeds)
        .connection_timeout(options.connect.min(NODE_LIMIT))
        .response_timeout(options.command)
        .retries(options.retries)
        .max_retry_wait(u64::try_from(options.retry_delay.as_millis()).unwrap_or(u64::MAX))
        .min_retry_wait(10)
        .tcp_settings(tcp);
    if let Some(files) = files {
        let client_tls =
            files.client.map(|(client_cert, client_key)| ::redis::ClientTlsConfig { client_cert, client_key });
        builder = builder.tls(::redis::cluster::TlsMode::Secure);
        builder = builder.certs(::redis::TlsCertificates { client_tls, root_cert: files.ca });
    }
    builder.build().map_err(Error::Settings)
}

fn address(node: &Node, tls: bool) -> ConnectionAddr {
    match tls {
        false => ConnectionAddr::Tcp(node.host.clone(), node.port),
        true => ConnectionAddr::TcpTls { host: node.host.clone(), port: node.port, insecure: false, tls_params: None },
    }
}
