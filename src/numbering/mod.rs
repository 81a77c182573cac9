//! 5  Numbering: the actor that owns every number, the finisher, recovery.
