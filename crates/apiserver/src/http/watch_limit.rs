//! How many watches one user may have open.

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::Mutex;
use sampan_api::Status;

/// The watches of every user.
#[derive(Clone)]
pub struct WatchLimit {
    limit: usize,
    open: Arc<Mutex<HashMap<String, usize>>>,
}

/// One open watch.
pub struct Place {
    user: String,
    open: Arc<Mutex<HashMap<String, usize>>>,
}

impl WatchLimit {
    pub fn new(limit: usize) -> Self {
        WatchLimit { limit, open: Arc::default() }
    }

    /// Counts a watch of a user for as long as the answer lives.
    pub fn enter(&self, user: &str) -> Result<Place, Status> {
        let mut open = self.open.lock();
        match open.get_mut(user) {
            Some(count) if *count >= self.limit => {
                let message = format!(
                    "user {user:?} has {count} watches open, which is the most that this server allows one user"
                );
                return Err(Status::too_many_requests(message, 1));
            }
            Some(count) => *count += 1,
            None => drop(open.insert(user.to_owned(), 1)),
        }
        Ok(Place { user: user.to_owned(), open: self.open.clone() })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut open = self.open.lock();
        match open.get_mut(&self.user) {
            Some(count) if *count > 1 => *count -= 1,
            _ => drop(open.remove(&self.user)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_user_has_its_own_limit() {
        let limit = WatchLimit::new(2);
        let first = limit.enter("a").expect("free");
        let _second = limit.enter("a").expect("free");
        assert_eq!(limit.enter("a").err().map(|status| status.code), Some(429));
        let _other = limit.enter("b").expect("another user");
        drop(first);
        drop(limit.enter("a").expect("free again"));
        assert_eq!(limit.open.lock().len(), 2);
    }
}
