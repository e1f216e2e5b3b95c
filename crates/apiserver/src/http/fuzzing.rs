//! A door for the fuzz targets: everything that is read of a request's head before its work begins.

use http::Request;
use sampan_api::Status;
use sampan_client::PatchKind;

use super::asked::Asked;
use super::{negotiate, options, write_options};
use crate::identity::authentication::Impersonation;
use crate::registry::Selection;
use crate::route::Route;

/// Reads a request's target, query and headers in every way in which a request may be read.
pub fn read_head<B>(request: &Request<B>) -> Result<Asked, Status> {
    let (headers, query) = (request.headers(), request.uri().query());
    let _ = negotiate::accepted_error(headers, query);
    let _ = (negotiate::body_format(headers), negotiate::patch_kind(headers));
    let _ = Impersonation::read(headers).map(|asked| asked.map(|asked| (asked.targets(), asked.user())));
    let asked = Asked::read(request)?;
    let _ = (asked.verb(), asked.is_long_running(), asked.is_mutating(), asked.labels());
    let query = &asked.query;
    let _ = (options::watch(query), options::revision(query));
    let _ = (
        write_options::write_options(query, "PatchOptions"),
        write_options::check_apply(PatchKind::Apply, query),
    );
    if let (Ok((list, _)), Route::Resource(route)) = (options::list(query), &asked.route) {
        let table = sampan_api::table::Table::builtin();
        if let Some(def) = table.get_gvr(&route.gvr) {
            let _ = Selection::parse(def, route.namespace.as_deref(), &list);
            let offer = negotiate::Offer::for_route(def, route);
            let _ = negotiate::accepted(headers, query, offer);
            let _ = negotiate::accepted_stream(headers, query, offer);
        }
    }
    Ok(asked)
}
