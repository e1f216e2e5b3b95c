//! SPDY/3 header blocks: name and value pairs, deflated with a dictionary that both sides know.
//!
//! Each direction of a connection is one zlib stream, flushed at the end of each block: blocks must be
//! read in order and none may be skipped.

use bytes::{Buf, BufMut, Bytes};
use flate2::{Compress, Compression, Decompress, FlushCompress, FlushDecompress};

/// The most that a block may inflate to.
const MAX_BLOCK_BYTES: usize = 64 * 1024;
/// The most pairs in a block.
const MAX_PAIRS: u32 = 128;

/// Pairs of lower-case name and value.
pub(super) type Pairs = Vec<(String, String)>;

/// A block that cannot be read. The connection cannot go on: its zlib stream is lost.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub(super) enum HeaderError {
    #[error("a header block that is not deflated")]
    Inflate,
    #[error("a header block that was deflated with another dictionary")]
    Dictionary,
    #[error("a header block larger than {MAX_BLOCK_BYTES} bytes")]
    TooLarge,
    #[error("more than {MAX_PAIRS} headers")]
    TooMany,
    #[error("a header block that ends early")]
    Truncated,
    #[error("a header that is not UTF-8")]
    NotText,
    #[error("a header block could not be deflated")]
    Deflate,
}

/// Reads the blocks of one direction.
pub(super) struct Reader {
    inflate: Decompress,
}

impl Reader {
    pub fn new() -> Self {
        Reader { inflate: Decompress::new(true) }
    }

    pub fn read(&mut self, block: &[u8]) -> Result<Pairs, HeaderError> {
        parse(&self.inflate(block)?)
    }

    fn inflate(&mut self, mut input: &[u8]) -> Result<Vec<u8>, HeaderError> {
        let mut output = Vec::with_capacity(1024);
        loop {
            let (read, written) = (self.inflate.total_in(), self.inflate.total_out());
            let result = self.inflate.decompress_vec(input, &mut output, FlushDecompress::Sync);
            let consumed = usize::try_from(self.inflate.total_in() - read).unwrap_or(input.len());
            input = &input[consumed.min(input.len())..];
            match result {
                Ok(_) => {}
                Err(error) if error.needs_dictionary().is_some() => {
                    self.inflate.set_dictionary(&DICTIONARY).map_err(|_| HeaderError::Dictionary)?;
                    continue;
                }
                Err(_) => return Err(HeaderError::Inflate),
            }
            if output.len() > MAX_BLOCK_BYTES {
                return Err(HeaderError::TooLarge);
            }
            let progress = consumed > 0 || self.inflate.total_out() > written;
            if output.len() == output.capacity() {
                output.reserve(1024);
            } else if input.is_empty() {
                return Ok(output);
            } else if !progress {
                // Input that is left over when the zlib stream has ended.
                return Err(HeaderError::Inflate);
            }
        }
    }
}

pub(super) fn parse(mut block: &[u8]) -> Result<Pairs, HeaderError> {
    let count = get_length(&mut block)?;
    if count > MAX_PAIRS {
        return Err(HeaderError::TooMany);
    }
    (0..count).map(|_| Ok((get_text(&mut block)?.to_lowercase(), get_text(&mut block)?))).collect()
}

fn get_length(block: &mut &[u8]) -> Result<u32, HeaderError> {
    if block.len() < 4 { Err(HeaderError::Truncated) } else { Ok(block.get_u32()) }
}

fn get_text(block: &mut &[u8]) -> Result<String, HeaderError> {
    let length = get_length(block)? as usize;
    let (text, rest) = block.split_at_checked(length).ok_or(HeaderError::Truncated)?;
    *block = rest;
    String::from_utf8(text.to_vec()).map_err(|_| HeaderError::NotText)
}

/// Writes the blocks of one direction.
pub(super) struct Writer {
    deflate: Compress,
}

impl Writer {
    pub fn new() -> Result<Self, HeaderError> {
        let mut deflate = Compress::new(Compression::fast(), true);
        deflate.set_dictionary(&DICTIONARY).map_err(|_| HeaderError::Deflate)?;
        Ok(Writer { deflate })
    }

    pub fn write(&mut self, pairs: &[(&str, &str)]) -> Result<Bytes, HeaderError> {
        let mut block = Vec::new();
        put_length(&mut block, pairs.len())?;
        for (name, value) in pairs {
            for text in [name, value] {
                put_length(&mut block, text.len())?;
                block.put_slice(text.as_bytes());
            }
        }
        let mut input = block.as_slice();
        let mut output = Vec::with_capacity(block.len() + 64);
        loop {
            let read = self.deflate.total_in();
            self.deflate
                .compress_vec(input, &mut output, FlushCompress::Sync)
                .map_err(|_| HeaderError::Deflate)?;
            let consumed =
                usize::try_from(self.deflate.total_in() - read).map_err(|_| HeaderError::Deflate)?;
            input = &input[consumed..];
            // A flush is complete when it left room.
            if output.len() < output.capacity() && input.is_empty() {
                return Ok(output.into());
            }
            output.reserve(256);
        }
    }
}

fn put_length(block: &mut Vec<u8>, length: usize) -> Result<(), HeaderError> {
    block.put_u32(u32::try_from(length).map_err(|_| HeaderError::TooLarge)?);
    Ok(())
}

/// The words of the dictionary (SPDY/3, section 2.6.10.1), each with its length before it.
const WORDS: &[&str] = &[
    "options",
    "head",
    "post",
    "put",
    "delete",
    "trace",
    "accept",
    "accept-charset",
    "accept-encoding",
    "accept-language",
    "accept-ranges",
    "age",
    "allow",
    "authorization",
    "cache-control",
    "connection",
    "content-base",
    "content-encoding",
    "content-language",
    "content-length",
    "content-location",
    "content-md5",
    "content-range",
    "content-type",
    "date",
    "etag",
    "expect",
    "expires",
    "from",
    "host",
    "if-match",
    "if-modified-since",
    "if-none-match",
    "if-range",
    "if-unmodified-since",
    "last-modified",
    "location",
    "max-forwards",
    "pragma",
    "proxy-authenticate",
    "proxy-authorization",
    "range",
    "referer",
    "retry-after",
    "server",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "user-agent",
    "vary",
    "via",
    "warning",
    "www-authenticate",
    "method",
    "get",
    "status",
    "200 OK",
    "version",
    "HTTP/1.1",
    "url",
    "public",
    "set-cookie",
    "keep-alive",
    "origin",
];

/// What follows the words.
const TAIL: &str = "100101201202205206300302303304305306307402405406407408409410411412413414415416417502504505203 \
    Non-Authoritative Information204 No Content301 Moved Permanently400 Bad Request401 Unauthorized403 \
    Forbidden404 Not Found500 Internal Server Error501 Not Implemented503 Service UnavailableJan Feb Mar Apr May \
    Jun Jul Aug Sept Oct Nov Dec 00:00:00 Mon, Tue, Wed, Thu, Fri, Sat, Sun, \
    GMTchunked,text/html,image/png,image/jpg,image/gif,application/xml,application/xhtml+xml,text/plain,\
    text/javascript,publicprivatemax-age=gzip,deflate,sdchcharset=utf-8charset=iso-8859-1,utf-,*,enq=0.";

const DICTIONARY_BYTES: usize = 1423;

/// The dictionary, put together when this is compiled.
pub(super) static DICTIONARY: [u8; DICTIONARY_BYTES] = dictionary();

const fn dictionary() -> [u8; DICTIONARY_BYTES] {
    let mut bytes = [0; DICTIONARY_BYTES];
    let mut at = 0;
    let mut word = 0;
    while word < WORDS.len() {
        // Every word is shorter than 256 bytes.
        bytes[at + 3] = WORDS[word].len() as u8;
        at = append(&mut bytes, at + 4, WORDS[word].as_bytes());
        word += 1;
    }
    append(&mut bytes, at, TAIL.as_bytes());
    bytes
}

const fn append(to: &mut [u8; DICTIONARY_BYTES], mut at: usize, bytes: &[u8]) -> usize {
    let mut from = 0;
    while from < bytes.len() {
        to[at] = bytes[from];
        at += 1;
        from += 1;
    }
    at
}
