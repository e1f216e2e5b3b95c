//! Quantities.

use sampan_api::quantity::Quantity;
use serde_json::Value;

use crate::input;

pub fn run(data: &[u8]) {
    let Some(text) = input::text(data) else { return };
    let Ok(quantity) = text.parse::<Quantity>() else { return };
    assert_eq!(Quantity::from_json(&Value::from(text)), Ok(quantity));
    let shown = quantity.to_string();
    let again: Quantity = shown.parse().expect("what is printed is a quantity");
    assert_eq!(again, quantity, "{text} is printed as {shown}");
    assert_eq!(again.to_string(), shown, "the printed form of {text} is canonical");
    assert_eq!(quantity.is_negative(), quantity < Quantity::ZERO);
    let (whole, milli) = (quantity.value(), quantity.milli_value());
    assert!(whole.unsigned_abs() <= milli.unsigned_abs(), "{text} is {whole} and {milli}m");
    assert_eq!(quantity + Quantity::ZERO, quantity);
    assert_eq!(quantity - again, Quantity::ZERO);
}
