//! How many pieces there are, and for which orders they are set aside.

use std::sync::Arc;

use axum::extract::State;
use axum::http::StatusCode;
use axum::routing::{get, post};
use axum::{Json, Router};
use shop::client::Client;
use shop::records::Records;
use shop::service::{self, Failure};
use shop::types::{Product, Reservation, Stock};

/// Pieces of every product in a new shop.
const INITIAL: u32 = 1_000_000;

struct Inventory {
    records: Records,
    catalogue: Client,
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> anyhow::Result<()> {
    service::start_logging();
    let inventory = Inventory {
        records: Records::open(&service::data_directory())?,
        catalogue: Client::from_env("CATALOGUE_URL")?,
    };
    let routes = Router::new()
        .route("/stock", get(stock))
        .route("/reservations", post(reserve))
        .with_state(Arc::new(inventory));
    service::serve("inventory", routes).await
}

async fn stock(State(inventory): State<Arc<Inventory>>) -> Result<Json<Vec<Stock>>, Failure> {
    let products: Vec<Product> = inventory.catalogue.get("/products").await?;
    let mut stock = Vec::new();
    for product in products {
        let known: Option<Stock> = inventory.records.get(&stock_key(&product.id))?;
        stock.push(known.unwrap_or(Stock { product: product.id, available: INITIAL }));
    }
    Ok(Json(stock))
}

fn stock_key(product: &str) -> String {
    format!("stock/{product}")
}

/// Sets pieces aside once per order: 201, or 200 when they already are; 409 when there are too few.
async fn reserve(
    State(inventory): State<Arc<Inventory>>,
    Json(wanted): Json<Reservation>,
) -> Result<StatusCode, Failure> {
    let products: Vec<Product> = inventory.catalogue.get("/products").await?;
    if products.iter().all(|product| product.id != wanted.product) {
        return Ok(StatusCode::CONFLICT);
    }
    let status = inventory.records.change(|transaction| {
        let reservation = format!("reservation/{:020}", wanted.order);
        if transaction.get::<Reservation>(&reservation)?.is_some() {
            return Ok(StatusCode::OK);
        }
        let key = stock_key(&wanted.product);
        let fresh = || Stock { product: wanted.product.clone(), available: INITIAL };
        let mut stock = transaction.get(&key)?.unwrap_or_else(fresh);
        if stock.available < wanted.quantity {
            return Ok(StatusCode::CONFLICT);
        }
        stock.available -= wanted.quantity;
        transaction.put(&key, &stock)?;
        transaction.put(&reservation, &wanted)?;
        Ok(StatusCode::CREATED)
    })?;
    Ok(status)
}
