//! STUB
pub mod url;
