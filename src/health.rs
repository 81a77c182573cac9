//! The ops port: /metrics, /livez, /readyz.
