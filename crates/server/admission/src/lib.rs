//! Admission plug-ins.
