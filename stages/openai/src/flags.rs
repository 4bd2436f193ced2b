//! The flags that say what replies, and where it is: the same for each stage that asks.

use std::time::Duration;

use evoq_stage::bad_input;
use evoq_stage::range::count;
use reqwest::Url;
use reqwest::header::{AUTHORIZATION, CONTENT_TYPE, HeaderMap, HeaderValue};
use serde::Serialize;

/// The variable that holds the key where `--key-env` names no other.
const KEY_ENV: &str = "OPENAI_API_KEY";
/// How long a connection may take to be made.
const CONNECT: Duration = Duration::from_secs(10);

/// What replies.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, clap::ValueEnum, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Engine {
    /// The built-in policy, from --policy
    #[default]
    Policy,
    /// An OpenAI-compatible server, such as vLLM or llama.cpp
    Openai,
}

/// The flags. Where the server is and how it is treated does not count in a fingerprint: they decide no reply.
#[derive(Debug, Clone, clap::Args, Serialize)]
#[group(skip)]
#[serde(rename_all = "kebab-case")]
pub struct Flags {
    /// What replies: the policy of --policy, or a server
    #[arg(long, value_enum, default_value = "policy")]
    pub engine: Engine,
    /// Address of the server, such as `http://127.0.0.1:8000/v1`; a bare host gets /v1
    #[arg(long)]
    #[serde(skip)]
    pub url: Option<String>,
    /// The policy's name at the server; it stands in each row
    #[arg(long)]
    pub model: Option<String>,
    /// Variable that holds the server's key [default: `OPENAI_API_KEY` where it is set]
    #[arg(long)]
    #[serde(skip)]
    pub key_env: Option<String>,
    /// Requests to the server at a time. Where it draws all replies from one generator, as `transformers serve` does, seeds
    /// decide them only with 1
    #[arg(long, default_value_t = 16, value_parser = count)]
    #[serde(skip)]
    pub concurrency: usize,
    /// Seconds that the server may take for one request
    #[arg(long, default_value_t = 600, value_parser = clap::value_parser!(u64).range(1..))]
    #[serde(skip)]
    pub request_timeout: u64,
    /// How often a request is tried before its replies are given up
    #[arg(long, default_value_t = 6, value_parser = count)]
    #[serde(skip)]
    pub tries: usize,
}

/// The server's address and model, and what talks to it.
pub(crate) struct Checked {
    pub(crate) address: Url,
    pub(crate) model: String,
    pub(crate) client: reqwest::Client,
    pub(crate) key: Key,
}

/// Which variable holds the key, and whether it is set.
#[derive(Debug, Clone)]
pub(crate) struct Key {
    pub(crate) variable: String,
    pub(crate) is_set: bool,
}

impl Flags {
    /// Refuses flags of a server where the built-in policy replies.
    ///
    /// # Errors
    /// Bad input.
    pub fn check_unused(&self) -> anyhow::Result<()> {
        let given = [("url", &self.url), ("model", &self.model), ("key-env", &self.key_env)];
        match given.into_iter().find(|(_, value)| value.is_some()) {
            Some((name, _)) => {
                Err(bad_input(format!("--{name} is for a server: leave it out, or add --engine openai")))
            }
            None => Ok(()),
        }
    }

    /// The flags of a server, checked.
    pub(crate) fn checked(&self) -> anyhow::Result<Checked> {
        let missing = |flag: &str, what: &str| bad_input(format!("--{flag} is missing: --engine openai needs {what}"));
        let url = self.url.as_deref().ok_or_else(|| missing("url", "the address of a server, http://HOST:PORT/v1"))?;
        let model = self.model.clone().ok_or_else(|| missing("model", "the policy's name at the server"))?;
        let address = address(url).map_err(|what| bad_input(format!("--url {url}: {what}")))?;
        let variable = self.key_env.as_deref().unwrap_or(KEY_ENV);
        let key = std::env::var(variable).ok().filter(|key| !key.trim().is_empty());
        if key.is_none() && self.key_env.is_some() {
            return Err(bad_input(format!(
                "--key-env {variable}: the variable is not set; put the server's key there"
            )));
        }
        let mut headers = HeaderMap::from_iter([(CONTENT_TYPE, HeaderValue::from_static("application/json"))]);
        if let Some(key) = &key {
            // The key itself is never printed.
            let mut value = HeaderValue::from_str(&format!("Bearer {}", key.trim())).map_err(|_| {
                bad_input(format!("{variable}: the key has a character that no header can carry; check the variable"))
            })?;
            value.set_sensitive(true);
            headers.insert(AUTHORIZATION, value);
        }
        let client = client(&address, headers, Duration::from_secs(self.request_timeout))?;
        Ok(Checked { address, model, client, key: Key { variable: variable.to_owned(), is_set: key.is_some() } })
    }
}

fn client(address: &Url, headers: HeaderMap, timeout: Duration) -> anyhow::Result<reqwest::Client> {
    let builder = reqwest::Client::builder()
        .default_headers(headers)
        .connect_timeout(CONNECT)
        .timeout(timeout)
        // The key goes to the server that was named, and to no other.
        .redirect(reqwest::redirect::Policy::none())
        .user_agent(concat!("evoq/", env!("CARGO_PKG_VERSION")));
    let is_here = matches!(address.host_str(), Some("localhost" | "127.0.0.1" | "[::1]"));
    let builder = if is_here { builder.no_proxy() } else { builder };
    Ok(builder.build()?)
}

/// The address of chat completions below `url`. What is wrong with it is told.
fn address(url: &str) -> Result<Url, String> {
    let mut address = Url::parse(url.trim()).map_err(|error| format!("{error}; expected http://HOST:PORT/v1"))?;
    if !matches!(address.scheme(), "http" | "https") || address.host_str().is_none() {
        return Err("expected http://HOST:PORT/v1 or https://…".to_owned());
    }
    if !address.username().is_empty() || address.password().is_some() {
        return Err("an address is shown in messages: put the key into a variable (--key-env), not here".to_owned());
    }
    let path = address.path().trim_end_matches('/');
    let path = path.strip_suffix("/chat/completions").unwrap_or(path);
    let path = format!("{}/chat/completions", if path.is_empty() { "/v1" } else { path });
    address.set_path(&path);
    Ok(address)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_taken_as_people_write_it() {
        for (url, path) in [
            ("http://127.0.0.1:8000", "/v1/chat/completions"),
            ("http://127.0.0.1:8000/", "/v1/chat/completions"),
            ("http://127.0.0.1:8000/v1/", "/v1/chat/completions"),
            ("https://host/v1/chat/completions", "/v1/chat/completions"),
            ("https://host/v1beta/openai", "/v1beta/openai/chat/completions"),
        ] {
            assert_eq!(address(url).unwrap().path(), path, "{url}");
        }
        for url in ["127.0.0.1:8000", "localhost:8000", "ftp://host", "", "http://", "https://user:key@host/v1"] {
            assert!(address(url).is_err(), "{url}");
        }
    }

    #[test]
    fn a_fingerprint_counts_the_engine_and_the_model_alone() {
        let flags = Flags { model: Some("m".to_owned()), ..crate::tests::flags("http://host") };
        assert_eq!(serde_json::to_value(flags).unwrap(), serde_json::json!({ "engine": "openai", "model": "m" }));
    }

    #[test]
    fn flags_of_a_server_are_not_dropped_without_a_word() {
        let flags = Flags { engine: Engine::Policy, ..crate::tests::flags("http://host") };
        assert!(flags.check_unused().unwrap_err().to_string().starts_with("--url is for a server"));
        assert!(Flags { url: None, model: None, ..flags }.check_unused().is_ok());
    }
}
