//! The listener and the requests from outside: raw sockets, and another codec for the client's side.

mod answers;
mod client;
mod cluster;
mod every_version;
mod hostile;
mod order;
