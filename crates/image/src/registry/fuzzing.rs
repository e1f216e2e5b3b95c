//! A door to headers of registries, for the fuzz targets.

use super::auth::Challenge;

/// The realm of a challenge for a token.
pub(crate) fn challenge(header: &str) -> Option<String> {
    match Challenge::parse(header)? {
        Challenge::Basic => None,
        Challenge::Bearer { realm, .. } => Some(realm),
    }
}
