//! Those who write and read.

mod producer;
mod reader;

pub(crate) use producer::Producer;
pub(crate) use reader::Reader;
