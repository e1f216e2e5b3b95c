//! How many seats a level wanted over a period: what borrowing decides by.

/// Sums over the period that runs.
#[derive(Clone, Copy, Debug, Default)]
pub struct Demand {
    seconds: f64,
    sum: f64,
    squares: f64,
    highest: f64,
}

/// A period that ended.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct DemandStats {
    pub average: f64,
    pub deviation: f64,
    pub highest: f64,
}

impl Demand {
    /// Time passes with a demand that did not change.
    pub fn pass(&mut self, seats: f64, seconds: f64) {
        self.seconds += seconds;
        self.sum += seats * seconds;
        self.squares += seats * seats * seconds;
        self.highest = self.highest.max(seats);
    }

    /// Ends the period; the next one begins with what is wanted now.
    pub fn take(&mut self, seats: f64) -> DemandStats {
        let ended = std::mem::take(self);
        self.highest = seats;
        if ended.seconds <= 0.0 {
            return DemandStats { average: seats, deviation: 0.0, highest: ended.highest.max(seats) };
        }
        let average = ended.sum / ended.seconds;
        let variance = (ended.squares / ended.seconds - average * average).max(0.0);
        DemandStats { average, deviation: variance.sqrt(), highest: ended.highest.max(seats) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_are_weighted_by_time() {
        let mut demand = Demand::default();
        demand.pass(2.0, 3.0);
        demand.pass(6.0, 1.0);
        let stats = demand.take(1.0);
        assert_eq!((stats.average, stats.highest), (3.0, 6.0));
        assert!((stats.deviation - 3f64.sqrt()).abs() < 1e-9);
        assert_eq!(demand.take(0.0), DemandStats { average: 0.0, deviation: 0.0, highest: 1.0 });
    }
}
