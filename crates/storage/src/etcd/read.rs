//! Reading: one key, or everything below a prefix in pages of one revision.

use std::sync::Arc;

use super::cluster::{Cluster, unavailable};
use super::messages::{RANGE, Range, RangeAnswer};
use super::{FIRST_KEY, Shared, is_own};
use crate::grpc::wire::WireError;
use crate::grpc::{CallError, Code};
use crate::{Entry, Revision, Scan, Snapshot, StoreError};

/// About as many bytes as one page has, and bounds of its entries.
const PAGE_BYTES: usize = 8 << 20;
const PAGE_FIRST: u64 = 256;
const PAGE_MOST: u64 = 8192;

pub fn unreadable(error: &WireError) -> StoreError {
    StoreError::Unavailable { action: "be understood", reason: error.to_string() }
}

async fn range(cluster: &Cluster, range: &Range<'_>) -> Result<RangeAnswer, StoreError> {
    let answer = cluster.ask(RANGE, &range.encode()).await.map_err(unavailable("be read"))?;
    RangeAnswer::decode(&answer).map_err(|error| unreadable(&error))
}

/// The revision of the last commit of anybody, as etcd counts.
pub async fn current_revision(cluster: &Cluster) -> Result<Revision, StoreError> {
    let nothing = Range { key: FIRST_KEY, count_only: true, ..Range::default() };
    Ok(range(cluster, &nothing).await?.revision)
}

pub async fn get(shared: &Shared, key: &str) -> Result<Option<Entry>, StoreError> {
    if key.is_empty() || is_own(key.as_bytes()) {
        return Ok(None);
    }
    let mut answer = range(&shared.cluster, &Range { key: key.as_bytes(), ..Range::default() }).await?;
    Ok(answer.found.pop().and_then(|found| shared.shift.entry(found)))
}

/// How many keys there are, without ours.
pub async fn count(cluster: &Cluster) -> Result<u64, StoreError> {
    let all = Range { key: FIRST_KEY, end: FIRST_KEY, count_only: true, ..Range::default() };
    let end = prefix_end(super::OWN_PREFIX);
    let own = Range { key: super::OWN_PREFIX.as_bytes(), end: &end, ..all.clone() };
    let compaction = Range { key: super::COMPACTION_KEY.as_bytes(), end: b"", ..all.clone() };
    let mut count = range(cluster, &all).await?.count;
    for part in [own, compaction] {
        count = count.saturating_sub(range(cluster, &part).await?.count);
    }
    Ok(count)
}

/// The first key after all that have a prefix.
fn prefix_end(prefix: &str) -> Vec<u8> {
    let mut end = prefix.as_bytes().to_vec();
    match end.last_mut() {
        // No byte of UTF-8 is 255.
        Some(last) => *last += 1,
        None => end = FIRST_KEY.to_vec(),
    }
    end
}

/// Reads page by page.
struct Pages {
    next: Option<Vec<u8>>,
    end: Vec<u8>,
    limit: u64,
    /// As etcd counts; zero until the first page said what it is of.
    revision: Revision,
}

/// Why there is no page.
enum PageError {
    /// The revision that was begun with is history by now.
    Compacted,
    Store(StoreError),
}

impl Pages {
    fn new(prefix: &str) -> Self {
        let from = if prefix.is_empty() { FIRST_KEY } else { prefix.as_bytes() };
        Pages { next: Some(from.to_vec()), end: prefix_end(prefix), limit: PAGE_FIRST, revision: 0 }
    }

    async fn next(&mut self, shared: &Shared) -> Result<Option<Vec<Entry>>, PageError> {
        let Some(from) = self.next.take() else { return Ok(None) };
        let answer = loop {
            let page = Range {
                key: &from,
                end: &self.end,
                limit: self.limit,
                revision: self.revision,
                count_only: false,
            };
            match shared.cluster.ask(RANGE, &page.encode()).await {
                Ok(answer) => break answer,
                Err(CallError::TooLarge { .. }) if self.limit > 1 => self.limit = (self.limit / 8).max(1),
                Err(CallError::Status { code: Code::OutOfRange, .. }) => return Err(PageError::Compacted),
                Err(error) => return Err(PageError::Store(unavailable("be read")(error))),
            }
        };
        let size = answer.len();
        let answer = RangeAnswer::decode(&answer).map_err(|error| PageError::Store(unreadable(&error)))?;
        self.revision = answer.revision.max(self.revision).min(match self.revision {
            0 => answer.revision,
            revision => revision,
        });
        if let (true, Some(last)) = (answer.more, answer.found.last()) {
            self.next = Some([last.key.as_slice(), b"\0"].concat());
            let mean = (size / answer.found.len()).max(1);
            self.limit = ((PAGE_BYTES / mean) as u64).clamp(1, PAGE_MOST);
        }
        let entries = answer.found.into_iter().filter(|found| !is_own(&found.key));
        Ok(Some(entries.filter_map(|found| shared.shift.entry(found)).collect()))
    }
}

/// Everything below a prefix; from the beginning if that takes longer than history is kept.
pub async fn list(shared: &Shared, prefix: &str) -> Result<Snapshot, StoreError> {
    loop {
        let (mut pages, mut entries) = (Pages::new(prefix), Vec::new());
        let compacted = loop {
            match pages.next(shared).await {
                Ok(Some(page)) => entries.extend(page),
                Ok(None) => break false,
                Err(PageError::Compacted) => break true,
                Err(PageError::Store(error)) => return Err(error),
            }
        };
        if !compacted {
            return Ok(Snapshot { entries, revision: shared.shift.seen(pages.revision) });
        }
    }
}

/// The same, page by page, with an error if it takes longer than history is kept.
pub async fn scan(shared: Arc<Shared>, prefix: &str) -> Result<Scan, StoreError> {
    let mut pages = Pages::new(prefix);
    let error = |error| match error {
        PageError::Store(error) => error,
        PageError::Compacted => StoreError::Unavailable {
            action: "be read further",
            reason: "the revision that was begun with has been compacted".to_owned(),
        },
    };
    let first = pages.next(&shared).await.map_err(error)?;
    let (sender, scan) = Scan::channel(shared.shift.seen(pages.revision));
    // Ends with the pages, with the store, or when the reader is gone.
    tokio::spawn(async move {
        let mut page = Ok(first);
        loop {
            let Some(part) = page.transpose() else { return sender.end().await };
            if !sender.send(part).await {
                return;
            }
            page = shared.open(async { pages.next(&shared).await.map_err(error) }).await;
        }
    });
    Ok(scan)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_prefix_ends_before_what_does_not_have_it() {
        assert_eq!(prefix_end("/a/"), b"/a0");
        assert_eq!(prefix_end(""), FIRST_KEY);
    }
}
