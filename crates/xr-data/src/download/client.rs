use std::{
    thread::sleep,
    time::{Duration, SystemTime},
};

use ureq::{
    Agent, Body,
    http::{Response, StatusCode, header::RETRY_AFTER},
};

use super::Download;
use crate::image::decode;

/// A server that asks for a longer rest is left alone until the next call.
const LONGEST_WAIT: Duration = Duration::from_secs(120);

/// Gets pictures by their addresses.
pub(super) struct Client {
    agent: Agent,
    attempts: u32,
    wait: Duration,
    max_bytes: u64,
}

/// The bytes of a picture that can be decoded.
pub(super) struct Fetched {
    pub bytes: Vec<u8>,
    /// What its file name ends in.
    pub ending: &'static str,
}

/// Why there is none.
pub(super) struct Failure {
    pub why: String,
    /// Is there no use in asking again?
    pub for_good: bool,
    /// How long the server wants to be left alone.
    rest: Option<Duration>,
}

impl Client {
    pub fn new(download: &Download) -> Self {
        let config = Agent::config_builder()
            .http_status_as_error(false)
            .timeout_global(Some(download.timeout))
            .max_idle_connections(download.parallel)
            .max_idle_connections_per_host(download.parallel)
            .user_agent(concat!("xr/", env!("CARGO_PKG_VERSION")))
            .build();
        let &Download { attempts, wait, max_bytes, .. } = download;
        Self { agent: config.new_agent(), attempts, wait, max_bytes }
    }

    /// The picture at `address`, asked for again while it fails for the moment.
    pub fn get(&self, address: &str) -> Result<Fetched, Failure> {
        let mut wait = self.wait;
        for _ in 1..self.attempts {
            match self.attempt(address) {
                Err(failure) if failure.may_pass() => {
                    sleep(wait.max(failure.rest.unwrap_or_default()))
                }
                result => return result,
            }
            wait *= 2;
        }
        self.attempt(address)
    }

    fn attempt(&self, address: &str) -> Result<Fetched, Failure> {
        let mut response = self.agent.get(address).call().map_err(Failure::of)?;
        if !response.status().is_success() {
            return Err(Failure::said(&response));
        }
        let kind = response.body().mime_type().unwrap_or("of no kind").to_string();
        let body = response.body_mut().with_config().limit(self.max_bytes);
        let bytes = body.read_to_vec().map_err(Failure::of)?;
        picture(bytes).map_err(|why| Failure::for_good(format!("no picture ({kind}): {why}")))
    }
}

fn picture(bytes: Vec<u8>) -> Result<Fetched, String> {
    let pixels = decode(&bytes)?;
    if pixels.dimensions() == (1, 1) {
        return Err("a single pixel, which servers send for a picture that is gone".into());
    }
    let format = image::guess_format(&bytes).map_err(|e| e.to_string())?;
    let ending = format.extensions_str().first().ok_or("a format without an ending")?;
    Ok(Fetched { bytes, ending })
}

impl Failure {
    pub fn for_good(why: String) -> Self {
        Self { why, for_good: true, rest: None }
    }

    fn may_pass(&self) -> bool {
        !self.for_good && self.rest.is_none_or(|rest| rest <= LONGEST_WAIT)
    }

    /// What a status other than success says.
    fn said(response: &Response<Body>) -> Self {
        let status = response.status();
        let for_good = match status {
            StatusCode::REQUEST_TIMEOUT | StatusCode::TOO_EARLY | StatusCode::TOO_MANY_REQUESTS => {
                false
            }
            _ => !status.is_server_error(),
        };
        Self { why: status.to_string(), for_good, rest: rest(response) }
    }

    fn of(error: ureq::Error) -> Self {
        use ureq::Error::{
            BodyExceedsLimit, BodyStalled, ConnectionFailed, HostNotFound, Io, Protocol, Timeout,
        };
        match error {
            BodyExceedsLimit(most) => Self::for_good(format!("more than {most} bytes")),
            Timeout(_) | Io(_) | HostNotFound | ConnectionFailed | Protocol(_) | BodyStalled => {
                Self { why: error.to_string(), for_good: false, rest: None }
            }
            _ => Self::for_good(error.to_string()),
        }
    }
}

/// `Retry-After`: seconds, or a date.
fn rest(response: &Response<Body>) -> Option<Duration> {
    let value = response.headers().get(RETRY_AFTER)?.to_str().ok()?;
    let until = |date: SystemTime| date.duration_since(SystemTime::now()).unwrap_or_default();
    match value.parse() {
        Ok(seconds) => Some(Duration::from_secs(seconds)),
        Err(_) => httpdate::parse_http_date(value).ok().map(until),
    }
}
