//! Bearer tokens, read again while they are renewed in their file.

use std::io;
use std::path::Path;
use std::time::Duration;

use http::HeaderValue;
use parking_lot::Mutex;
use tokio::time::Instant;

use crate::kubeconfig::Token;

/// How long a token of a file is used before the file is read again.
const FRESH: Duration = Duration::from_secs(60);
/// The longest token.
const TOKEN_BYTES: u64 = 64 * 1024;

/// Where the token of each request comes from.
pub struct TokenSource {
    token: Token,
    read: Mutex<Option<(HeaderValue, Instant)>>,
}

impl TokenSource {
    pub fn new(token: Token) -> Self {
        TokenSource { token, read: Mutex::new(None) }
    }

    /// The value of the `Authorization` header.
    pub fn header(&self) -> io::Result<HeaderValue> {
        let mut read = self.read.lock();
        if let Some((header, at)) = &*read
            && (matches!(self.token, Token::Fixed(_)) || at.elapsed() < FRESH)
        {
            return Ok(header.clone());
        }
        let fresh = match &self.token {
            Token::Fixed(token) => header(token),
            Token::File(path) => read_token(path).and_then(|token| header(&token)),
        };
        match (fresh, &*read) {
            (Ok(header), _) => {
                *read = Some((header.clone(), Instant::now()));
                Ok(header)
            }
            // The file is being replaced; the last token is most likely still good.
            (Err(_), Some((header, _))) => Ok(header.clone()),
            (Err(error), None) => Err(error),
        }
    }
}

fn read_token(path: &Path) -> io::Result<String> {
    use std::io::Read as _;
    let mut text = String::new();
    std::fs::File::open(path)?.take(TOKEN_BYTES).read_to_string(&mut text)?;
    Ok(text)
}

fn header(token: &str) -> io::Result<HeaderValue> {
    let mut header = HeaderValue::try_from(format!("Bearer {}", token.trim()))
        .map_err(|_| io::Error::new(io::ErrorKind::InvalidData, "it has characters that no token has"))?;
    header.set_sensitive(true);
    Ok(header)
}
