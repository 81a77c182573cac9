//! 1  Listener: connections, TLS, limits, proto ↔ domain.
