//! The store alone, against etcd on the same disk: durable writes, and coming back with two gigabytes.

use anyhow::Result;

use crate::Arguments;
use crate::figure::Figure;

mod durable;
mod recovery;
mod watch;

pub fn measure(_: &Arguments, figures: &mut Vec<Figure>) -> Result<()> {
    figures.extend(durable::measure()?);
    figures.extend(watch::measure()?);
    figures.extend(recovery::measure()?);
    Ok(())
}
