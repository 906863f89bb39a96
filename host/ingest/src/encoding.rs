//! placeholder
use std::fmt;
#[derive(Clone, Copy, Debug)]
pub struct EncodingLimits {
    pub line_bytes: usize,
    pub depth: u32,
}
#[derive(Debug)]
pub enum EncodingError {
    TooLong,
}
impl fmt::Display for EncodingError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("x")
    }
}
pub fn msgpack_to_line(_: &[u8], _: EncodingLimits, _: &mut Vec<u8>) -> Result<usize, EncodingError> {
    Err(EncodingError::TooLong)
}
