//! What a branch's row says of it, read from the repository.
