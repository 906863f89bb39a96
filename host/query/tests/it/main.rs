//! The routes, asked without a socket of a backend that makes its answers up.

mod fake;
mod formats;
mod routes;
