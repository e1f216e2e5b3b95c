//! The page that customers see.

use std::fmt::Write as _;
use std::sync::Arc;

use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::{Html, IntoResponse as _, Redirect, Response};
use axum::routing::{get, post};
use axum::{Form, Json, Router};
use serde_json::{Value, json};
use shop::client::Client;
use shop::service::{self, Failure};
use shop::types::{Delivery, NewOrder, Order, OrderState, Product, Stock};

struct Storefront {
    catalogue: Client,
    inventory: Client,
    orders: Client,
    delivery: Client,
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> anyhow::Result<()> {
    service::start_logging();
    let storefront = Storefront {
        catalogue: Client::from_env("CATALOGUE_URL")?,
        inventory: Client::from_env("INVENTORY_URL")?,
        orders: Client::from_env("ORDERS_URL")?,
        delivery: Client::from_env("DELIVERY_URL")?,
    };
    let routes = Router::new()
        .route("/", get(shelf))
        .route("/orders", post(place))
        .route("/orders/{id}", get(order_page))
        .route("/api/orders", post(place_by_api))
        .route("/api/orders/{id}", get(order_by_api))
        .with_state(Arc::new(storefront));
    service::serve("storefront", routes).await
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

fn page(title: &str, body: &str) -> Html<String> {
    const STYLE: &str = "body{font:16px/1.5 system-ui,sans-serif;max-width:44rem;margin:2rem auto;padding:0 1rem;\
        color:#1b2733;background:#f7f5f0}h1{font-weight:600}article{background:#fff;border-radius:.6rem;\
        padding:1rem 1.2rem;margin:1rem 0;box-shadow:0 1px 3px #0002}form{display:flex;gap:.5rem;flex-wrap:wrap}\
        input,button{font:inherit;padding:.35rem .6rem;border:1px solid #c9c3b6;border-radius:.4rem}\
        button{background:#0b6e6e;color:#fff;border:0;cursor:pointer}.price{float:right;font-weight:600}\
        .note{color:#66707a}";
    Html(format!(
        "<!doctype html><html lang=\"en\"><head><meta charset=\"utf-8\">\
         <meta name=\"viewport\" content=\"width=device-width\"><title>{title}</title><style>{STYLE}</style></head>\
         <body><h1><a href=\"/\" style=\"color:inherit;text-decoration:none\">The Sampan Shop</a></h1>{body}</body></html>"
    ))
}

async fn shelf(State(shop): State<Arc<Storefront>>) -> Result<Html<String>, Failure> {
    let (products, stock) = tokio::try_join!(
        shop.catalogue.get::<Vec<Product>>("/products"),
        shop.inventory.get::<Vec<Stock>>("/stock")
    )?;
    let mut body = String::new();
    for product in products {
        let available =
            stock.iter().find(|stock| stock.product == product.id).map_or(0, |stock| stock.available);
        write!(
            body,
            "<article><span class=\"price\">{}.{:02}</span><h2>{}</h2><p>{}</p>\
             <form method=\"post\" action=\"/orders\"><input type=\"hidden\" name=\"product\" value=\"{}\">\
             <input name=\"quantity\" type=\"number\" value=\"1\" min=\"1\" max=\"99\" aria-label=\"Quantity\">\
             <input name=\"address\" placeholder=\"Deliver to\" required aria-label=\"Address\">\
             <button>Order</button></form><p class=\"note\">{available} in stock</p></article>",
            product.price / 100,
            product.price % 100,
            escape(&product.name),
            escape(&product.description),
            escape(&product.id),
        )?;
    }
    Ok(page("The Sampan Shop", &body))
}

/// What an order must be before it is taken.
fn check(wanted: &NewOrder) -> Result<(), &'static str> {
    if !(1..=99).contains(&wanted.quantity) {
        return Err("quantity: must be between 1 and 99\n");
    }
    if wanted.address.trim().is_empty() || wanted.address.len() > 500 {
        return Err("address: must have between 1 and 500 bytes\n");
    }
    Ok(())
}

async fn send(shop: &Storefront, wanted: &NewOrder) -> anyhow::Result<Order> {
    let (status, body) = shop.orders.post("/orders", wanted).await?;
    anyhow::ensure!(status == StatusCode::CREATED, "orders answered {status}");
    Ok(serde_json::from_slice(&body)?)
}

async fn place(
    State(shop): State<Arc<Storefront>>,
    Form(wanted): Form<NewOrder>,
) -> Result<Response, Failure> {
    if let Err(fault) = check(&wanted) {
        return Ok((StatusCode::UNPROCESSABLE_ENTITY, fault).into_response());
    }
    let order = send(&shop, &wanted).await?;
    Ok(Redirect::to(&format!("/orders/{}", order.id)).into_response())
}

async fn place_by_api(
    State(shop): State<Arc<Storefront>>,
    Json(wanted): Json<NewOrder>,
) -> Result<Response, Failure> {
    if let Err(fault) = check(&wanted) {
        return Ok((StatusCode::UNPROCESSABLE_ENTITY, fault).into_response());
    }
    Ok((StatusCode::CREATED, Json(send(&shop, &wanted).await?)).into_response())
}

/// An order, and whether delivery has it.
async fn look_up(shop: &Storefront, id: u64) -> anyhow::Result<(Order, bool)> {
    let order: Order = shop.orders.get(&format!("/orders/{id}")).await?;
    let arrived = match order.state {
        OrderState::Sent => shop.delivery.get::<Delivery>(&format!("/deliveries/{id}")).await.is_ok(),
        OrderState::Placed | OrderState::Reserved | OrderState::Rejected => false,
    };
    Ok((order, arrived))
}

async fn order_by_api(
    State(shop): State<Arc<Storefront>>,
    Path(id): Path<u64>,
) -> Result<Json<Value>, Failure> {
    let (order, arrived) = look_up(&shop, id).await?;
    Ok(Json(json!({"order": order, "arrivedAtDelivery": arrived})))
}

async fn order_page(
    State(shop): State<Arc<Storefront>>,
    Path(id): Path<u64>,
) -> Result<Html<String>, Failure> {
    let (order, arrived) = look_up(&shop, id).await?;
    let told = match (order.state, arrived) {
        (OrderState::Rejected, _) => "We are sorry: there was not enough in stock.",
        (_, true) => "It is with delivery.",
        (_, false) => "We are getting it ready. Reload in a moment.",
    };
    let body = format!(
        "<article><h2>Order {}</h2><p>{} × {} to {}</p><p>{told}</p></article>",
        order.id,
        order.wanted.quantity,
        escape(&order.wanted.product),
        escape(&order.wanted.address)
    );
    Ok(page(&format!("Order {id}"), &body))
}
