//! What is on its way to customers.

use std::sync::Arc;

use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::routing::get;
use axum::{Json, Router};
use shop::records::Records;
use shop::service::{self, Failure};
use shop::types::Delivery;

#[tokio::main(flavor = "current_thread")]
async fn main() -> anyhow::Result<()> {
    service::start_logging();
    let records = Arc::new(Records::open(&service::data_directory())?);
    let routes = Router::new()
        .route("/deliveries", get(list).post(accept))
        .route("/deliveries/{order}", get(one))
        .with_state(records);
    service::serve("delivery", routes).await
}

fn key(order: u64) -> String {
    format!("{order:020}")
}

async fn accept(
    State(records): State<Arc<Records>>,
    Json(delivery): Json<Delivery>,
) -> Result<StatusCode, Failure> {
    let fresh = records.change(|transaction| {
        let known = transaction.get::<Delivery>(&key(delivery.order))?.is_some();
        if !known {
            transaction.put(&key(delivery.order), &delivery)?;
        }
        Ok(!known)
    })?;
    if fresh {
        tracing::info!(order = delivery.order, product = delivery.product, "a parcel is on its way");
    }
    Ok(if fresh { StatusCode::CREATED } else { StatusCode::OK })
}

async fn list(State(records): State<Arc<Records>>) -> Result<Json<Vec<Delivery>>, Failure> {
    Ok(Json(records.list("")?))
}

async fn one(
    State(records): State<Arc<Records>>,
    Path(order): Path<u64>,
) -> Result<Result<Json<Delivery>, StatusCode>, Failure> {
    Ok(records.get(&key(order))?.map(Json).ok_or(StatusCode::NOT_FOUND))
}
