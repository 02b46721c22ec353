//! Files of lines.
