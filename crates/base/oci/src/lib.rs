//! Types of the OCI image and distribution specifications.
