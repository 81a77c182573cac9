//! Metric names, descriptions and held handles.
