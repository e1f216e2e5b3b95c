//! Shuffle sharding: which few queues of many a flow may use.

/// The most cards of a hand; validation allows 10 at most for the queues that it allows.
const MAX_HAND: usize = 16;

/// Deals `hand_size` different cards of a deck, always the same for a hash, each set of them as
/// likely as any other.
pub fn deal(mut hash: u64, deck: usize, hand_size: usize, mut each: impl FnMut(usize)) {
    let hand_size = hand_size.min(deck).min(MAX_HAND);
    // The cards dealt so far, ascending.
    let mut dealt = [0usize; MAX_HAND];
    for count in 0..hand_size {
        let left = (deck - count) as u64;
        let mut card = (hash % left) as usize;
        hash /= left;
        // The `card`th of those that are left.
        let mut place = 0;
        while place < count && dealt[place] <= card {
            card += 1;
            place += 1;
        }
        dealt.copy_within(place..count, place + 1);
        dealt[place] = card;
        each(card);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn hand(hash: u64, deck: usize, hand_size: usize) -> Vec<usize> {
        let mut cards = Vec::new();
        deal(hash, deck, hand_size, |card| cards.push(card));
        cards
    }

    #[test]
    fn small_decks_are_dealt_whole_and_evenly() {
        let mut counts = [0; 5];
        for hash in 0..5 * 4 * 3 {
            for card in hand(hash, 5, 3) {
                counts[card] += 1;
            }
        }
        assert_eq!(counts, [36; 5]);
        assert_eq!(hand(7, 2, 6).len(), 2);
        assert!(hand(7, 0, 6).is_empty());
    }

    proptest! {
        #[test]
        fn cards_differ_and_are_of_the_deck(hash: u64, deck in 1usize..200, hand_size in 1usize..12) {
            let mut cards = hand(hash, deck, hand_size);
            prop_assert_eq!(cards.len(), hand_size.min(deck));
            cards.sort_unstable();
            cards.dedup();
            prop_assert_eq!(cards.len(), hand_size.min(deck));
            prop_assert!(cards.iter().all(|card| *card < deck));
        }
    }
}
