//! Buckets: how they are reached, how long an answer is waited for, how often a request is repeated.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, LazyLock, Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use object_store::aws::{AmazonS3Builder, AmazonS3ConfigKey, S3ConditionalPut};
use object_store::client::{
    HttpClient, HttpConnector, HttpError, HttpErrorKind, HttpRequest, HttpResponse, HttpService, ReqwestConnector,
};
use object_store::{BackoffConfig, ClientConfigKey, ClientOptions, ObjectStore, RetryConfig};

use crate::fault;

/// How long a connection may take to be made.
const CONNECT: Duration = Duration::from_secs(5);
/// How long a request may take, its body included. It carries at most [`PIECE`] bytes, four of them side by side: that fits
/// 2.2 Mbit/s. What is longer on its way to us goes on from where it was cut.
const REQUEST: Duration = Duration::from_mins(2);
/// What is larger than this goes to a bucket in pieces of this size. (S3 takes none below 5 MiB, and 10,000 at most: 78 GiB.)
pub(crate) const PIECE: usize = 8 << 20;
/// How long a request is repeated after 5xx, 429, slow-down, a time-out or a lost connection. Its signature ages
/// meanwhile, which S3 bears for 15 minutes.
pub(crate) const BUDGET: Duration = Duration::from_mins(4);
/// How long a server that has never answered this process is tried: it is more likely a wrong address than a pause.
const FIRST_CONTACT: Duration = Duration::from_secs(3);
/// The endpoint that has answered the program which started this one: it is there, and may be away for a while.
const ANSWERED: &str = "EVOQ_S3_ANSWERED";
/// The pause before the first repetition; each later one is drawn from this one up to three times the last.
const PAUSE: Duration = Duration::from_millis(100);
/// The longest pause.
const LONGEST_PAUSE: Duration = Duration::from_secs(10);

/// The variables that name an endpoint; the first that is set counts.
const ENDPOINTS: [&str; 3] = ["AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL", "AWS_ENDPOINT"];

/// The variable that names the endpoint, and the endpoint; `None` for Amazon's own.
fn named_endpoint() -> Option<(&'static str, String)> {
    ENDPOINTS.iter().find_map(|&name| Some((name, std::env::var(name).ok()?)))
}

/// The endpoint, for messages.
pub(crate) fn endpoint() -> String {
    named_endpoint().map_or_else(|| "Amazon S3".to_owned(), |(_, url)| url)
}

/// The variable, and its value, by which a program whom the endpoint has answered tells that to those that it starts.
pub(crate) fn answered() -> (&'static str, String) {
    (ANSWERED, endpoint())
}

/// The bucket `name`, with one pool of connections a process. What is wrong with the settings is told.
pub(crate) fn bucket(name: &str) -> Result<Arc<dyn ObjectStore>, String> {
    static OPEN: LazyLock<Mutex<HashMap<String, Arc<dyn ObjectStore>>>> = LazyLock::new(Mutex::default);
    let mut open = OPEN.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(bucket) = open.get(name) {
        return Ok(bucket.clone());
    }
    let bucket = connect(name)?;
    open.insert(name.to_owned(), bucket.clone());
    Ok(bucket)
}

fn connect(name: &str) -> Result<Arc<dyn ObjectStore>, String> {
    let mut builder = AmazonS3Builder::from_env()
        .with_bucket_name(name)
        .with_conditional_put(S3ConditionalPut::ETagMatch)
        .with_retry(RetryConfig {
            backoff: BackoffConfig { init_backoff: PAUSE, max_backoff: LONGEST_PAUSE, base: 3.0 },
            // The time is the limit, not the count.
            max_retries: usize::MAX,
            retry_timeout: BUDGET,
        })
        .with_config(client(ClientConfigKey::ConnectTimeout), seconds(CONNECT))
        .with_config(client(ClientConfigKey::Timeout), seconds(REQUEST))
        .with_http_connector(Connector);
    if let Some((variable, url)) = named_endpoint() {
        if !url.starts_with("http://") && !url.starts_with("https://") {
            return Err(format!("{variable} is `{url}`, which needs http:// or https:// in front"));
        }
        // A plain endpoint that is named is meant.
        builder = builder.with_allow_http(url.starts_with("http://"));
    }
    if let Some(missing) = half_of_a_key() {
        return Err(format!(
            "{missing} is not set; a key has an id (AWS_ACCESS_KEY_ID) and a secret (AWS_SECRET_ACCESS_KEY)"
        ));
    }
    Ok(Arc::new(builder.build().map_err(|error| fault::root(&error))?))
}

/// The half of a key that is missing where the other is set.
fn half_of_a_key() -> Option<&'static str> {
    let (id, secret) = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY");
    match (std::env::var_os(id), std::env::var_os(secret)) {
        (None, Some(_)) => Some(id),
        (Some(_), None) => Some(secret),
        _ => None,
    }
}

fn client(key: ClientConfigKey) -> AmazonS3ConfigKey {
    AmazonS3ConfigKey::Client(key)
}

fn seconds(time: Duration) -> String {
    format!("{} seconds", time.as_secs())
}

/// Makes connections that know whether they were ever answered.
#[derive(Debug)]
struct Connector;

impl HttpConnector for Connector {
    fn connect(&self, options: &ClientOptions) -> object_store::Result<HttpClient> {
        let client = ReqwestConnector::default().connect(options)?;
        let has_answered = AtomicBool::new(std::env::var(ANSWERED).is_ok_and(|it| it == endpoint()));
        Ok(HttpClient::new(Server { client, begun: OnceLock::new(), has_answered }))
    }
}

/// A server, and whether it has ever answered this process or the one that started it.
#[derive(Debug)]
struct Server {
    client: HttpClient,
    begun: OnceLock<Instant>,
    has_answered: AtomicBool,
}

#[async_trait]
impl HttpService for Server {
    async fn call(&self, request: HttpRequest) -> Result<HttpResponse, HttpError> {
        let begun = *self.begun.get_or_init(Instant::now);
        match self.client.execute(request).await {
            Ok(mut answer) => {
                self.has_answered.store(true, Ordering::Relaxed);
                // "Not implemented" will not pass, and would be repeated as all of 5xx: it is told as a bad request.
                if let (501, Ok(status)) = (answer.status().as_u16(), 400.try_into()) {
                    *answer.status_mut() = status;
                }
                Ok(answer)
            }
            // This kind is not repeated.
            Err(error) if !self.has_answered.load(Ordering::Relaxed) && begun.elapsed() >= FIRST_CONTACT => {
                Err(HttpError::new(HttpErrorKind::Unknown, error))
            }
            Err(error) => Err(error),
        }
    }
}
