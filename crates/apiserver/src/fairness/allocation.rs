//! Who may use how many seats while levels lend to each other (KEP-1040, "dispatching" and "borrowing").

/// One level in the division.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Claim {
    /// What it keeps in any case.
    pub lower: f64,
    pub upper: f64,
    /// What it would use; at least `lower`.
    pub target: f64,
}

/// Targets below this count as this, since shares are relative to them.
const LEAST_TARGET: f64 = 0.001;

/// Divides `total` so that every level gets the same multiple of its target, except where a bound
/// holds it. Answers the shares and that multiple; None where the bounds leave no way.
pub fn divide(total: f64, claims: &[Claim]) -> Option<(Vec<f64>, f64)> {
    let claims: Vec<Claim> = claims
        .iter()
        .map(|claim| Claim { target: claim.target.max(claim.lower).max(LEAST_TARGET), ..*claim })
        .collect();
    let shares = |multiple: f64| -> Vec<f64> {
        claims.iter().map(|claim| (multiple * claim.target).clamp(claim.lower, claim.upper)).collect()
    };
    let sum = |multiple: f64| -> f64 { shares(multiple).iter().sum() };
    let is_sound = |claim: &Claim| claim.lower >= 0.0 && claim.lower <= claim.upper;
    if !claims.iter().all(is_sound) {
        return None;
    }
    // The sum grows with the multiple, in straight lines between the points at which a bound begins
    // or ceases to hold.
    let mut points: Vec<f64> =
        claims.iter().flat_map(|claim| [claim.lower / claim.target, claim.upper / claim.target]).collect();
    points.push(0.0);
    points.sort_by(f64::total_cmp);
    let slack = 1e-6 * total.max(1.0);
    if sum(points[0]) > total + slack || sum(*points.last()?) < total - slack {
        return None;
    }
    let after = points.iter().position(|point| sum(*point) >= total - slack)?;
    let high = points[after];
    let low = if after == 0 { high } else { points[after - 1] };
    let (below, above) = (sum(low), sum(high));
    let multiple =
        if above - below <= slack { high } else { low + (high - low) * (total - below) / (above - below) };
    Some((shares(multiple), multiple))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn claim(lower: f64, target: f64, upper: f64) -> Claim {
        Claim { lower, upper, target }
    }

    #[test]
    fn shares_follow_targets_within_bounds() {
        let check = |total: f64, claims: &[Claim], expected: Option<&[f64]>| {
            let actual = divide(total, claims).map(|(shares, _)| {
                shares.iter().map(|share| (share * 1000.0).round() / 1000.0).collect::<Vec<f64>>()
            });
            assert_eq!(actual.as_deref(), expected, "{total} {claims:?}");
        };
        check(30.0, &[claim(0.0, 10.0, 99.0), claim(0.0, 20.0, 99.0)], Some(&[10.0, 20.0]));
        check(60.0, &[claim(0.0, 10.0, 99.0), claim(0.0, 20.0, 99.0)], Some(&[20.0, 40.0]));
        check(60.0, &[claim(0.0, 10.0, 99.0), claim(0.0, 20.0, 25.0)], Some(&[35.0, 25.0]));
        check(10.0, &[claim(8.0, 10.0, 99.0), claim(0.0, 20.0, 99.0)], Some(&[8.0, 2.0]));
        check(10.0, &[claim(0.0, 0.0, 99.0), claim(0.0, 0.0, 99.0)], Some(&[5.0, 5.0]));
        check(10.0, &[claim(4.0, 4.0, 4.0), claim(6.0, 6.0, 6.0)], Some(&[4.0, 6.0]));
        check(10.0, &[claim(8.0, 8.0, 9.0), claim(8.0, 8.0, 9.0)], None);
        check(10.0, &[claim(1.0, 1.0, 2.0)], None);
    }

    proptest! {
        #[test]
        fn the_sum_is_right_and_every_share_has_its_reason(
            parts in prop::collection::vec((0f64..50.0, 0f64..50.0, 0f64..100.0), 1..12), fill in 0f64..1.0,
        ) {
            let claims: Vec<Claim> = parts
                .iter()
                .map(|(lower, more, room)| claim(*lower, lower + more, lower + room))
                .collect();
            let low: f64 = claims.iter().map(|claim| claim.lower).sum();
            let high: f64 = claims.iter().map(|claim| claim.upper).sum();
            let total = low + (high - low) * fill;
            let (shares, multiple) = divide(total, &claims).expect("within the bounds");
            let sum: f64 = shares.iter().sum();
            prop_assert!((sum - total).abs() < 1e-3 * total.max(1.0), "{sum} of {total}");
            for (share, claim) in shares.iter().zip(&claims) {
                let fair = multiple * claim.target.max(LEAST_TARGET);
                prop_assert!((share - fair.clamp(claim.lower, claim.upper)).abs() < 1e-6);
            }
        }
    }
}
