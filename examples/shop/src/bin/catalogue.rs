//! What the shop sells.

use std::sync::Arc;

use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::routing::get;
use axum::{Json, Router};
use shop::records::Records;
use shop::service::{self, Failure};
use shop::types::Product;

/// The goods of a new shop.
const GOODS: [(&str, &str, &str, u64); 4] = [
    ("tea", "Jasmine tea", "Green leaves, scented over six nights", 890),
    ("rope", "Hemp rope", "Twelve metres, three strands", 1450),
    ("lamp", "Harbour lamp", "Brass, for oil or candle", 3900),
    ("chart", "Sea chart", "Pearl river to the outer islands", 2250),
];

#[tokio::main(flavor = "current_thread")]
async fn main() -> anyhow::Result<()> {
    service::start_logging();
    let records = Arc::new(Records::open(&service::data_directory())?);
    records.change(|transaction| {
        for (id, name, description, price) in GOODS {
            let (id, name, description) = (id.to_owned(), name.to_owned(), description.to_owned());
            transaction.put(&id.clone(), &Product { id, name, description, price })?;
        }
        Ok(())
    })?;
    let routes =
        Router::new().route("/products", get(list)).route("/products/{id}", get(one)).with_state(records);
    service::serve("catalogue", routes).await
}

async fn list(State(records): State<Arc<Records>>) -> Result<Json<Vec<Product>>, Failure> {
    Ok(Json(records.list("")?))
}

async fn one(
    State(records): State<Arc<Records>>,
    Path(id): Path<String>,
) -> Result<Result<Json<Product>, StatusCode>, Failure> {
    Ok(records.get(&id)?.map(Json).ok_or(StatusCode::NOT_FOUND))
}
