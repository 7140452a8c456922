//! Tests of the coordinators' shell.
