//! One kind of request each, top to bottom.
