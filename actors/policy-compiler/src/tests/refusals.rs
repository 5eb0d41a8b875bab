//! What must be refused, quickly and with numbers.
