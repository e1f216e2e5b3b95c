//! Definitions and their objects, in tables of cases.
