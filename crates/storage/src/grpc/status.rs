//! How a call ended, as its trailers say.

use hyper::header::HeaderMap;

use super::CallError;

/// gRPC's status codes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Code {
    Canceled,
    Unknown,
    InvalidArgument,
    DeadlineExceeded,
    NotFound,
    AlreadyExists,
    PermissionDenied,
    ResourceExhausted,
    FailedPrecondition,
    Aborted,
    OutOfRange,
    Unimplemented,
    Internal,
    Unavailable,
    DataLoss,
    Unauthenticated,
}

impl Code {
    fn parse(text: &[u8]) -> Self {
        match text {
            b"1" => Code::Canceled,
            b"3" => Code::InvalidArgument,
            b"4" => Code::DeadlineExceeded,
            b"5" => Code::NotFound,
            b"6" => Code::AlreadyExists,
            b"7" => Code::PermissionDenied,
            b"8" => Code::ResourceExhausted,
            b"9" => Code::FailedPrecondition,
            b"10" => Code::Aborted,
            b"11" => Code::OutOfRange,
            b"12" => Code::Unimplemented,
            b"13" => Code::Internal,
            b"14" => Code::Unavailable,
            b"15" => Code::DataLoss,
            b"16" => Code::Unauthenticated,
            _ => Code::Unknown,
        }
    }
}

/// The error that trailers tell of.
pub fn check(headers: &HeaderMap) -> Result<(), CallError> {
    let Some(status) = headers.get("grpc-status") else {
        return Err(CallError::Protocol("it has no grpc-status"));
    };
    if status.as_bytes() == b"0" {
        return Ok(());
    }
    let message = headers.get("grpc-message").map(|text| unescape(text.as_bytes())).unwrap_or_default();
    Err(CallError::Status { code: Code::parse(status.as_bytes()), message })
}

/// gRPC writes bytes beyond printable ASCII as `%` and two hexadecimal digits.
fn unescape(text: &[u8]) -> String {
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some((&byte, after)) = rest.split_first() {
        let digits = after.split_first_chunk::<2>().and_then(|(digits, after)| {
            let digits = std::str::from_utf8(digits).ok()?;
            Some((u8::from_str_radix(digits, 16).ok()?, after))
        });
        match digits.filter(|_| byte == b'%') {
            Some((escaped, after)) => {
                out.push(escaped);
                rest = after;
            }
            None => {
                out.push(byte);
                rest = after;
            }
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_are_in_grpcs_words() {
        let headers = |status: &'static str, message: &'static str| {
            HeaderMap::from_iter([
                ("grpc-status".parse().expect("a name"), status.parse().expect("a value")),
                ("grpc-message".parse().expect("a name"), message.parse().expect("a value")),
            ])
        };
        let refused = |status, message, expected: &str| {
            let error = check(&headers(status, message)).expect_err("an error");
            assert_eq!(error.to_string(), expected);
        };
        refused("14", "no%20key %41%", "rpc error: code = Unavailable desc = no key A%");
        refused("99", "", "rpc error: code = Unknown desc = ");
        check(&headers("0", "")).expect("no error");
        assert!(matches!(check(&HeaderMap::new()), Err(CallError::Protocol(_))));
    }
}
