//! What a configuration gives, and what its mistakes are answered with.
