//! What a store's refusal means to people: an [`Error`] that says what was found and what to do.

use std::error::Error as StdError;

use object_store::Error as StoreError;
use object_store::client::{HttpError, HttpErrorKind};

use crate::{Error, s3};

/// The longest cause that is passed on as it is.
const LONGEST: usize = 300;

/// The error of `what` at `uri`, which failed with `source`.
pub(crate) fn fault(uri: &str, what: &'static str, source: &StoreError) -> Error {
    let uri = uri.to_owned();
    if !uri.starts_with("s3://") {
        return match source {
            StoreError::NotFound { .. } => Error::NotFound { uri },
            source => Error::Storage { uri, what, source: root(source).into() },
        };
    }
    let text = source.to_string();
    let answer = Answer::of(&text);
    if let Some(remedy) = answer.refusal(source) {
        return Error::Denied { uri, what, found: answer.to_string(), remedy };
    }
    if answer.code.as_deref() == Some("NoSuchBucket") {
        return Error::NoBucket { uri, endpoint: s3::endpoint() };
    }
    // The address under which a virtual machine is told its role.
    if ["/latest/api/token", "/latest/meta-data/"].iter().any(|path| text.contains(path)) {
        return Error::NoCredentials { uri, what };
    }
    match source {
        StoreError::NotFound { .. } => Error::NotFound { uri },
        source => Error::Storage { uri, what, source: answer.story(source).into() },
    }
}

/// Whether the outcome of the request is not known, or it is worth another try.
pub(crate) fn is_passing(error: &StoreError) -> bool {
    use HttpErrorKind::{Decode, Interrupted, Request, Timeout};
    match chain(error).find_map(|cause| cause.downcast_ref::<HttpError>()) {
        Some(error) => matches!(error.kind(), Request | Timeout | Interrupted | Decode),
        None => Answer::of(&error.to_string()).is_passing(),
    }
}

/// Whether the store says that it does not know create-only puts.
pub(crate) fn lacks_create(error: &StoreError) -> bool {
    matches!(error, StoreError::NotImplemented { .. })
        || Answer::of(&error.to_string()).code.as_deref() == Some("NotImplemented")
}

/// Whether the store sent the request elsewhere without saying where: it does so for a bucket of another region.
fn is_bare_redirect(error: &StoreError) -> bool {
    chain(error).any(|cause| cause.to_string().starts_with("Received redirect without LOCATION"))
}

/// What a server answered, as far as the error tells.
#[derive(Debug, Default, PartialEq, Eq)]
struct Answer {
    /// `503 Service Unavailable`.
    status: Option<String>,
    /// S3's own word: `SlowDown`.
    code: Option<String>,
    /// S3's sentence.
    message: Option<String>,
}

impl Answer {
    /// What the text of an error of the store's client tells.
    fn of(text: &str) -> Self {
        let between = |from: &str, to: &str| {
            let rest = text.split_once(from)?.1;
            Some(rest.split_once(to)?.0.trim().to_owned()).filter(|found| !found.is_empty())
        };
        Self {
            status: between("non-2xx status code: ", ":"),
            code: between("<Code>", "</Code>"),
            message: between("<Message>", "</Message>").map(|message| short(&message)),
        }
    }

    fn is_passing(&self) -> bool {
        let is_busy = self.status.as_ref().is_some_and(|it| it.starts_with('5') || it.starts_with("429"));
        is_busy || matches!(self.code.as_deref(), Some("SlowDown" | "InternalError"))
    }

    /// Why the request was refused, if it was, as what to do about it.
    fn refusal(&self, source: &StoreError) -> Option<&'static str> {
        let is_forbidden = matches!(source, StoreError::PermissionDenied { .. } | StoreError::Unauthenticated { .. });
        let starts = |number: &str| self.status.as_ref().is_some_and(|status| status.starts_with(number));
        let is_forbidden = is_forbidden || starts("403") || starts("401");
        match self.code.as_deref().unwrap_or_default() {
            "InvalidAccessKeyId" => Some("check AWS_ACCESS_KEY_ID"),
            "SignatureDoesNotMatch" => Some("check AWS_SECRET_ACCESS_KEY"),
            "ExpiredToken" | "InvalidToken" | "TokenRefreshRequired" => {
                Some("get new credentials and set AWS_SESSION_TOKEN with them")
            }
            "RequestTimeTooSkewed" => Some("set this machine's clock"),
            "AuthorizationHeaderMalformed" | "PermanentRedirect" | "IllegalLocationConstraintException" => {
                Some("set AWS_REGION to the bucket's region")
            }
            "InvalidBucketName" => Some("check the bucket's name"),
            _ if starts("301") || starts("307") || is_bare_redirect(source) => {
                Some("set AWS_REGION to the bucket's region")
            }
            _ if is_forbidden && std::env::var_os("AWS_ACCESS_KEY_ID").is_none() => {
                Some("AWS_ACCESS_KEY_ID is not set: set it and AWS_SECRET_ACCESS_KEY to keys of the bucket")
            }
            _ if is_forbidden => Some("use credentials that may list, read, write and remove there"),
            _ => None,
        }
    }

    /// What happened, in one line.
    fn story(&self, source: &StoreError) -> String {
        let endpoint = s3::endpoint();
        if let Some(error) = chain(source).find_map(|cause| cause.downcast_ref::<HttpError>()) {
            let kinds = chain(error).filter_map(|cause| cause.downcast_ref::<HttpError>()).map(HttpError::kind);
            let kinds: Vec<HttpErrorKind> = kinds.collect();
            return if kinds.contains(&HttpErrorKind::Connect) {
                let why = root(error);
                format!("{endpoint} cannot be reached: {why}; is it up, and is AWS_ENDPOINT_URL right?")
            } else if kinds.contains(&HttpErrorKind::Timeout) {
                format!("{endpoint} did not answer in time; run it again: what is done stays done")
            } else {
                format!("the connection to {endpoint} broke: {}; run it again: what is done stays done", root(error))
            };
        }
        if self.is_passing() {
            return format!(
                "{endpoint} answered {self}, and still did after minutes of retries; run it again later: what is done stays \
                 done"
            );
        }
        if self.status.is_some() || self.code.is_some() {
            return format!("{endpoint} answered {self}");
        }
        root(source)
    }
}

impl std::fmt::Display for Answer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // The status' words say no more than S3's code does.
        let number = self.status.as_deref().and_then(|status| status.split(' ').next());
        let words: Vec<&str> = match &self.code {
            Some(code) => number.into_iter().chain([code.as_str()]).collect(),
            None => self.status.as_deref().into_iter().collect(),
        };
        f.write_str(if words.is_empty() { "a refusal" } else { "" })?;
        f.write_str(&words.join(" "))?;
        match &self.message {
            Some(message) => write!(f, " ({})", message.trim_end_matches('.')),
            None => Ok(()),
        }
    }
}

/// `error` and what caused it, the deepest last.
fn chain<'a>(error: &'a (dyn StdError + 'static)) -> impl Iterator<Item = &'a (dyn StdError + 'static)> {
    std::iter::successors(Some(error), |&error| error.source())
}

/// The deepest cause, in one line.
pub(crate) fn root(error: &(dyn StdError + 'static)) -> String {
    short(&chain(error).last().map(ToString::to_string).unwrap_or_default())
}

/// `text` in one line that is not too long.
fn short(text: &str) -> String {
    let line = text.split_whitespace().collect::<Vec<_>>().join(" ");
    match line.char_indices().nth(LONGEST) {
        Some((end, _)) => format!("{}…", line.get(..end).unwrap_or_default()),
        None => line,
    }
}
