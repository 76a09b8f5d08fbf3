//! The variables that count, by name: the guides' and our own. Others belong to the app alone.

/// Letters, digits, `_`, `.` and `-`, as env files allow.
pub(crate) fn is_variable_name(name: &str) -> bool {
    !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.' | b'-'))
}

/// Letters, digits and `_`, as a shell demands.
pub(crate) fn is_shell_name(name: &str) -> bool {
    let digit_first = name.starts_with(|c: char| c.is_ascii_digit());
    !name.is_empty() && !digit_first && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
}

pub(crate) fn is_known(name: &str) -> bool {
    doc(name).is_some()
}

/// What a variable is for, in a line.
pub(crate) fn doc(name: &str) -> Option<&'static str> {
    let found = NAMES.iter().find(|(known, _)| *known == name).map(|(_, doc)| *doc);
    found.or_else(|| {
        let queue = name.strip_prefix("QUEUE_CONCURRENCY_")?;
        is_shell_name(queue).then_some("jobs of this queue at a time")
    })
}

/// The name of ours that a mistyped `MAINSTAY_…` probably meant. Others are none of our business: an instance is given
/// some, and a nested run finds them.
pub(crate) fn meant(name: &str) -> Option<&'static str> {
    let rest = name.strip_prefix("MAINSTAY_")?;
    let own = || NAMES.iter().filter_map(|(known, _)| Some((*known, known.strip_prefix("MAINSTAY_")?)));
    let near = crate::nearest::nearest(rest, own().map(|(_, rest)| rest))?;
    own().find(|(_, rest)| *rest == near).map(|(known, _)| known)
}

const NAMES: &[(&str, &str)] = &[
    // Our own.
    ("MAINSTAY_FILE", "path of mainstay.toml"),
    ("MAINSTAY_DATA", "folder where Mainstay keeps its data"),
    ("MAINSTAY_ENV", "production or development; ranks above ENVIRONMENT and NODE_ENV"),
    // Server.
    ("NODE_ENV", "production or development"),
    ("ENVIRONMENT", "production or development; ranks above NODE_ENV"),
    ("HOST", "address the edge listens on"),
    ("PORT", "port the edge listens on"),
    ("FRONTEND_URL", "address of the frontend"),
    ("API_URL", "address of the API"),
    ("APP_VERSION", "version shown on health pages"),
    ("NODE_OPTIONS", "options handed to Node.js"),
    ("CLUSTER_WORKERS", "instances of the app: a number or auto"),
    ("GRACEFUL_SHUTDOWN_TIMEOUT", "longest drain at a stop, in milliseconds"),
    // Database.
    ("DATABASE_URL", "connection to Postgres: postgres://user:password@host:5432/database"),
    ("DATABASE_REPLICA_URL", "connection to a read replica"),
    ("DATABASE_POOL_MIN", "connections kept open"),
    ("DATABASE_POOL_MAX", "connections at most"),
    ("DATABASE_STATEMENT_TIMEOUT", "longest statement, in milliseconds"),
    ("DATABASE_IDLE_TIMEOUT", "an idle connection closes after this, in milliseconds"),
    ("DATABASE_LOG_QUERIES", "log every query: true or false"),
    ("DATABASE_LOG_SLOW_QUERIES_MS", "log queries slower than this, in milliseconds"),
    ("DB_POOL_MAX", "connections at most"),
    ("DB_POOL_MIN", "connections kept open"),
    ("DB_CONNECTION_TIMEOUT_MS", "longest wait for a connection, in milliseconds"),
    ("DB_IDLE_TIMEOUT_MS", "an idle connection closes after this, in milliseconds"),
    ("DB_STATEMENT_TIMEOUT_MS", "longest statement, in milliseconds"),
    ("DB_NAME", "database a restore writes to"),
    ("PGPASSWORD", "password of the Postgres client tools"),
    ("POSTGRES_USER", "user of the database"),
    ("POSTGRES_PASSWORD", "password of the database"),
    // Redis.
    ("REDIS_URL", "connection to Redis: redis://:password@host:6379, several with commas"),
    ("REDIS_HOST", "host of Redis"),
    ("REDIS_PORT", "port of Redis"),
    ("REDIS_PASSWORD", "password of Redis"),
    ("REDIS_TLS_ENABLED", "TLS to Redis: true or false"),
    ("REDIS_MAX_RETRIES", "tries before a command fails"),
    ("REDIS_RETRY_DELAY", "between two tries, in milliseconds"),
    ("REDIS_CONNECT_TIMEOUT_MS", "longest connect, in milliseconds"),
    ("REDIS_COMMAND_TIMEOUT_MS", "longest command, in milliseconds"),
    ("REDIS_KEEPALIVE_MS", "TCP keep-alive, in milliseconds"),
    ("REDIS_CLUSTER_ENABLED", "Redis Cluster: true or false"),
    ("REDIS_CLUSTER_NODES", "nodes of the cluster, host:port with commas"),
    ("REDIS_CLUSTER_RETRY_ATTEMPTS", "tries before a cluster command fails"),
    ("REDIS_SENTINEL_ENABLED", "Redis Sentinel: true or false"),
    ("REDIS_SENTINELS", "sentinels, host:port with commas"),
    ("REDIS_MASTER_NAME", "master the sentinels watch"),
    // Jobs and limits.
    ("QUEUE_RETRY_ATTEMPTS", "tries before a job is failed"),
    ("QUEUE_RETRY_BACKOFF", "first delay between two tries, in milliseconds"),
    ("RATE_LIMIT_ENABLED", "rate limits: true or false"),
    ("RATE_LIMIT_WINDOW_MS", "window of the limits, in milliseconds"),
    ("RATE_LIMIT_MAX_REQUESTS", "requests a window"),
    ("RATE_LIMIT_SKIP_SUCCESSFUL_REQUESTS", "do not count requests that succeed: true or false"),
    ("RATE_LIMIT_STORE", "where limits are counted: memory or redis"),
    ("RATE_LIMIT_AUTH", "requests a window to sign-in routes"),
    ("RATE_LIMIT_API", "requests a window to the API"),
    ("RATE_LIMIT_WEBSOCKET", "sockets opened a window"),
    ("RATE_LIMIT_TENANT_MAX", "requests a window for each tenant"),
    ("RATE_LIMIT_TENANT_WINDOW_MS", "window of the tenant limit, in milliseconds"),
    // Identity and headers.
    ("JWT_SECRET", "signs tokens; `mainstay secret JWT_SECRET` makes one"),
    ("JWT_SECRET_PREVIOUS", "still verifies tokens signed before JWT_SECRET changed"),
    ("JWT_REFRESH_SECRET", "signs refresh tokens"),
    ("JWT_EXPIRES_IN", "life of a token, such as 15m"),
    ("REFRESH_TOKEN_EXPIRES_IN", "life of a refresh token, such as 30d"),
    ("SESSION_SECRET", "signs sessions"),
    ("COOKIE_DOMAIN", "domain of cookies"),
    ("BCRYPT_ROUNDS", "cost of password hashes"),
    ("GOOGLE_CLIENT_ID", "sign-in with Google"),
    ("GOOGLE_CLIENT_SECRET", "sign-in with Google"),
    ("GOOGLE_CALLBACK_URL", "sign-in with Google"),
    ("LINKEDIN_CLIENT_ID", "sign-in with LinkedIn"),
    ("LINKEDIN_CLIENT_SECRET", "sign-in with LinkedIn"),
    ("LINKEDIN_CALLBACK_URL", "sign-in with LinkedIn"),
    ("GITHUB_CLIENT_ID", "sign-in with GitHub"),
    ("GITHUB_CLIENT_SECRET", "sign-in with GitHub"),
    ("GITHUB_CALLBACK_URL", "sign-in with GitHub"),
    ("CORS_ENABLED", "CORS: true or false"),
    ("CORS_ORIGIN", "origins that may call, with commas"),
    ("HELMET_ENABLED", "security headers: true or false"),
    // Mail, storage, backup.
    ("SMTP_HOST", "host of the mail server"),
    ("SMTP_PORT", "port of the mail server"),
    ("SMTP_USER", "user of the mail server"),
    ("SMTP_PASS", "password of the mail server"),
    ("EMAIL_FROM", "name and address mail comes from"),
    ("SENDGRID_API_KEY", "key of SendGrid"),
    ("FROM_EMAIL", "address mail comes from"),
    ("SUPPORT_EMAIL", "address users write to"),
    ("AWS_ACCESS_KEY_ID", "key id of AWS"),
    ("AWS_SECRET_ACCESS_KEY", "key of AWS"),
    ("AWS_S3_BUCKET", "bucket of uploads"),
    ("AWS_REGION", "region of AWS"),
    ("BACKUP_DIR", "folder of backups"),
    // Seeing.
    ("SENTRY_DSN", "where errors are reported"),
    ("SENTRY_ENVIRONMENT", "environment shown in Sentry"),
    ("SENTRY_TRACES_SAMPLE_RATE", "share of traces, 0 to 1"),
    ("SENTRY_PROFILES_SAMPLE_RATE", "share of profiles, 0 to 1"),
    ("SENTRY_DEBUG", "Sentry's own messages: true or false"),
    ("SENTRY_AUTH_TOKEN", "uploads releases to Sentry"),
    ("SENTRY_ORG", "organisation in Sentry"),
    ("STRIPE_SECRET_KEY", "key of Stripe"),
    ("STRIPE_WEBHOOK_SECRET", "verifies what Stripe sends"),
    ("OTEL_SERVICE_NAME", "service shown in traces"),
    ("OTEL_EXPORTER_OTLP_ENDPOINT", "where traces are sent"),
    ("OTEL_SDK_DISABLED", "no traces: true or false"),
    ("PROMETHEUS_PUSH_GATEWAY", "where metrics are pushed"),
    ("LOG_LEVEL", "least level logged"),
    ("LOG_FORMAT", "format of log lines"),
    ("LOG_DESTINATION", "where logs go: stdout or elasticsearch"),
    ("LOG_DRAIN_URL", "where log lines are sent"),
    ("ELASTICSEARCH_URL", "where log lines are indexed"),
    ("ELASTICSEARCH_INDEX", "index of log lines"),
    ("SLACK_WEBHOOK_URL", "where alerts are posted"),
    // Providers.
    ("BASE_SEPOLIA_RPC_URL", "RPC of the test network"),
    ("BASE_MAINNET_RPC_URL", "RPC of the network"),
    ("PRIVATE_KEY", "key transactions are signed with"),
    ("GAS_PRICE_MULTIPLIER", "gas price times this"),
    ("MAX_GAS_PRICE", "highest gas price, in wei"),
    ("TRANSACTION_TIMEOUT", "longest wait for a transaction, in milliseconds"),
    ("ANTHROPIC_API_KEY", "key of Anthropic"),
    ("MOONSHOT_API_KEY", "key of Moonshot"),
    ("AI_CONCURRENCY_LIMIT", "calls to AI providers at a time"),
    ("AI_RATE_LIMIT_RPM", "calls to AI providers a minute"),
    ("AI_TIMEOUT", "longest call, in milliseconds"),
    ("AI_MAX_RETRIES", "tries again after a failed call"),
    // Deploy.
    ("REGISTRY", "registry of images"),
    ("IMAGE_NAME_BACKEND", "image of the backend"),
    ("IMAGE_NAME_FRONTEND", "image of the frontend"),
    ("IMAGE_TAG", "tag of the images"),
    ("PRODUCTION_HOST", "server a deploy goes to"),
    ("PRODUCTION_USERNAME", "user on that server"),
    ("PRODUCTION_SSH_KEY", "key for that server"),
    ("PRODUCTION_API_URL", "address of the API in production"),
    ("PRODUCTION_WS_URL", "address of sockets in production"),
    ("SNYK_TOKEN", "token of Snyk"),
    ("REPLICATOR_PASSWORD", "password of the replication user"),
    ("PGDATA", "folder of Postgres"),
    ("PGBOUNCER_POOL_MODE", "PgBouncer: pool mode"),
    ("PGBOUNCER_MAX_CLIENT_CONN", "PgBouncer: clients at most"),
    ("PGBOUNCER_DEFAULT_POOL_SIZE", "PgBouncer: connections a database"),
    ("DATABASES_HOST", "PgBouncer: host of the database"),
    ("DATABASES_PORT", "PgBouncer: port of the database"),
    ("DATABASES_DBNAME", "PgBouncer: name of the database"),
    ("POSTGRESQL_HOST", "PgBouncer: host of the database"),
    ("POSTGRESQL_PORT", "PgBouncer: port of the database"),
    ("POSTGRESQL_USERNAME", "PgBouncer: user of the database"),
    ("POSTGRESQL_PASSWORD", "PgBouncer: password of the database"),
    ("POSTGRESQL_DATABASE", "PgBouncer: name of the database"),
];
