//! The store alone, against etcd on the same disk: durable writes, and coming back with two gigabytes.

use anyhow::Result;

use crate::Arguments;
use crate::figure::Figure;

mod durable;
mod recovery;
mod watch;

pub fn measure(_: &Arguments) -> Result<Vec<Figure>> {
    let mut figures = durable::measure()?;
    figures.extend(watch::measure()?);
    figures.extend(recovery::measure()?);
    Ok(figures)
}
