//! What can go wrong with artifacts, named by cause.

/// The result of an artifact operation.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// A failure of storage, or of what was found in it.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The text is not a location.
    #[error("`{uri}` is not a location: {why}; expected a path, file:///… or s3://bucket/…")]
    Uri {
        /// What was given.
        uri: String,
        /// What is wrong with it.
        why: String,
    },
    /// What the environment says of a bucket cannot be.
    #[error("{uri}: the bucket cannot be used: {what}")]
    Setting {
        /// The location.
        uri: String,
        /// What is wrong.
        what: String,
    },
    /// Nothing is there.
    #[error("{uri}: not found")]
    NotFound {
        /// The location.
        uri: String,
    },
    /// There is no artifact at the prefix.
    #[error("{uri}: no artifact here (it has no manifest.json); run the step that makes it, or check the location")]
    NoArtifact {
        /// The prefix.
        uri: String,
    },
    /// The artifact lacks the table.
    #[error("{uri}: this artifact has no table `{table}`; it has {found}")]
    NoTable {
        /// The artifact.
        uri: String,
        /// The table asked for.
        table: String,
        /// The tables it has.
        found: String,
    },
    /// The store does not let these credentials do what was wanted.
    #[error("{uri}: {what} was refused with {found}; {remedy}")]
    Denied {
        /// The location.
        uri: String,
        /// The operation.
        what: &'static str,
        /// What the store answered.
        found: String,
        /// What to do.
        remedy: &'static str,
    },
    /// There are no credentials for a bucket.
    #[error(
        "{uri}: {what} needs credentials, and there are none: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY (files such as \
         ~/.aws/credentials are not read, and no role was found)"
    )]
    NoCredentials {
        /// The location.
        uri: String,
        /// The operation.
        what: &'static str,
    },
    /// The bucket does not exist.
    #[error("{uri}: there is no such bucket at {endpoint}; make it, or check its name and AWS_ENDPOINT_URL")]
    NoBucket {
        /// The location.
        uri: String,
        /// The server that was asked.
        endpoint: String,
    },
    /// The store cannot keep two writers apart.
    #[error(
        "{uri}: this store {what}: two writers could damage each other's work. Use a store that honours create-only puts \
         (`If-None-Match: *`), or --single-writer if only one process ever writes there"
    )]
    NoCreateOnly {
        /// The location that was tried.
        uri: String,
        /// What the store does.
        what: String,
    },
    /// The storage failed.
    #[error("{uri}: {what} failed: {source}")]
    Storage {
        /// The location.
        uri: String,
        /// The operation.
        what: &'static str,
        /// The cause.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// A file that cannot be read as what it should be.
    #[error("{uri}: {what}")]
    Corrupt {
        /// The file.
        uri: String,
        /// What is wrong.
        what: String,
    },
    /// A row that does not fit its table.
    #[error("{uri}: {source}")]
    Row {
        /// The part.
        uri: String,
        /// The row's fault.
        source: evoq_schemas::RowError,
    },
    /// An object that was there already, with other content.
    #[error("{uri}: exists already with other content; another program wrote there: choose another --out")]
    Conflict {
        /// The object.
        uri: String,
    },
}

impl Error {
    /// Whether the fault lies in what the user gave, rather than in the machine.
    pub fn is_bad_input(&self) -> bool {
        !matches!(self, Self::Storage { .. })
    }
}
