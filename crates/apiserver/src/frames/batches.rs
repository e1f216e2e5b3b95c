//! Runs of events as they go to clients, joined once for all watchers that stand at the same place.
//!
//! Where watchers are very many, those of one connection look for changes at the same times. They want the
//! same events in the same form: the first of them reads, chooses and joins, and the others take what it made.

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::Bytes;
use parking_lot::Mutex;
use sampan_api::table::ResourceDef;

use crate::http::FormKey;
use crate::registry::Selection;

/// How many runs a cache remembers: watchers of so many connections may be at it at once.
const KEPT: usize = 16;

/// What a watcher gets after a revision.
#[derive(Clone)]
pub struct Batch {
    /// It holds all that is selected up to this revision.
    pub until: u64,
    pub bytes: Bytes,
    /// Of the events in it.
    pub lengths: Arc<[usize]>,
}

/// What makes two watchers get the same.
#[derive(Clone, Copy)]
pub struct Stand<'a> {
    pub after: u64,
    pub form: FormKey,
    pub def: &'a Arc<ResourceDef>,
    pub selection: &'a Selection,
}

/// The last runs of a cache.
#[derive(Default)]
pub struct Batches {
    kept: Mutex<VecDeque<Entry>>,
}

struct Entry {
    after: u64,
    form: FormKey,
    def: Arc<ResourceDef>,
    selection: Selection,
    batch: Batch,
}

impl Entry {
    fn fits(&self, stand: &Stand<'_>) -> bool {
        self.after == stand.after
            && self.form == stand.form
            && Arc::ptr_eq(&self.def, stand.def)
            && self.selection == *stand.selection
    }
}

impl Batches {
    pub fn find(&self, stand: Stand<'_>) -> Option<Batch> {
        let kept = self.kept.lock();
        kept.iter().rev().find(|entry| entry.fits(&stand)).map(|entry| entry.batch.clone())
    }

    /// Keeps a run for others. Who comes second is given the first one's, so that those who stand together stay
    /// together.
    pub fn keep(&self, stand: Stand<'_>, batch: Batch) -> Batch {
        let mut kept = self.kept.lock();
        if let Some(first) = kept.iter().rev().find(|entry| entry.fits(&stand)) {
            return first.batch.clone();
        }
        if kept.len() >= KEPT {
            kept.pop_front();
        }
        kept.push_back(Entry {
            after: stand.after,
            form: stand.form,
            def: stand.def.clone(),
            selection: stand.selection.clone(),
            batch: batch.clone(),
        });
        batch
    }

    pub fn forget(&self) {
        self.kept.lock().clear();
    }

    #[cfg(test)]
    pub fn len(&self) -> usize {
        self.kept.lock().len()
    }
}

#[cfg(test)]
mod tests {
    use sampan_api::table::Table;
    use sampan_client::ListOptions;

    use super::*;

    fn selection(def: &Arc<ResourceDef>, labels: &str) -> Selection {
        let options = ListOptions { label_selector: Some(labels.to_owned()), ..ListOptions::default() };
        Selection::parse(def, None, &options).expect("a selector")
    }

    fn batch(until: u64) -> Batch {
        Batch { until, bytes: Bytes::from_static(b"x"), lengths: Arc::from([1]) }
    }

    #[test]
    fn only_who_wants_the_same_after_the_same_gets_it() {
        let (batches, table) = (Batches::default(), Table::builtin());
        let (maps, pods) = ("configmaps", "pods");
        let def = |name| table.by_name(name).expect("a resource").clone();
        let (maps, pods) = (def(maps), def(pods));
        let (all, some) = (selection(&maps, ""), selection(&maps, "a=b"));
        let stand = Stand { after: 5, form: FormKey::json(), def: &maps, selection: &all };
        assert!(batches.find(stand).is_none());
        assert_eq!(batches.keep(stand, batch(9)).until, 9);
        assert_eq!(batches.find(stand).map(|found| found.until), Some(9));
        for other in [
            Stand { after: 6, ..stand },
            Stand { form: FormKey::protobuf(), ..stand },
            Stand { def: &pods, ..stand },
            Stand { selection: &some, ..stand },
        ] {
            assert!(batches.find(other).is_none());
        }
        // Another that read a little later goes on with the first one's.
        assert_eq!(batches.keep(stand, batch(10)).until, 9);
    }

    #[test]
    fn old_runs_are_forgotten() {
        let (batches, table) = (Batches::default(), Table::builtin());
        let def = table.by_name("configmaps").expect("a resource").clone();
        let selection = selection(&def, "");
        let stand = |after| Stand { after, form: FormKey::json(), def: &def, selection: &selection };
        for after in 0..100 {
            batches.keep(stand(after), batch(after + 1));
        }
        let found = (0..100).filter(|after| batches.find(stand(*after)).is_some()).collect::<Vec<_>>();
        assert_eq!(found, (100 - KEPT as u64..100).collect::<Vec<_>>());
    }
}
