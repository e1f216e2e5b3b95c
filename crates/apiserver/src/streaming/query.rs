//! Query parameters of the streaming subresources (`PodExecOptions`, `PodLogOptions`, …).

use sampan_api::Status;
use sampan_api::status::Cause;
use sampan_client::node_streams::{LogOptions, StreamFlags};

/// What `exec` and `attach` are asked for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CommandQuery {
    pub streams: StreamFlags,
    /// Empty for `attach`.
    pub command: Vec<String>,
}

/// A query that asks for nothing that can be done.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum QueryError {
    #[error("you must specify at least 1 command for the container")]
    NoCommand,
    #[error("you must specify at least one of stdin, stdout, stderr")]
    NoStream,
    #[error("unable to parse {0:?} as a port")]
    Port(String),
}

impl From<QueryError> for Status {
    fn from(error: QueryError) -> Self {
        Status::bad_request(error.to_string())
    }
}

fn pairs(query: &str) -> impl Iterator<Item = (String, String)> {
    form_urlencoded::parse(query.as_bytes()).map(|(key, value)| (key.into_owned(), value.into_owned()))
}

/// `container` of any of these queries.
pub fn container_of(query: &str) -> Option<String> {
    pairs(query).find(|(key, value)| key == "container" && !value.is_empty()).map(|(_, value)| value)
}

/// Whether a parameter is set, as Kubernetes reads booleans in queries.
fn is_true(value: &str) -> bool {
    !matches!(value, "false" | "False" | "FALSE" | "0" | "f" | "F")
}

impl CommandQuery {
    fn parse(query: &str) -> Result<Self, QueryError> {
        let mut parsed = CommandQuery::default();
        for (key, value) in pairs(query) {
            match key.as_str() {
                // A word of the command may be empty.
                "command" => parsed.command.push(value),
                "stdin" => parsed.streams.stdin = is_true(&value),
                "stdout" => parsed.streams.stdout = is_true(&value),
                "stderr" => parsed.streams.stderr = is_true(&value),
                "tty" => parsed.streams.tty = is_true(&value),
                _ => {}
            }
        }
        let streams = &mut parsed.streams;
        if streams.tty {
            // A terminal has one output.
            streams.stderr = false;
        }
        if !streams.stdin && !streams.stdout && !streams.stderr {
            return Err(QueryError::NoStream);
        }
        Ok(parsed)
    }

    /// The query of `pods/exec`. A stream that it does not name is not wanted.
    pub fn exec(query: &str) -> Result<Self, QueryError> {
        let parsed = Self::parse(query)?;
        if parsed.command.is_empty() { Err(QueryError::NoCommand) } else { Ok(parsed) }
    }

    /// The query of `pods/attach`.
    pub fn attach(query: &str) -> Result<Self, QueryError> {
        let parsed = Self::parse(query)?;
        Ok(CommandQuery { command: Vec::new(), ..parsed })
    }
}

/// `ports` of `pods/portforward`, for clients whose protocol names them there.
pub fn port_list(query: &str) -> Result<Vec<u16>, QueryError> {
    let mut ports = Vec::new();
    for (_, value) in pairs(query).filter(|(key, _)| key == "ports" || key == "port") {
        for word in value.split(',') {
            match word.parse() {
                Ok(port) if port > 0 && ports.len() < 128 => ports.push(port),
                _ => return Err(QueryError::Port(word.to_owned())),
            }
        }
    }
    Ok(ports)
}

/// The query of `pods/log`. `pod` is for the error's text.
pub fn log_options(query: &str, pod: &str) -> Result<LogOptions, Status> {
    let mut options = LogOptions::default();
    let mut faults = Vec::new();
    for (key, value) in pairs(query) {
        match key.as_str() {
            "follow" => options.follow = is_true(&value),
            "previous" => options.previous = is_true(&value),
            "timestamps" => options.timestamps = is_true(&value),
            "sinceSeconds" => options.since_seconds = number(&key, &value, 1, &mut faults),
            "tailLines" => {
                options.tail_lines = number(&key, &value, 0, &mut faults).map(i64::unsigned_abs);
            }
            "limitBytes" => {
                options.limit_bytes = number(&key, &value, 1, &mut faults).map(i64::unsigned_abs);
            }
            "sinceTime" => match value.parse() {
                Ok(time) => options.since_time = Some(time),
                Err(_) => faults.push(fault(&key, &value, "must be an RFC 3339 time")),
            },
            _ => {}
        }
    }
    if options.since_seconds.is_some() && options.since_time.is_some() {
        faults.push(Cause {
            reason: "FieldValueForbidden".to_owned(),
            message: "Forbidden: at most one of `sinceTime` or `sinceSeconds` may be specified".to_owned(),
            field: "sinceSeconds".to_owned(),
        });
    }
    if faults.is_empty() { Ok(options) } else { Err(Status::invalid("", "PodLogOptions", pod, faults)) }
}

fn number(key: &str, value: &str, least: i64, faults: &mut Vec<Cause>) -> Option<i64> {
    match value.parse::<i64>() {
        Ok(number) if number >= least => Some(number),
        Ok(_) => {
            let message =
                if least == 0 { "must be greater than or equal to 0" } else { "must be greater than 0" };
            faults.push(fault(key, value, message));
            None
        }
        Err(_) => {
            faults.push(fault(key, value, "must be an integer"));
            None
        }
    }
}

fn fault(field: &str, value: &str, message: &str) -> Cause {
    Cause {
        reason: "FieldValueInvalid".to_owned(),
        message: format!("Invalid value: {value}: {message}"),
        field: field.to_owned(),
    }
}
