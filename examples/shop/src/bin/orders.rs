//! Orders, and the saga that brings each one to delivery.
//!
//! An order is written down before anything else happens. Then goods are set aside, then delivery is
//! told; every step can be repeated without harm. What a crash or a silent neighbour interrupted goes
//! on from where the record says it stands.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::routing::get;
use axum::{Json, Router};
use shop::client::Client;
use shop::records::Records;
use shop::service::{self, Failure};
use shop::types::{Delivery, NewOrder, Order, OrderState, Reservation};

/// The first and the longest pause before a step is tried again.
const PAUSES: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(5));
const COUNTER: &str = "counter";

struct Orders {
    records: Records,
    inventory: Client,
    delivery: Client,
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> anyhow::Result<()> {
    service::start_logging();
    let orders = Arc::new(Orders {
        records: Records::open(&service::data_directory())?,
        inventory: Client::from_env("INVENTORY_URL")?,
        delivery: Client::from_env("DELIVERY_URL")?,
    });
    let unfinished: Vec<Order> = orders.records.list("order/")?;
    for order in unfinished.into_iter().filter(|order| !is_final(order.state)) {
        tokio::spawn(bring_to_end(orders.clone(), order));
    }
    let routes = Router::new()
        .route("/orders", get(list).post(place))
        .route("/orders/{id}", get(one))
        .with_state(orders);
    service::serve("orders", routes).await
}

fn key(id: u64) -> String {
    format!("order/{id:020}")
}

fn is_final(state: OrderState) -> bool {
    match state {
        OrderState::Sent | OrderState::Rejected => true,
        OrderState::Placed | OrderState::Reserved => false,
    }
}

async fn place(
    State(orders): State<Arc<Orders>>,
    Json(wanted): Json<NewOrder>,
) -> Result<(StatusCode, Json<Order>), Failure> {
    let order = orders.records.change(|transaction| {
        let id = transaction.get::<u64>(COUNTER)?.unwrap_or(0) + 1;
        transaction.put(COUNTER, &id)?;
        let order = Order { id, wanted, state: OrderState::Placed };
        transaction.put(&key(id), &order)?;
        Ok(order)
    })?;
    tracing::info!(order = order.id, "an order was placed");
    tokio::spawn(bring_to_end(orders, order.clone()));
    Ok((StatusCode::CREATED, Json(order)))
}

async fn list(State(orders): State<Arc<Orders>>) -> Result<Json<Vec<Order>>, Failure> {
    Ok(Json(orders.records.list("order/")?))
}

async fn one(
    State(orders): State<Arc<Orders>>,
    Path(id): Path<u64>,
) -> Result<Result<Json<Order>, StatusCode>, Failure> {
    Ok(orders.records.get(&key(id))?.map(Json).ok_or(StatusCode::NOT_FOUND))
}

/// Repeats steps until the order is sent or rejected.
async fn bring_to_end(orders: Arc<Orders>, mut order: Order) {
    let mut pause = PAUSES.0;
    while !is_final(order.state) {
        match step(&orders, &order).await {
            Ok(state) => {
                order.state = state;
                let written = orders.records.change(|transaction| transaction.put(&key(order.id), &order));
                if let Err(error) = written {
                    tracing::error!(
                        order = order.id,
                        error = format!("{error:#}"),
                        "an order could not be written"
                    );
                }
                pause = PAUSES.0;
            }
            Err(error) => {
                tracing::warn!(
                    order = order.id,
                    error = format!("{error:#}"),
                    "a step failed and will be repeated"
                );
                tokio::time::sleep(pause).await;
                pause = (pause * 2).min(PAUSES.1);
            }
        }
    }
    tracing::info!(order = order.id, state = ?order.state, "an order came to its end");
}

async fn step(orders: &Orders, order: &Order) -> anyhow::Result<OrderState> {
    let NewOrder { product, quantity, address } = order.wanted.clone();
    match order.state {
        OrderState::Placed => {
            let reservation = Reservation { order: order.id, product, quantity };
            match orders.inventory.post("/reservations", &reservation).await?.0 {
                StatusCode::CONFLICT => Ok(OrderState::Rejected),
                status if status.is_success() => Ok(OrderState::Reserved),
                status => anyhow::bail!("the inventory answered {status}"),
            }
        }
        OrderState::Reserved => {
            let delivery = Delivery { order: order.id, product, quantity, address };
            let (status, _) = orders.delivery.post("/deliveries", &delivery).await?;
            anyhow::ensure!(status.is_success(), "delivery answered {status}");
            Ok(OrderState::Sent)
        }
        state @ (OrderState::Sent | OrderState::Rejected) => Ok(state),
    }
}
