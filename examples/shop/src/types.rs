//! What the services say to each other, as JSON.

use serde::{Deserialize, Serialize};

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Product {
    pub id: String,
    pub name: String,
    pub description: String,
    /// In cents.
    pub price: u64,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stock {
    pub product: String,
    pub available: u32,
}

/// Asks the inventory to set pieces aside. Repeating it with the same order changes nothing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reservation {
    pub order: u64,
    pub product: String,
    pub quantity: u32,
}

/// What a customer wants.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NewOrder {
    pub product: String,
    pub quantity: u32,
    pub address: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OrderState {
    /// Written down; the goods are not set aside yet.
    Placed,
    /// The goods are set aside; delivery does not know yet.
    Reserved,
    /// Delivery has it.
    Sent,
    /// There were not enough goods.
    Rejected,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Order {
    pub id: u64,
    #[serde(flatten)]
    pub wanted: NewOrder,
    pub state: OrderState,
}

/// A parcel. Repeating it with the same order changes nothing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Delivery {
    pub order: u64,
    pub product: String,
    pub quantity: u32,
    pub address: String,
}
