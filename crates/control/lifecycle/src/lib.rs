//! The controllers of object life cycles: namespaces, garbage, service accounts, nodes, events.
