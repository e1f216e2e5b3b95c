//! The API: a small cluster, and a large one of 5,000 nodes and 150,000 pods.

use anyhow::Result;

use crate::Arguments;
use crate::figure::Figure;

mod large;
mod nginx;
mod population;
mod reads;
mod small;
mod typed;
mod watchers;

pub fn measure(arguments: &Arguments, figures: &mut Vec<Figure>) -> Result<()> {
    figures.extend(small::measure(arguments)?);
    large::measure(figures)
}
